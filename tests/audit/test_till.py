"""A site that is asked by POST, and shows its state to who sends a token in a header."""

from __future__ import annotations

import pytest

from strongroom.audit.target import TargetError, parse_target
from strongroom.cli.audit_init import target_file
from tests.audit.kit import examine, findings, told
from tests.audit.zoo.till import PASSWORDS, build

TILL = """
url = "https://till.example/"
user = "alice"
[sign_in]
url = "/rpc"
json = { method = "enter", name = "{user}", password = "{password}" }
[proof]
url = "/rpc"
json = { method = "who" }
text = '"alice"'
[sign_out]
url = "/rpc"
json = { method = "leave" }
[[change]]
name = "label"
page = "/"
url = "/label"
fields = { label = "L{nonce}" }
headers = { X-Till-CSRF-Token = "{csrf}" }
read = { page = "/", url = "/label", headers = { X-Till-CSRF-Token = "{csrf}" } }
"""
FAULTS = {
    "forgets to delete": "end-replay",
    "keeps the old one": "fixation-again",
    "no token asked for": "csrf-forged",
    "any text is JSON": "csrf-sign-in csrf-sign-out",
    "uuid": "token-uuid",
    "key from a tutorial": "token-known-key",
}


@pytest.mark.slow
def test_the_sound_till_has_no_finding() -> None:
    """Signed in is what an answer to a POST says, and a change is seen with a token in a header."""
    report = examine(build(), parse_target(TILL, PASSWORDS))
    assert not findings(report), told(report)
    untold = {each.check.id for each in report.of("could not tell")}
    assert untold == {"end-visible", "timeout-idle", "timeout-absolute"}, told(report)
    passed = {each.check.id for each in report.of("pass")}
    assert {"csrf-forged", "end-replay", "race-sign-out", "token-uuid", "transport-cors"} <= passed
    elsewhere = {each.check.id for each in report.of("not applicable")}
    assert {"transport-no-store", "transport-cache-deception"} <= elsewhere, told(report)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_till_is_found(fault: str) -> None:
    """Each by exactly its check."""
    report = examine(build(fault), parse_target(TILL, PASSWORDS))
    assert findings(report) == set(FAULTS[fault].split()), told(report)


@pytest.mark.parametrize("fault", ["", "uuid"])
@pytest.mark.parametrize("mark", ["!", ".", ":", "|", "~"])
def test_a_uuid_is_known_before_its_signature(mark: str, fault: str) -> None:
    """Whatever stands between the id and the signature; a random id there is no UUID."""
    report = examine(build(fault, mark), parse_target(TILL, PASSWORDS), only=("token-uuid",))
    assert findings(report) == ({"token-uuid"} if fault else set()), told(report)
    assert report.of("pass", "fail"), told(report)


def test_init_writes_a_proof_that_is_asked_by_post() -> None:
    """What `audit init` writes of it is read as the same request again."""
    described = parse_target(TILL.replace('"who"', '"who", params = [1, true]'), PASSWORDS)
    plan = examine(build(), described, only=("cookie-size",)).plan
    written = parse_target(target_file(described, plan, []), PASSWORDS)
    assert written.proof is not None
    assert written.proof.json == {"method": "who", "params": [1, True]}
    assert (written.proof.method, written.proof.text) == ("POST", '"alice"')


def test_a_misspelt_key_of_read_is_told() -> None:
    """`read` takes what a request that looks has, and nothing else."""
    wrong = TILL.replace("read = { page", "read = { pattern")
    with pytest.raises(TargetError, match=r"\[change\.read\] has 'pattern'"):
        parse_target(wrong, PASSWORDS)
