"""The asynchronous variants of everything that waits for nobody.

The record is read when the request begins, so these only forward; what does wait for the store has
its own asynchronous body in `store.py`. Django has them since 5.1; here they are for every version.
"""

from __future__ import annotations

# Django ships no types: what is inherited from it is unknown to the type checkers.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportIncompatibleMethodOverride=false, reportAttributeAccessIssue=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# ruff: noqa: D102
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from datetime import datetime, timedelta
from typing import Any, Protocol


class _Synchronous(Protocol):
    """What the variants forward to."""

    TEST_COOKIE_NAME: str
    TEST_COOKIE_VALUE: str

    def __contains__(self, key: object) -> bool: ...
    def __getitem__(self, key: str) -> Any: ...
    def __delitem__(self, key: str) -> None: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def pop(self, key: str, *default: Any, **named: Any) -> Any: ...
    async def aset(self, key: str, value: Any) -> None: ...
    def keys(self) -> KeysView[str]: ...
    def values(self) -> ValuesView[Any]: ...
    def items(self) -> ItemsView[str, Any]: ...
    def set_expiry(self, value: Any) -> None: ...
    def get_expiry_age(self, **given: Any) -> int: ...
    def get_expiry_date(self, **given: Any) -> datetime: ...
    def get_expire_at_browser_close(self) -> bool: ...
    def load(self) -> dict[str, Any]: ...
    @classmethod
    def clear_expired(cls) -> None: ...


class AsyncVariants:
    """See the module. Each does what its name without the `a` does."""

    async def aget(self: _Synchronous, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    async def apop(self: _Synchronous, key: str, *default: Any, **named: Any) -> Any:
        return self.pop(key, *default, **named)

    async def asetdefault(self: _Synchronous, key: str, value: Any) -> Any:
        if key not in self:
            await self.aset(key, value)
        return self[key]

    async def aset_test_cookie(self: _Synchronous) -> None:
        await self.aset(self.TEST_COOKIE_NAME, self.TEST_COOKIE_VALUE)

    async def atest_cookie_worked(self: _Synchronous) -> bool:
        return bool(self.get(self.TEST_COOKIE_NAME) == self.TEST_COOKIE_VALUE)

    async def adelete_test_cookie(self: _Synchronous) -> None:
        del self[self.TEST_COOKIE_NAME]

    async def aupdate(self: _Synchronous, dict_: Mapping[str, Any]) -> None:
        for key, value in dict(dict_).items():
            await self.aset(key, value)

    async def ahas_key(self: _Synchronous, key: str) -> bool:
        return key in self

    async def akeys(self: _Synchronous) -> KeysView[str]:
        return self.keys()

    async def avalues(self: _Synchronous) -> ValuesView[Any]:
        return self.values()

    async def aitems(self: _Synchronous) -> ItemsView[str, Any]:
        return self.items()

    async def aset_expiry(
        self: _Synchronous, value: int | float | datetime | timedelta | None
    ) -> None:
        self.set_expiry(value)

    async def aget_expiry_age(self: _Synchronous, **given: Any) -> int:
        return self.get_expiry_age(**given)

    async def aget_expiry_date(self: _Synchronous, **given: Any) -> datetime:
        return self.get_expiry_date(**given)

    async def aget_expire_at_browser_close(self: _Synchronous) -> bool:
        return self.get_expire_at_browser_close()

    async def aload(self: _Synchronous) -> dict[str, Any]:
        return self.load()
