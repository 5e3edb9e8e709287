"""`manage.py strongroom ...`: the command line, on the project's store, keys and policy.

manage.py strongroom sessions list USER_ID
manage.py strongroom policy show
"""

from __future__ import annotations

# Django ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
import os
import sys
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from strongroom.cli.__main__ import main
from strongroom.core.errors import StrongroomError
from strongroom.integrations.django.options import read_options

_POLICY = "strongroom.integrations.django.in_force:policy"


class Command(BaseCommand):
    """See the module. Every option behind `strongroom` is the command line's own."""

    help = "Strongroom's command line on this project: sessions, keys, policy, store, doctor."
    requires_system_checks: ClassVar[list[str]] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """What stands behind the command's name goes on as it is."""
        sys.exit(self._forward(argv[2:]))

    def add_arguments(self, parser: Any) -> None:
        """For `call_command`."""
        parser.add_argument("arguments", nargs="*")

    def handle(self, *arguments: str, **options: Any) -> None:
        """For `call_command`."""
        code = self._forward([*arguments, *options.get("arguments", ())])
        if code:
            raise CommandError(f"strongroom ended with {code}.", returncode=code)

    def _forward(self, arguments: list[str]) -> int:
        try:
            found = read_options()
        except StrongroomError as error:
            raise CommandError(str(error)) from error
        if found.store is not None:
            os.environ.setdefault("STRONGROOM_STORE", found.store)
        if isinstance(found.keys, str | os.PathLike):
            os.environ.setdefault("STRONGROOM_KEYS_FILE", os.fspath(found.keys))
        os.environ.setdefault("STRONGROOM_POLICY", _POLICY)
        return main(arguments)
