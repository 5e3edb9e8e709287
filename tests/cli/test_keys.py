"""Keys: nothing is lost, nothing is shown, nothing is written over."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom import Keyring, keyfile
from strongroom.core.errors import ConfigurationError
from strongroom.testing.clock import START
from tests.cli.runner import KEYS, Desk

MINUTE = 60_000


def secrets_of(path: str | Path = KEYS) -> list[str]:
    """Every secret in a key file, as text."""
    document = json.loads(Path(path).read_text())
    return [document["store_secret"], *(each["secret"] for each in document["keys"])]


def test_a_key_file_is_for_its_owner_alone(desk: Desk) -> None:
    """Mode 600 in a folder of mode 700, whatever the umask says, and also after a rotation."""
    before = os.umask(0)
    try:
        desk.say("keys generate")
        desk.say("keys rotate")
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(KEYS).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(KEYS).parent.stat().st_mode) == 0o700


def test_a_key_file_that_others_may_read_is_refused(desk: Desk) -> None:
    """Keys that may have leaked are not used in silence."""
    desk.say("keys generate")
    Path(KEYS).chmod(0o640)
    answer = desk.say("keys list")
    assert answer.code == 2 and "chmod 600" in answer.err


def test_a_missing_key_file_names_the_folder(tmp_path: Path) -> None:
    """The usual cause is another folder to start in; a whole path says it by itself (STYLE)."""
    with pytest.raises(ConfigurationError) as relative:
        keyfile.read("keys/strongroom.keys")
    assert f"It was looked for in {Path.cwd() / 'keys'}." in str(relative.value)
    with pytest.raises(ConfigurationError) as whole:
        keyfile.read(tmp_path / "strongroom.keys")
    assert str(tmp_path) in whole.value.what and "looked for" not in str(whole.value)


def test_nothing_is_written_over(desk: Desk) -> None:
    """A second `generate` leaves the keys as they are."""
    desk.say("keys generate")
    before = Path(KEYS).read_bytes()
    assert desk.say("keys generate").code == 2
    assert Path(KEYS).read_bytes() == before
    assert [each.name for each in Path(KEYS).parent.iterdir()] == [Path(KEYS).name]


def test_no_command_shows_a_secret(shop: Desk) -> None:
    """Neither key nor store secret, in text or JSON, from any command on keys."""
    said = ""
    for line in ("list", "rotate", "list --json", "rotate --json", "retire 1 --yes --and-rotate"):
        answer = shop.say(f"keys {line}")
        assert answer.code == 0
        said += answer.out + answer.err
    for secret in filter(None, secrets_of()):
        assert secret not in said
        assert base64.b64decode(secret).hex() not in said


def test_printing_keys_writes_no_file_and_says_what_it_is(desk: Desk) -> None:
    """`--print` is one line for an environment variable; the warning goes elsewhere."""
    answer = desk.say("keys generate --print --realm shop")
    assert answer.out.count("\n") == 1
    ring = keyfile.loads(answer.out)
    assert (ring.realm, ring.keys[0].created_at) == ("shop", START)
    assert "secret" in answer.err and "STRONGROOM_KEYS" in answer.err
    assert not list(Path().iterdir())
    desk.env["STRONGROOM_KEYS"] = answer.out
    assert "realm 'shop'" in desk.say("keys list").out


def test_printing_to_a_path_is_refused(desk: Desk) -> None:
    """One or the other: nobody is left in doubt where the keys are."""
    assert desk.say("keys generate some.keys --print").code == 2


def test_a_realm_that_cannot_be_is_refused(desk: Desk) -> None:
    """Before anything is written."""
    assert desk.run("keys", "generate", "--realm", "x" * 65).code == 2
    assert not Path(KEYS).exists()


@pytest.mark.parametrize("text", ["hunter2", '{"strongroom_keys": 1, "realm": "hunter2"}', "[]"])
def test_a_damaged_file_is_never_repeated(desk: Desk, text: str) -> None:
    """What is in it may be half a secret."""
    Path("bad.keys").write_text(text)
    Path("bad.keys").chmod(0o600)
    for line in ("list", "rotate", "retire 1 --yes", "list --json", "rotate --json"):
        answer = desk.say(f"keys {line} --keys bad.keys")
        assert answer.code == 2
        assert "hunter2" not in answer.out + answer.err
    assert Path("bad.keys").read_text() == text


def test_two_rotations_at_once_both_count(shop: Desk) -> None:
    """The file is locked while it changes: of many processes at once, none loses its key."""
    code = (
        "import sys; from strongroom.cli.__main__ import main\n"
        "for _ in range(5): assert main(['keys', 'rotate']) == 0"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    ring = keyfile.read(KEYS)
    assert [key.id for key in ring.keys] == list(range(21, 0, -1))
    assert [each.name for each in Path(KEYS).parent.iterdir() if "keys" in each.name] == [
        Path(KEYS).name
    ]


def test_a_change_that_fails_leaves_the_file(shop: Desk) -> None:
    """What the change raises comes out, and the lock is let go."""
    before = Path(KEYS).read_bytes()

    def fails(_ring: Keyring) -> Keyring:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        keyfile.locked_update(KEYS, fails)
    assert Path(KEYS).read_bytes() == before
    assert shop.say("keys rotate").code == 0


def test_a_link_to_the_keys_stays_a_link(shop: Desk) -> None:
    """Where the file is elsewhere, it is changed there."""
    Path("link.keys").symlink_to(KEYS)
    assert shop.say("keys rotate --keys link.keys").code == 0
    assert Path("link.keys").is_symlink()
    assert len(keyfile.read(KEYS).keys) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="allowed: only root can give a file away")
def test_the_keys_keep_their_owner(shop: Desk) -> None:
    """Root rotates; the application, which is not root, must still be able to read them."""
    os.chown(KEYS, 12345, 12345)
    assert shop.say("keys rotate").code == 0
    found = Path(KEYS).stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 12345, 0o600)


def test_rotating_signs_nobody_out(shop: Desk) -> None:
    """Before, in, and after the deploy window, whoever is signed in stays so."""
    session_id = shop.sign_in("alice")
    shop.say("keys rotate")
    for _ in range(3):
        assert shop.say(f"sessions show {session_id}").code == 0
        shop.clock.advance(9 * MINUTE)
    assert keyfile.read(KEYS).issuing(shop.clock()).id == 2


def test_retiring_ends_what_was_issued_under_the_key(shop: Desk) -> None:
    """And nothing else: whoever signed in under the new key stays."""
    old = shop.sign_in("alice")
    shop.say("keys rotate --now")
    new = shop.sign_in("alice")
    answer = shop.say("keys retire 1 --yes")
    assert answer.code == 0, answer.err
    assert shop.say(f"sessions show {old}").code == 1
    assert shop.say(f"sessions show {new}").code == 0


def test_the_time_to_retire_is_when_nobody_is_left(shop: Desk) -> None:
    """`in_use_until` is after the last session under the key has ended, by the policy in force."""
    shop.say("keys rotate --after 10m")
    keys = json.loads(shop.say("keys list --json").out)["keys"]
    assert keys[1]["in_use_until"] == "2026-01-01T08:10:00.000Z"
    keys = json.loads(shop.say("keys list --json --profile owasp_high_value").out)["keys"]
    assert keys[1]["in_use_until"] == "2026-01-01T04:10:00.000Z"


def test_a_retired_key_keeps_its_id_and_loses_its_secret(shop: Desk) -> None:
    """Its id is never used again, and its bytes are gone from the file."""
    (_store, secret) = secrets_of()
    shop.say("keys retire 1 --yes --and-rotate")
    assert secret not in Path(KEYS).read_text()
    assert [(key.id, bool(key.secret)) for key in keyfile.read(KEYS).keys] == [
        (2, True),
        (1, False),
    ]
    shop.say("keys rotate")
    assert keyfile.read(KEYS).keys[0].id == 3


def test_the_last_key_is_not_retired() -> None:
    """A published key does not help: it does not issue yet."""
    ring = keyfile.rotated(keyfile.generate("r", 0), 0, issue_from=100)
    with pytest.raises(ConfigurationError, match="only one"):
        keyfile.retired(ring, 1, now=99)
    assert keyfile.retired(ring, 1, now=100).issuing(100).id == 2
    assert keyfile.retired(ring, 2, now=50).issuing(50).id == 1
    assert keyfile.retired(ring, 7, now=100) is ring


def test_the_json_of_keys_is_stable(shop: Desk) -> None:
    """Scripts read these names."""
    shop.say("keys rotate")
    listed = json.loads(shop.say("keys list --json").out)
    assert list(listed) == ["source", "realm", "keys"]
    assert list(listed["keys"][0]) == [
        *("id", "state", "created_at", "issue_from", "retired_at", "in_use_until")
    ]
    rotated = json.loads(shop.say("keys rotate --json").out)
    assert list(rotated) == ["path", "key"]
    assert list(rotated["key"]) == list(listed["keys"][0])
    retired = json.loads(shop.say("keys retire 1 --yes --and-rotate --json").out)
    assert retired == {"path": KEYS, "retired": 1, "changed": True, "added": 4}
    assert json.loads(shop.say("keys generate x.keys --json").out) == {
        **{"path": "x.keys", "realm": "default", "key": 1}
    }
