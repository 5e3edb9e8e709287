"""The order of signing in against "sign out everywhere" (P15), for `authenticate`.

    AUTHENTICATION_BACKENDS = [
        "strongroom.integrations.django.backends.AuthenticationOrder",
        "django.contrib.auth.backends.ModelBackend",
    ]

It lets nobody in. It comes first, notes the account's epoch before the password is looked at, and
leaves the decision to the backends after it: a login that began before everything was ended cannot
complete after it.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import BaseBackend

from .store import SessionStore

__all__ = ["AuthenticationOrder"]


class AuthenticationOrder(BaseBackend):
    """See the module."""

    def authenticate(self, request: Any, username: str | None = None, **credentials: Any) -> None:
        """Note the epoch of the account that is named; nobody is let in."""
        store = getattr(request, "session", None)
        user = _find_user(username, credentials)
        if isinstance(store, SessionStore) and user is not None:
            store.begin_attempt(_subject(user))

    async def aauthenticate(
        self, request: Any, username: str | None = None, **credentials: Any
    ) -> None:
        """See `authenticate`."""
        store = getattr(request, "session", None)
        if not isinstance(store, SessionStore):
            return
        model = get_user_model()
        name = username or credentials.get(model.USERNAME_FIELD)
        user = await model._default_manager.filter(**{model.USERNAME_FIELD: name}).afirst()
        if user is not None:
            await store.abegin_attempt(_subject(user))


def _find_user(username: str | None, credentials: dict[str, Any]) -> Any:
    model = get_user_model()
    name = username or credentials.get(model.USERNAME_FIELD)
    if name is None:
        return None
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist:
        return None


def _subject(user: Any) -> str:
    return str(user._meta.pk.value_to_string(user))
