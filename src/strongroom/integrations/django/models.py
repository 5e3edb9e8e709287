"""No table: a name in the admin, and the permissions `view_session` and `delete_session`."""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportIncompatibleVariableOverride=false, reportUnknownVariableType=false
from typing import Any, ClassVar

from django.db import models


class Session(models.Model):
    """A session, as the admin lists it. Nothing is read from or written to the database."""

    session_id: Any = models.CharField(primary_key=True, max_length=32)

    class Meta:
        """Django makes no table, and two permissions."""

        managed = False
        app_label = "strongroom"
        default_permissions = ("view", "delete")
        verbose_name = "session"
        verbose_name_plural = "sessions"
        ordering: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return f"Session {self.pk}"
