"""At a request's door: which routes have a session, and whether another site may be behind it.

Every integration asks here, so every framework refuses alike (P19, H1, F6).
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.core.csrf import Decision, TokenCheck, decide, find_header_token
from strongroom.core.csrf_rules import matches, may_match
from strongroom.core.errors import ConfigurationError, CsrfRefused
from strongroom.core.events import CrossSiteRefused
from strongroom.core.exchange import RequestFacts
from strongroom.core.policy import SessionPolicy
from strongroom.core.visit import Context, Visit

MAX_PATH = 256
"""As much of a client's path as an event keeps."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def visit_without_session(ctx: Context, facts: RequestFacts) -> Visit | None:
    """A visit on a route that has no session at all, or None where the session must be found.

    Raises:
        ConfigurationError: the development policy is used on a host that others can reach by name.
    """
    _check_host(ctx.policy, facts)
    if not matches(facts.path, ctx.policy.routes.excluded):
        return None
    visit = Visit(ctx, facts)
    visit.excluded = visit.cookie_locked = True
    return visit


def presents_nothing(ctx: Context, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether no Cookie header names a session's or a persistent login's cookie of ours.

    Then a request that may change nothing is in no session, and nothing has to be found out.
    """
    session, login = ctx.cookie.wire_name, ctx.login_cookie.wire_name
    for key, value in headers:
        if key == b"cookie" and (session in value or login in value):
            return False
    return True


def visit_without_store(ctx: Context, facts: RequestFacts) -> Visit | None:
    """While the store is down: an anonymous, read-only visit on public routes, else None (H1)."""
    if not matches(facts.path, ctx.policy.routes.public):
        return None
    visit = Visit(ctx, facts)
    visit.unavailable = visit.cookie_locked = True
    return visit


def cross_site(visit: Visit) -> Decision:
    """The decision as far as the headers tell; `needs_token` asks for the form's token."""
    facts, rules = visit.facts, visit.ctx.policy.csrf
    decision = decide(facts, rules, token_for_form=_wants_its_own(visit))
    if decision.verdict != "needs_token":
        return decision
    presented = find_header_token(facts, rules)
    return decision if presented is None else cross_site_with(visit, presented)


def cross_site_with(visit: Visit, presented: str | None) -> Decision:
    """The decision once the token is known, or known to be absent."""
    facts, own = visit.facts, _wants_its_own(visit)
    check = visit.judge_csrf_token(presented, form=facts.path)
    if check == "invalid" and facts.root:
        check = visit.judge_csrf_token(presented, form=facts.path.removeprefix(facts.root))
    if check == "invalid" and not own:
        check = visit.judge_csrf_token(presented)
    return decide(facts, visit.ctx.policy.csrf, check, token_for_form=own)


def cross_site_judged(visit: Visit, check: TokenCheck) -> Decision:
    """The decision where a framework's own token was presented, and judged already.

    Where only the token of one form will do, a framework's general one does not.
    """
    facts, own = visit.facts, _wants_its_own(visit)
    check = "invalid" if own and check == "valid" else check
    return decide(facts, visit.ctx.policy.csrf, check, token_for_form=own)


def _wants_its_own(visit: Visit) -> bool:
    """Whether only the token of this very form will do."""
    facts = visit.facts
    return may_match(facts.path, facts.root, visit.ctx.policy.csrf.own_token_paths)


def refuse_cross_site(visit: Visit, decision: Decision) -> None:
    """Go on only where the decision allows it.

    Raises:
        CsrfRefused: another site may be behind the request; the event says which rule decided.
    """
    if decision.verdict == "allow":
        return
    visit.note(CrossSiteRefused, rule=decision.rule, path=visit.facts.path[:MAX_PATH])
    raise CsrfRefused(
        "This request was refused, because it could have come from another site.",
        why=decision.reason,
        hint=f"{decision.hint} The rule that decided is {decision.rule!r}.".lstrip(),
    )


def _check_host(policy: SessionPolicy, facts: RequestFacts) -> None:
    """The development policy serves this machine only (F6)."""
    if not policy.development:
        return
    named = facts.host or ""
    host = named.partition("]")[0] + "]" if named.startswith("[") else named.partition(":")[0]
    if host in _LOOPBACK or host.endswith(".localhost"):
        return
    raise ConfigurationError(
        f"The development policy was asked for {host or 'a host without a name'!r}.",
        why="It keeps cookies without Secure and the __Host- prefix, which is safe on "
        "http://localhost only.",
        hint="Open the site as http://localhost, or use SessionPolicy() behind https.",
    )
