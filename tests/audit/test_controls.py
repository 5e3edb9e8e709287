"""A pass is earned: once the site stops working as it did, no check that acts on it passes.

After the auditor has looked at the sound club, the club is broken in one way. What an active check
rests on is gone then, and "refused" means nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from strongroom.audit.examine import network_for
from strongroom.audit.inprocess import transport_for
from strongroom.audit.run import Report, audit, chosen
from strongroom.audit.site import Options, Site
from strongroom.audit.travel import TravellingClock
from strongroom.audit.wire import Limits, Reply, Request, Transport
from tests.audit.kit import target, told
from tests.audit.zoo.club import PASSWORDS, build

Broken = Callable[[Request], bool]


class Breaking:
    """The way to the club; what `broken` says of is answered with `status`, once it is switched."""

    is_network = False

    def __init__(self, inner: Transport, broken: Broken, status: int) -> None:
        self.inner, self.broken, self.status, self.on = inner, broken, status, False

    def send(self, request: Request, limits: Limits) -> Reply:
        """The club's reply, or the broken one."""
        if self.on and self.broken(request):
            return replace(self.inner.send(_elsewhere(request), limits), status=self.status,
                           headers=(("content-type", "text/html"),), body=b"no")  # fmt: skip
        return self.inner.send(request, limits)

    def close(self) -> None:
        """End it."""
        self.inner.close()


def _elsewhere(request: Request) -> Request:
    parts = urlsplit(request.url)
    return Request("GET", f"{parts.scheme}://{parts.netloc}/nowhere")


def _path(*paths: str) -> Broken:
    return lambda request: urlsplit(request.url).path in paths


def _post(*paths: str) -> Broken:
    return lambda request: request.method == "POST" and _path(*paths)(request)


def _broken(broken: Broken, status: int) -> Report:
    described = target("club", PASSWORDS)
    way = Breaking(transport_for(build()), broken, status)
    with TravellingClock(None) as clock:
        network = network_for(described, way, clock=clock)
        site = Site(described, network, Options(samples=24, parallel=4, raise_errors=True), clock)
        site.discover()
        assert site.plan.proof is not None
        way.on = True
        report = audit(site)
    way.close()
    return report


def _passed(report: Report) -> set[str]:
    return {each.check.id for each in report.of("pass")}


WITHOUT_SIGNING_IN = {"cookie-refused", "end-visible", "timeout-declared"}
"""What rests on the first look, or on the target file alone."""
NOT_HERE = {"transport-hsts", "transport-http", "trust-first-step"}
"""What does not apply to the club in process, broken or not."""
BREAKS: dict[str, tuple[Broken, int, str]] = {
    "signing out": (
        _post("/sign-out"),
        500,
        "cookie-after-sign-out csrf-sign-out end-by-get end-clear-site-data end-replay "
        "race-sign-out",
    ),
    "the change": (
        _post("/name", "/api/name"),
        403,
        "csrf-content-type csrf-fetch-metadata csrf-foreign-token csrf-forged csrf-get "
        "csrf-method-override csrf-missing-headers csrf-origin csrf-same-site csrf-session-token "
        "csrf-wrong-token race-sign-out session-step-up",
    ),
    "the password change": (
        _post("/password"),
        403,
        "end-password-change session-password-needs-old",
    ),
    "the step-up": (_post("/confirm"), 403, "fixation-step-up"),
    "the reset": (_path("/reset"), 500, "trust-half-open"),
    "the WebSocket": (_path("/live"), 500, "csrf-websocket"),
    "what a visitor leaves": (_path("/basket"), 500, "fixation-carried"),
    "the list": (_path("/sessions"), 500, "session-end-one session-list session-list-token"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "status"), [(_post("/sign-in"), 403), (_path("/home"), 500)], ids=["entry", "proof"]
)
def test_without_a_sign_in_nothing_is_passed(broken: Broken, status: int) -> None:
    """Every check there is, but for three, cannot tell once nobody is seen to be signed in."""
    report = _broken(broken, status)
    assert not report.of("fail", "warn"), told(report)
    assert _passed(report) == WITHOUT_SIGNING_IN, told(report)
    untold = {each.check.id for each in report.of("could not tell")}
    everything = {each.id for each in chosen()}
    assert untold == everything - WITHOUT_SIGNING_IN - NOT_HERE, told(report)


@pytest.mark.slow
@pytest.mark.parametrize("what", BREAKS)
def test_what_rests_on_a_control_cannot_tell_without_it(what: str) -> None:
    """Exactly the checks whose control is broken lose their pass, and none becomes a finding."""
    broken, status, names = BREAKS[what]
    report = _broken(broken, status)
    assert not report.of("fail", "warn"), told(report)
    assert {each.check.id for each in report.of("could not tell")} == set(names.split())
