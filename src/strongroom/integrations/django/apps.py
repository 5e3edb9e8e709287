"""The application `strongroom`: its checks, and what it listens to."""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from django.apps import AppConfig
from django.core import checks


class StrongroomConfig(AppConfig):
    """`INSTALLED_APPS = [..., "strongroom.integrations.django"]`."""

    name = "strongroom.integrations.django"
    label = "strongroom"
    verbose_name = "Strongroom"

    def ready(self) -> None:
        """Listen to what happens to accounts, and register the checks."""
        from . import accounts
        from .checks import check_deployment, check_settings

        checks.register(check_settings, checks.Tags.security)
        checks.register(check_deployment, checks.Tags.security, deploy=True)
        accounts.listen()
