"""One proof for one transaction: single use, bound to what is approved (P6, ASVS 7.5.3, 6.5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from strongroom.core import flows
from strongroom.core.errors import (
    ApprovalRefused,
    ConfigurationError,
    RefusedError,
    SessionEnded,
    SessionTooLarge,
    SignInRequired,
    StepUpRequired,
    StoreUnavailable,
    UnserialisableValue,
    UsageError,
)
from strongroom.core.events import (
    ApprovalAsked,
    ApprovalGiven,
    ApprovalRefusedEvent,
    ApprovalUsed,
    StepUpAsked,
)
from strongroom.core.flows import Approval
from strongroom.core.flows.approving import Details
from strongroom.core.ops import Flow, ListSubject
from strongroom.core.policy import DataSeal, SessionPolicy
from strongroom.core.record import EndReason, Kind
from strongroom.core.stepup import Challenge, Requirement
from strongroom.core.tokens import mint
from strongroom.core.visit import Visit
from strongroom.stores.memory import MemoryStore
from strongroom.testing import Fates, interleavings
from tests.flows.scenes import pending, signed_in
from tests.support.flows import (
    ENDERS,
    MINUTE,
    Action,
    Jar,
    Log,
    Prepared,
    Reply,
    World,
    elevating,
    scenario,
    signing_in,
)

RENT: Details = {"to": "DE02 1203 0000 0000 2020 51", "cents": 120_000, "text": "Rent"}


@dataclass
class Desk:
    """A world in which Alice is signed in, and the bank's four pages."""

    world: World = field(default_factory=World)
    transfers: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    heard: list[str] = field(default_factory=list[str])
    events: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        if "alice" not in self.world.jars:
            signed_in(self.world)

    @property
    def jar(self) -> str:
        return self.world.jars["alice"]

    def take(self, reply: Reply) -> Reply:
        """Keep the cookie, as a browser does."""
        if reply.cookie:
            self.world.jars["alice"] = reply.cookie
        return reply

    def ask(self, details: Mapping[str, Any] = RENT, **asked: Any) -> Approval:
        """Fix a transfer, and tell the approval."""
        requirement = Requirement(**asked) if asked else None
        shown: list[Approval] = []

        def action(visit: Visit) -> Flow[None]:
            shown.append((yield from flows.ask_approval(visit, "transfer", details, requirement)))

        self._done(self.take(self.world.get(self.jar, action, method="POST")))
        return shown[0]

    def show(self, approval_id: str, jar: Jar = None) -> Approval:
        """What the page shows."""
        shown: list[Approval] = []

        def action(visit: Visit) -> Flow[None]:
            shown.append((yield from flows.find_approval(visit, approval_id)))

        self._done(self.world.get(jar or self.jar, action))
        return shown[0]

    def approve(self, approval_id: str, *factors: str, jar: Jar = None) -> Approval:
        """Prove factors for it."""
        shown: list[Approval] = []

        def action(visit: Visit) -> Flow[None]:
            shown.append((yield from flows.approve(visit, approval_id, factors or ("otp",))))

        self._done(self.take(self.world.get(jar or self.jar, action, method="POST")))
        return shown[0]

    def using(
        self, approval_id: str, details: Mapping[str, Any] | None = None, action: str = "transfer"
    ) -> Action:
        """Carry out what was approved."""

        def act(visit: Visit) -> Flow[None]:
            approved = yield from flows.use_approval(visit, approval_id, action, details)
            self.transfers.append(approved)

        return act

    def use(self, approval_id: str, *given: Any, jar: Jar = None, **how: Any) -> None:
        """The same, in a request of its own."""
        action = self.using(approval_id, *given, **how)
        self._done(self.world.get(jar or self.jar, action, method="POST"))

    def _done(self, reply: Reply) -> None:
        told = reply.visit.take_events() if reply.visit is not None else []
        self.events += told
        self.heard += [each.reason for each in told if isinstance(each, ApprovalRefusedEvent)]
        if reply.error is not None:
            raise reply.error


def test_an_approved_transfer_is_carried_out_once() -> None:
    """What was asked for, shown, proved for and carried out is one and the same (ASVS 7.5.3)."""
    desk = Desk()
    asked = desk.ask()
    assert not asked.is_approved
    assert asked.details == desk.show(asked.approval_id).details == RENT
    assert (asked.action, asked.factors) == ("transfer", ())
    assert asked.expires_at - asked.asked_at == timedelta(minutes=5)
    given = desk.approve(asked.approval_id)
    assert given.is_approved
    assert given.factors == ("otp",)
    desk.use(asked.approval_id)
    assert desk.transfers == [RENT]
    told = [type(each) for each in desk.events if "approval" in each.name]
    assert told == [ApprovalAsked, ApprovalGiven, ApprovalUsed]
    assert not any("DE02" in str(each) for each in desk.events)
    assert "DE02" not in repr(given)


def test_a_replay_is_refused() -> None:
    """Also long after, when nothing is left of it (ASVS 6.5.1)."""
    desk = Desk()
    asked = desk.ask()
    desk.approve(asked.approval_id)
    desk.use(asked.approval_id)
    for wait, reason in ((0, "used"), (10 * MINUTE, "used")):
        desk.world.clock.advance(wait)
        with pytest.raises(ApprovalRefused):
            desk.use(asked.approval_id)
        with pytest.raises(ApprovalRefused):
            desk.approve(asked.approval_id)
        assert desk.heard[-2:] == [reason, reason]
    desk.world.run(flows.sweep(desk.world.ctx))
    with pytest.raises(ApprovalRefused):
        desk.use(asked.approval_id)
    assert desk.heard[-1] == "unknown"
    assert desk.transfers == [RENT]


def test_an_unapproved_transfer_is_not_carried_out() -> None:
    """It is asked for, and the challenge names what it is asked for; nothing is lost by it."""
    desk = Desk()
    asked = desk.ask()
    with pytest.raises(StepUpRequired) as raised:
        desk.use(asked.approval_id)
    challenge = raised.value.challenge
    assert isinstance(challenge, Challenge)
    assert challenge.reason == "not_approved"
    assert challenge.problem()["approval"] == asked.approval_id
    assert challenge.would_do(["otp"])
    assert any(isinstance(each, StepUpAsked) for each in desk.events)
    desk.approve(asked.approval_id)
    desk.use(asked.approval_id)
    assert desk.transfers == [RENT]


@pytest.mark.parametrize(
    "changed",
    [
        {**RENT, "cents": 120_001},
        {**RENT, "to": "DE02 1203 0000 0000 2020 52"},
        {**RENT, "to": "DE02120300000000202051"},
        {**RENT, "cents": "120000"},
        {**RENT, "text": None},
        {**RENT, "more": 1},
        {"to": RENT["to"], "cents": 120_000},
        {**RENT, "cents": True},
    ],
)
def test_any_change_of_the_transfer_makes_the_approval_worthless(changed: dict[str, Any]) -> None:
    """Amount, payee, anything: nothing is done, and the approval ends (PSD2's dynamic linking)."""
    desk = Desk()
    asked = desk.ask()
    desk.approve(asked.approval_id)
    with pytest.raises(ApprovalRefused):
        desk.use(asked.approval_id, changed)
    with pytest.raises(ApprovalRefused):
        desk.use(asked.approval_id, RENT)
    assert desk.transfers == []
    assert desk.heard == ["changed", "changed"]


def test_the_same_in_another_order_is_the_same() -> None:
    """Details are compared by name; a program may send them in any order."""
    desk = Desk()
    asked = desk.ask()
    desk.approve(asked.approval_id)
    desk.use(asked.approval_id, dict(sorted(RENT.items(), reverse=True)))
    assert desk.transfers == [RENT]


def test_an_approval_is_for_one_action() -> None:
    """What was approved as a transfer closes no account."""
    desk = Desk()
    asked = desk.ask()
    desk.approve(asked.approval_id)
    with pytest.raises(ApprovalRefused):
        desk.use(asked.approval_id, action="close account")
    assert desk.heard == ["changed"]


@pytest.mark.parametrize("whose", ["alice", "mallory"])
def test_another_sessions_approval_does_not_exist(whose: str) -> None:
    """Not for another subject, and not for the same one elsewhere (ASVS 7.5.3)."""
    desk = Desk()
    asked = desk.ask()
    other = desk.world.sign_in(whose)
    with pytest.raises(ApprovalRefused):
        desk.show(asked.approval_id, jar=other)
    with pytest.raises(ApprovalRefused):
        desk.use(asked.approval_id, jar=other)
    own = Desk(desk.world)
    own.world.jars["alice"] = other
    with pytest.raises(ApprovalRefused):
        own.approve(asked.approval_id)
    assert desk.heard == ["another_session"] * 2
    assert own.heard == ["another_session"]
    assert own.jar == other, "a refusal rotates nothing"


def test_signing_in_again_leaves_approvals_behind() -> None:
    """They belong to the session, and that has ended (P10)."""
    desk = Desk()
    asked = desk.ask()
    desk.approve(asked.approval_id)
    desk.take(desk.world.get(desk.jar, signing_in("alice"), method="POST"))
    with pytest.raises(ApprovalRefused):
        desk.use(asked.approval_id)
    assert desk.heard == ["another_session"]


def test_an_approval_survives_rotation_and_renewal() -> None:
    """The session goes on, and so does what was asked for in it (P11)."""
    desk = Desk()
    asked = desk.ask()
    desk.take(desk.world.get(desk.jar, elevating("pwd"), method="POST"))
    desk.approve(asked.approval_id)
    desk.use(asked.approval_id)
    assert desk.transfers == [RENT]


def test_an_approval_waits_for_five_minutes() -> None:
    """From being asked for: proving a factor for it does not make it younger."""
    desk = Desk()
    first, second = desk.ask(), desk.ask({**RENT, "cents": 1})
    desk.world.clock.advance(4 * MINUTE)
    desk.approve(first.approval_id)
    desk.world.clock.advance(MINUTE - 1)
    desk.use(first.approval_id)
    desk.world.clock.advance(1)
    with pytest.raises(ApprovalRefused):
        desk.approve(second.approval_id)
    assert desk.heard == ["too_old"]


def test_the_newest_ten_wait() -> None:
    """A script that asks in a loop does not fill the store; another session's are not touched."""
    desk = Desk()
    phone = Desk(World(store=desk.world.store, seed="phone"))
    kept = phone.ask()
    asked: list[Approval] = []
    for each in range(1, 13):
        desk.world.clock.advance(1)
        asked.append(desk.ask({"cents": each}))
    for old in asked[:2]:
        with pytest.raises(ApprovalRefused):
            desk.show(old.approval_id)
    assert desk.heard == ["ended", "ended"]
    for young in asked[2:]:
        assert desk.show(young.approval_id).details == young.details
    assert phone.show(kept.approval_id).details == RENT


def test_its_lifetime_is_the_policys() -> None:
    """Longer for a bank whose customers call it first; never longer than the session."""
    desk = Desk(World(policy=SessionPolicy(approval_lifetime=timedelta(hours=12))))
    desk.world.clock.advance(10 * MINUTE)
    desk.world.get(desk.jar)
    asked = desk.ask()
    assert asked.expires_at - asked.asked_at == timedelta(hours=7, minutes=50)


def test_proving_rotates_the_sessions_token() -> None:
    """Somebody authenticated anew, so whoever copied the token before is out (ASVS 7.2.4)."""
    desk = Desk()
    asked = desk.ask()
    before = desk.jar
    desk.approve(asked.approval_id)
    assert desk.jar != before
    assert desk.world.who(desk.jar) == "alice"
    assert desk.world.who(before) is None


def test_a_proof_for_one_transaction_opens_nothing_else() -> None:
    """Neither another approval nor a page that wants a recent sign-in (P25)."""
    desk = Desk()
    desk.world.clock.advance(6 * MINUTE)
    first, second = desk.ask(), desk.ask()
    desk.approve(first.approval_id, "pwd", "otp")
    assert not desk.show(second.approval_id).is_approved
    with pytest.raises(StepUpRequired):
        desk.use(second.approval_id)
    asked: list[Any] = []

    def judging(visit: Visit) -> Flow[None]:
        asked.append(flows.judge_step_up(visit, Requirement(max_age=5 * MINUTE)))
        yield from ()

    desk.world.get(desk.jar, judging)
    assert [each.reason for each in asked] == ["too_old"]


@pytest.mark.parametrize(
    ("asked", "session", "proofs", "approved"),
    [
        # One factor for it, whatever the session has proved: also a moment ago.
        ({}, ["pwd", "otp"], [], False),
        ({}, ["pwd"], ["pwd"], True),
        # A level may be made together with the session's fresh factors ...
        ({"acr": "aal2", "max_age": 5 * MINUTE}, ["pwd"], ["otp"], True),
        ({"acr": "aal2", "max_age": 5 * MINUTE}, ["otp"], ["otp"], False),
        # ... and not with its old ones.
        ({"acr": "aal2", "max_age": 5 * MINUTE}, [], ["otp"], False),
        ({"acr": "aal2", "max_age": 5 * MINUTE}, [], ["otp", "pwd"], True),
        ({"acr": "aal2"}, [], ["otp"], True),
        # A factor that is named must be proved for it.
        ({"amr": frozenset({"otp"})}, ["otp"], ["pwd"], False),
        ({"amr": frozenset({"otp"})}, ["otp"], ["otp"], True),
        ({"amr": frozenset({"otp", "pwd"})}, ["otp"], ["otp"], False),
        ({"ages": {"otp": MINUTE}}, ["otp"], ["pwd"], False),
    ],
)
def test_what_counts_for_an_approval(
    asked: dict[str, Any], session: list[str], proofs: list[str], approved: bool
) -> None:
    """At least one factor of its own, all that are named, and a level of what is fresh (P25)."""
    desk = Desk()
    desk.world.clock.advance(10 * MINUTE)
    if session:
        desk.take(desk.world.get(desk.jar, elevating(*session), method="POST"))
    approval = desk.ask(**asked)
    assert not approval.is_approved
    if proofs:
        assert approval.owed is not None
        assert approval.owed.would_do(proofs) == approved
        approval = desk.approve(approval.approval_id, *proofs)
    assert approval.is_approved == approved
    if approved:
        desk.use(approval.approval_id)
    else:
        with pytest.raises(StepUpRequired):
            desk.use(approval.approval_id)


def test_what_was_proved_before_the_window_was_closed_counts_no_more() -> None:
    """Whoever said that they were done is asked for all of it (P25)."""
    desk = Desk()
    desk.world.clock.advance(1)
    desk.take(desk.world.get(desk.jar, flows.end_privilege, method="POST"))
    approval = desk.ask(acr="aal2", max_age=5 * MINUTE)
    assert not desk.approve(approval.approval_id, "otp").is_approved
    assert desk.approve(approval.approval_id, "pwd").is_approved


def test_factors_may_be_proved_one_after_the_other() -> None:
    """Each counts from its own moment."""
    desk = Desk()
    approval = desk.ask(amr=frozenset({"pwd", "otp"}), max_age=2 * MINUTE)
    assert not desk.approve(approval.approval_id, "pwd").is_approved
    desk.world.clock.advance(MINUTE)
    assert desk.approve(approval.approval_id, "otp").is_approved
    desk.world.clock.advance(MINUTE)
    assert desk.show(approval.approval_id).is_approved
    desk.world.clock.advance(1)
    assert not desk.show(approval.approval_id).is_approved


def test_pending_and_anonymous_sessions_approve_nothing() -> None:
    """Half a sign-in is none (ASVS 6.4.3)."""
    world = World()
    pending(world)
    desk = Desk(world)
    asked = desk.ask()
    for jar in (world.jars["pending"], None):
        for action in (
            lambda visit: flows.ask_approval(visit, "transfer", RENT),
            lambda visit: flows.find_approval(visit, asked.approval_id),
            lambda visit: flows.approve(visit, asked.approval_id, ["otp"]),
            lambda visit: flows.use_approval(visit, asked.approval_id, "transfer"),
        ):
            assert isinstance(world.get(jar, action, method="POST").error, SignInRequired)


def test_a_doubted_session_steps_up_before_it_asks() -> None:
    """A remembered browser, or one that looks unusual, is nobody who approves (NIST-B2)."""
    desk = Desk()

    def asking(visit: Visit) -> Flow[None]:
        visit.lowered = True
        yield from flows.ask_approval(visit, "transfer", RENT)

    reply = desk.world.get(desk.jar, asking, method="POST")
    assert isinstance(reply.error, StepUpRequired)
    assert isinstance(reply.error.challenge, Challenge)
    assert reply.error.challenge.reason == "doubtful"
    assert reply.error.challenge.would_do(["pwd"])


@pytest.mark.parametrize(
    ("error", "action", "details"),
    [
        (UsageError, "", RENT),
        (UsageError, "transfer", {}),
        (UnserialisableValue, "transfer", {"amount": 12.5}),
        (UnserialisableValue, "transfer", {"to": ["a"]}),
        (UnserialisableValue, "transfer", {1: "a"}),
        (SessionTooLarge, "transfer", {"text": "x" * 5000}),
    ],
)
def test_what_nobody_could_approve_is_refused(error: Any, action: str, details: Any) -> None:
    """A mistake of the application's is told as one."""
    desk = Desk()
    with pytest.raises(error):
        desk.world.get(desk.jar, lambda visit: flows.ask_approval(visit, action, details))


def test_asking_for_a_level_that_is_none_is_a_mistake() -> None:
    """As on any route."""
    desk = Desk()
    with pytest.raises(ConfigurationError, match="aal9"):
        desk.ask(acr="aal9")
    with pytest.raises(UsageError, match="factor"):
        desk.world.get(
            desk.jar, lambda visit: flows.approve(visit, desk.ask().approval_id, []), method="POST"
        )


@pytest.mark.parametrize("text", ["", "x", "0" * 32, "0" * 31, "ä" * 32, "../../etc", "0" * 10_000])
def test_an_id_that_is_none_is_refused(text: str) -> None:
    """Whatever a client sends."""
    desk = Desk()
    with pytest.raises(ApprovalRefused):
        desk.show(text)
    assert desk.heard == ["unknown"]


def test_a_sessions_own_id_is_no_approval() -> None:
    """Nor is any other record of the subject."""
    desk = Desk()
    own = desk.world.token(desk.jar).session_id.hex()
    with pytest.raises(ApprovalRefused):
        desk.use(own)
    assert desk.world.who(desk.jar) == "alice"


# --- who writes the store -------------------------------------------------------------------------


@pytest.mark.parametrize("seal", [DataSeal.TOKEN, DataSeal.SERVER, DataSeal.NONE])
def test_whoever_writes_the_store_puts_no_other_payee_in(seal: DataSeal) -> None:
    """The digest is in the sealed identity; where data is not sealed, a change is found (P3)."""
    world = World(policy=SessionPolicy(seal_data=seal))
    desk = Desk(world)
    asked, cheap = desk.ask(), desk.ask({**RENT, "to": "thief"})
    desk.approve(asked.approval_id)
    assert isinstance(world.store, MemoryStore)
    records = {each.record.session_id.hex(): each.record for each in of_alice(world)}
    victim, other = records[asked.approval_id], records[cheap.approval_id]
    forged = replace(victim, data=other.data)
    if seal is DataSeal.NONE:
        put_into(world.store, forged)
        with pytest.raises(ApprovalRefused):
            desk.use(asked.approval_id)
        assert desk.heard == ["altered"]
    else:
        put_into(world.store, forged)
        reply = world.get(desk.jar, desk.using(asked.approval_id), method="POST")
        assert reply.error is not None
        assert reply.status in (403, 503)
    assert desk.transfers == []


def of_alice(world: World) -> Any:
    """All records of hers."""
    return world.store.list_subject(ListSubject(world.ctx.keys.subject_key("alice")))


def put_into(store: MemoryStore, record: Any) -> None:
    """Write a record as somebody with access to the database does."""
    store._records[record.session_id] = record  # pyright: ignore[reportPrivateUsage]


def test_the_store_reads_nothing_of_it() -> None:
    """Neither amount nor payee, not even with the server's keys: it lacks the root (P4)."""
    desk = Desk()
    asked = desk.ask()
    records = [each.record for each in of_alice(desk.world)]
    kept = next(each for each in records if each.session_id.hex() == asked.approval_id)
    assert kept.header.kind is Kind.APPROVAL
    assert b"DE02" not in kept.data + kept.envelope
    identity = desk.world.ctx.open_identity(kept)
    assert "DE02" not in str(identity)
    assert desk.world.run(flows.server_data(desk.world.ctx, asked.approval_id)) == {}


def test_an_approvals_record_is_no_session() -> None:
    """It is in no list, counts towards no limit, and no token of ours opens it (P2, P10)."""
    desk = Desk(World(policy=SessionPolicy(max_sessions=1)))
    asked = desk.ask()
    assert len(desk.world.live_of("alice")) == 1
    keys = desk.world.ctx.keys
    forged = mint(
        keys.tokens,
        key_id=keys.issuing,
        session_id=bytes.fromhex(asked.approval_id),
        root=bytes(16),
        secret=bytes(16),
    )
    reply = desk.world.get(forged.text)
    assert reply.subject is None
    desk.approve(asked.approval_id)
    desk.use(asked.approval_id)


# --- races ----------------------------------------------------------------------------------------


def waiting(world: World) -> None:
    """Alice has approved a transfer a moment ago."""
    desk = Desk(world)
    ID[0] = desk.ask().approval_id
    desk.approve(ID[0])


ID = [""]


def using(done: list[str], name: str) -> Any:
    def flow(world: World) -> Flow[Reply]:
        def action(visit: Visit) -> Flow[None]:
            yield from flows.use_approval(visit, ID[0], "transfer", RENT)
            done.append(name)

        return world.request(world.jars["alice"], action, method="POST")

    return flow


def test_of_two_that_use_it_one_does() -> None:
    """In every order, and three at once with any fault of the store (ASVS 6.5.1)."""
    done: list[str] = []

    def check(world: World, fates: Fates, log: Log) -> None:
        assert len(done) == 1
        done.clear()
        errors = [fate.value.error for fate in fates.values()]
        assert sum(isinstance(each, ApprovalRefused) for each in errors) == len(errors) - 1

    def check_faults(world: World, fates: Fates, log: Log) -> None:
        assert len(done) <= 1
        done.clear()

    two = {name: using(done, name) for name in ("one", "two")}
    assert interleavings(scenario(Prepared(waiting), two, check)) > 5
    assert interleavings(scenario(Prepared(waiting), two, check_faults), with_faults=True) > 20


@pytest.mark.parametrize("ender", ENDERS)
def test_an_end_of_the_session_that_came_first_forbids_it(ender: str) -> None:
    """Nothing is carried out for a session that ended before its approval was used up (P6)."""
    done: list[str] = []

    def check(world: World, fates: Fates, log: Log) -> None:
        session = world.token(world.jars["alice"]).session_id
        used = next(
            (
                i
                for i, (name, op, _) in enumerate(log.entries)
                if name == "use" and op.verb == "end"
            ),
            None,
        )
        if done and used is not None:
            assert log.ended(session) > used
        done.clear()

    meeting = {
        "use": using(done, "use"),
        "end": lambda world: ENDERS[ender](world, world.jars["alice"]),
    }
    assert interleavings(scenario(Prepared(waiting), meeting, check)) > 4


def test_of_two_factors_proved_at_the_same_moment_one_counts() -> None:
    """The other finds its token rotated away, and is told; none is lost in silence (D2)."""

    def asked(world: World) -> None:
        desk = Desk(world)
        ID[0] = desk.ask(amr=frozenset({"pwd", "otp"})).approval_id

    def proving(factor: str) -> Any:
        def flow(world: World) -> Flow[Reply]:
            def action(visit: Visit) -> Flow[None]:
                yield from flows.approve(visit, ID[0], [factor])

            return world.request(world.jars["alice"], action, method="POST")

        return flow

    def check(world: World, fates: Fates, log: Log) -> None:
        granted = {name for name, fate in fates.items() if fate.value and fate.value.error is None}
        kept = next(
            each.record for each in of_alice(world) if each.record.session_id.hex() == ID[0]
        )
        identity = world.ctx.open_identity(kept)
        assert identity is not None
        assert {each.amr for each in identity.events} == granted
        assert len(granted) == 1
        for fate in fates.values():
            error = fate.value.error
            assert error is None or isinstance(error, SessionEnded | SignInRequired)

    meeting = {"pwd": proving("pwd"), "otp": proving("otp")}
    assert interleavings(scenario(Prepared(asked), meeting, check)) > 5


def test_an_outage_carries_nothing_out() -> None:
    """Wherever the store fails, nothing is done without its approval being used up (P22)."""
    done: list[str] = []

    def check(world: World, fates: Fates, log: Log) -> None:
        if done:
            kept = next(
                each.record for each in of_alice(world) if each.record.session_id.hex() == ID[0]
            )
            assert kept.header.end_reason is EndReason.USED
        for fate in fates.values():
            if fate.returned and fate.value.error is not None:
                assert isinstance(fate.value.error, StoreUnavailable | RefusedError)
        done.clear()

    interleavings(scenario(Prepared(waiting), {"use": using(done, "use")}, check), with_faults=True)
