"""The admin's page of sessions: search an account, see where it is signed in, end one or all.

Looking needs the permission `strongroom.view_session`, ending `strongroom.delete_session`, a POST
and the form's token. Who ended what, and the reason that was given, stand in the account's history.
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedClassDecorator=false
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.http import urlencode

from strongroom.core.flows.listing import SessionInfo

from . import runtime
from .models import Session

_REASON_LENGTH = 200


@admin.register(Session)
class SessionAdmin(admin.ModelAdmin):
    """See the module."""

    def has_add_permission(self, request: Any) -> bool:
        """Nobody makes a session for somebody else."""
        del request
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """Nothing about a session can be edited."""
        del request, obj
        return False

    def changelist_view(self, request: Any, extra_context: Any = None) -> HttpResponse:
        """The page: a search, the account's sessions, and what ends them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._end(request)
        query = str(request.GET.get("user", "")).strip()
        user = _find_user(query) if query else None
        context = {
            **self.admin_site.each_context(request),
            "title": "Sessions",
            "opts": self.model._meta,
            "query": query,
            "account": user,
            "sessions": [] if user is None else _sessions_of(user),
            "may_end": self.has_delete_permission(request),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/strongroom/session/change_list.html", context)

    def change_view(self, request: Any, object_id: str, *_: Any, **__: Any) -> HttpResponseRedirect:
        """There is no page of one session."""
        del request, object_id
        return HttpResponseRedirect("../../")

    def delete_view(self, request: Any, object_id: str, *_: Any, **__: Any) -> HttpResponseRedirect:
        """Sessions are ended from the list."""
        del request, object_id
        return HttpResponseRedirect("../../")

    def _end(self, request: Any) -> HttpResponse:
        if not self.has_delete_permission(request):
            raise PermissionDenied
        user = _find_user(str(request.POST.get("user", "")))
        if user is not None:
            ended = _end_sessions(user, str(request.POST.get("session", "")), _by(request))
            messages.success(request, f"{ended} of {user}'s sessions ended.")
        return HttpResponseRedirect("?" + urlencode({"user": request.POST.get("user", "")}))


def _end_sessions(user: Any, session_id: str, by: str) -> int:
    """End one session, or all of the account's -> how many."""
    manager, subject = runtime.current().opened(), _subject(user)
    if session_id:
        return int(manager.end_session(subject, session_id, by=by))
    return manager.end_all_of(subject, by=by)


def _sessions_of(user: Any) -> list[SessionInfo]:
    return runtime.current().opened().sessions_of(_subject(user), include_ended=True)


def _by(request: Any) -> str:
    """Who did it, and why, on one line."""
    reason = " ".join(str(request.POST.get("reason", "")).split())[:_REASON_LENGTH]
    who = request.user.get_username()
    return f"{who}: {reason}" if reason else str(who)


def _find_user(name: str) -> Any:
    """The account by its user name, or by its id."""
    model = get_user_model()
    found = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first()
    if found is None and name.isascii() and name.isalnum():
        try:
            found = model._default_manager.filter(pk=name).first()
        except ValueError:
            return None
    return found


def _subject(user: Any) -> str:
    return str(user._meta.pk.value_to_string(user))
