"""What the developer says about the site: the address, who signs in, and what cannot be found.

Everything but the address and a user is optional; `discovery` finds the rest. The TOML form is in
docs/audit.md, and `strongroom audit init` writes it. A mistake in it is told, never skipped:
a misspelt key would silently leave out what somebody wanted to have checked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast


class TargetError(Exception):
    """The description cannot be right. `what` and `hint` are sentences."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(" ".join(filter(None, (what, hint))))


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as the file describes it.

    `page` is where its form is fetched from; without one the request is sent as it stands.
    Placeholders in values: {user} {password} {new_password} {nonce} {number} {csrf}, and in
    [end_session] {session}. `read` shows what a change has done, `pattern` is the part of it that
    is compared; in [sessions] it finds the names of the sessions.
    """

    name: str = ""
    page: str = ""
    url: str = ""
    method: str = ""
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    json: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    read: Call | None = None
    pattern: str = ""
    text: str = ""
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The site. Times are seconds, 0 for "not declared"."""

    url: str
    accounts: tuple[Account, ...] = ()
    hosts: tuple[str, ...] = ()
    sign_in: Call | None = None
    proof: Call | None = None
    sign_out: Call | None = None
    changes: tuple[Call, ...] = ()
    password_change: Call | None = None
    step_up: Call | None = None
    sessions: Call | None = None
    end_session: Call | None = None
    half_open: tuple[Call, ...] = ()
    anonymous: Call | None = None
    slow: Call | None = None
    websocket: str = ""
    idle: float = 0
    absolute: float = 0
    step_up_after: float = 0
    most_sessions: int = 0

    @property
    def user(self) -> Account | None:
        """Who signs in."""
        return self.accounts[0] if self.accounts else None

    @property
    def other(self) -> Account | None:
        """The second user: the attacker's own account."""
        return self.accounts[1] if len(self.accounts) > 1 else None


_CALLS = {
    "sign_in": "sign_in",
    "proof": "proof",
    "sign_out": "sign_out",
    "password_change": "password_change",
    "step_up": "step_up",
    "sessions": "sessions",
    "end_session": "end_session",
    "anonymous": "anonymous",
    "slow": "slow",
}
_LISTS = {"change": "changes", "half_open": "half_open"}
_TIMES = ("idle", "absolute", "step_up_after")
_PLAIN = ("url", "user", "second_user", "hosts", "websocket", "most_sessions")


def parse_target(
    text: str, passwords: Mapping[str, str], *, url: str = "", user: str = ""
) -> Target:
    """The target that a TOML file describes; `url` and `user` go before what stands in it.

    `passwords` are by user name. Raises: TargetError.
    """
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"The target file is no TOML: {error}.") from None
    known = {*_CALLS, *_LISTS, "timeouts", *_PLAIN}
    for key in said:
        if key not in known:
            raise TargetError(
                f"The target file has {key!r}, which nothing reads.",
                f"Known are: {', '.join(sorted(known))}.",
            )
    more: dict[str, Any] = {}
    for key, name in _CALLS.items():
        if key in said:
            more[name] = _call(said[key], key)
    for key, name in _LISTS.items():
        listed: Any = said.get(key, [])
        if not isinstance(listed, list):
            raise TargetError(f"'{key}' is a list: write [[{key}]].")
        more[name] = tuple(_call(each, key) for each in cast("Sequence[Any]", listed))
    timeouts = said.get("timeouts", {})
    for key in _table(timeouts, "timeouts", _TIMES):
        more[key] = seconds(str(timeouts[key]))
    names = [user or _string(said, "user"), _string(said, "second_user")]
    accounts = tuple(Account(each, passwords.get(each, "")) for each in names if each)
    return Target(
        url=url or _string(said, "url"),
        accounts=accounts,
        hosts=tuple(str(each) for each in said.get("hosts", [])),
        websocket=_string(said, "websocket"),
        most_sessions=int(said.get("most_sessions", 0)),
        **more,
    )


def _string(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key, "")
    if not isinstance(value, str):
        raise TargetError(f"'{key}' is a text, not {value!r}.")
    return value


def _table(said: object, where: str, known: tuple[str, ...]) -> list[str]:
    if not isinstance(said, dict):
        raise TargetError(f"'{where}' is a table: write [{where}].")
    for key in cast("dict[str, Any]", said):
        if key not in known:
            raise TargetError(
                f"[{where}] has {key!r}, which nothing reads.", f"Known are: {', '.join(known)}."
            )
    return list(cast("dict[str, Any]", said))


_LOOK_KEYS = ("page", "url", "method", "fields", "json", "headers")
_CALL_KEYS = (*_LOOK_KEYS, "name", "read", "pattern", "text", "sensitive")


def _call(said: object, where: str) -> Call:
    keys = _table(said, where, _CALL_KEYS)
    given = cast("dict[str, Any]", said)
    known: dict[str, Any] = {"name": where, **{key: given[key] for key in keys}}
    if "read" in known:
        known["read"] = _reading(known["read"], where)
    call = Call(**known)
    if not (call.page or call.url):
        raise TargetError(f"[{where}] needs a 'url', or the 'page' that has its form.")
    try:
        re.compile(call.pattern)
    except re.error as error:
        raise TargetError(f"The pattern of [{where}] is no regular expression: {error}.") from None
    return call


def _reading(said: object, where: str) -> Call | None:
    """What `read` says: a page, or a table where a page alone does not show the state."""
    if isinstance(said, str):
        return Call(name=where, url=said) if said else None
    _table(said, f"{where}.read", _LOOK_KEYS)
    return _call(said, f"{where}.read")


def seconds(text: str) -> float:
    """A time as people write it (`90s`, `15m`, `8h`, `1d`) in seconds.

    Raises: TargetError.
    """
    match = re.fullmatch(r"([0-9]{1,7}) ?(s|m|min|h|d)", text.strip())
    if match is None:
        raise TargetError(f"{text!r} is not a time such as 90s, 15m, 8h or 1d.")
    return int(match[1]) * {"s": 1, "h": 3600, "d": 86400}.get(match[2], 60)
