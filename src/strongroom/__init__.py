"""Strongroom: web sessions that are safe by default.

Importing this loads no framework, no driver and no cryptography; each name is loaded when it is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.csrf_rules import CsrfRules
    from .core.errors import (
        ConfigurationError,
        CsrfRefused,
        OvertakenError,
        RefusedError,
        SessionEnded,
        SessionLimitReached,
        SignInOvertaken,
        SignInRequired,
        StepUpRequired,
        StoreError,
        StrongroomError,
        UsageError,
        WriteConflict,
    )
    from .core.events import Event
    from .core.exchange import RequestFacts, ResponseEdits
    from .core.flows.listing import SessionInfo
    from .core.ops import AtLimit
    from .core.policy import DataSeal, Routes, SessionPolicy
    from .core.proxies import TrustedProxies
    from .core.record import EndReason
    from .core.sealing import Keyring
    from .manager import AsyncSessionManager, SessionManager
    from .session import Session
    from .stores.urls import open_async_store, open_store

_HOME = {
    "AsyncSessionManager": "manager",
    "AtLimit": "core.ops",
    "ConfigurationError": "core.errors",
    "CsrfRefused": "core.errors",
    "CsrfRules": "core.csrf_rules",
    "DataSeal": "core.policy",
    "EndReason": "core.record",
    "Event": "core.events",
    "Keyring": "core.sealing",
    "OvertakenError": "core.errors",
    "RefusedError": "core.errors",
    "RequestFacts": "core.exchange",
    "ResponseEdits": "core.exchange",
    "Routes": "core.policy",
    "Session": "session",
    "SessionEnded": "core.errors",
    "SessionInfo": "core.flows.listing",
    "SessionLimitReached": "core.errors",
    "SessionManager": "manager",
    "SessionPolicy": "core.policy",
    "SignInOvertaken": "core.errors",
    "SignInRequired": "core.errors",
    "StepUpRequired": "core.errors",
    "StoreError": "core.errors",
    "StrongroomError": "core.errors",
    "TrustedProxies": "core.proxies",
    "UsageError": "core.errors",
    "WriteConflict": "core.errors",
    "open_async_store": "stores.urls",
    "open_store": "stores.urls",
}
"""Where each public name lives."""

__all__ = [
    "AsyncSessionManager",
    "AtLimit",
    "ConfigurationError",
    "CsrfRefused",
    "CsrfRules",
    "DataSeal",
    "EndReason",
    "Event",
    "Keyring",
    "OvertakenError",
    "RefusedError",
    "RequestFacts",
    "ResponseEdits",
    "Routes",
    "Session",
    "SessionEnded",
    "SessionInfo",
    "SessionLimitReached",
    "SessionManager",
    "SessionPolicy",
    "SignInOvertaken",
    "SignInRequired",
    "StepUpRequired",
    "StoreError",
    "StrongroomError",
    "TrustedProxies",
    "UsageError",
    "WriteConflict",
    "open_async_store",
    "open_store",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("strongroom")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'strongroom' has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
