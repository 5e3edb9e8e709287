"""What happens to accounts ends their sessions, without any code of the project's.

- A login that failed is an event.
- A password that was set with `set_password` and saved: the account's other sessions end, the one
  of this request rotates (ASVS 7.4.3).
- A user who is saved as inactive, or deleted: all sessions end (ASVS 7.4.2).

Login and logout need no signal: they are what `request.session` is told (`store`). In a database
transaction it is done at once and again after the commit: whoever signed in with the old password
in between is found too. What no signal tells, such as `QuerySet.update`, Django's own check finds
at the next request: the hash that it keeps in the session, and `is_active`.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from collections.abc import Callable, Collection
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from strongroom.core.events import LoginFailed
from strongroom.manager import visit_of

from . import runtime
from .present import present


def listen() -> None:
    """Connect the signals; once, however often it is called."""
    user = get_user_model()
    user_login_failed.connect(_login_failed, dispatch_uid="strongroom.login_failed")
    post_save.connect(_saved, sender=user, dispatch_uid="strongroom.saved")
    post_delete.connect(_deleted, sender=user, dispatch_uid="strongroom.deleted")


def _login_failed(**_: Any) -> None:
    store = present()
    if store is None:
        return
    visit = visit_of(store.strongroom)
    subject = None if visit.attempt is None else visit.attempt.subject
    visit.attempt_open = False
    visit.note(LoginFailed, session_id=None, subject=subject)


def _saved(
    instance: Any,
    created: bool,
    using: str | None = None,
    update_fields: Collection[str] | None = None,
    **_: Any,
) -> None:
    def is_written(field: str) -> bool:
        return update_fields is None or field in update_fields

    if created:
        return
    if not getattr(instance, "is_active", True) and is_written("is_active"):
        _now_and_after_commit(using, lambda: _disabled(_subject(instance)))
    # Set only by `set_password`; a hash that a newer hasher replaced is no other password.
    elif getattr(instance, "_password", None) is not None and is_written("password"):
        _now_and_after_commit(using, lambda: _credentials_changed(_subject(instance)))


def _deleted(instance: Any, using: str | None = None, **_: Any) -> None:
    # Read now: Django takes the key away from a deleted object.
    subject = _subject(instance)
    _now_and_after_commit(using, lambda: _disabled(subject))


def _subject(instance: Any) -> str:
    return str(instance._meta.pk.value_to_string(instance))


def _now_and_after_commit(using: str | None, act: Callable[[], None]) -> None:
    act()
    if transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(act, using=using)


def _disabled(subject: str) -> None:
    runtime.current().opened().account_disabled(subject)


def _credentials_changed(subject: str) -> None:
    store = present()
    visit = None if store is None else visit_of(store.strongroom)
    if store is None or visit is None or visit.subject != subject or visit.response_started:
        runtime.current().opened().credentials_changed(subject)
    elif visit.issue is None:
        store.strongroom.credentials_changed().result()
    else:
        # This request has made the session's token already: only the others are left to end.
        store.strongroom.sign_out_others().result()
