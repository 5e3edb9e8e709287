"""`flask strongroom ...` and `quart strongroom ...`: the operator's commands, on an application's
store, keys and policy. Both frameworks' command lines are made of click."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from time import time_ns

import click

from strongroom.core.policy import SessionPolicy
from strongroom.managing import KeySource

policy: SessionPolicy | None = None
"""The policy of the application whose command runs, where the commands look for it by name."""


def commands(
    program: str, store: str | None, keys: KeySource | None, limits: SessionPolicy
) -> click.Command:
    """The command `strongroom` of a program, which hands what is behind it to our command line."""

    @click.command(
        "strongroom",
        help="Sessions: who is signed in, ending it, keys, limits "
        f"(see: {program} strongroom help).",
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
    )
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    def strongroom(words: Sequence[str]) -> None:
        global policy  # noqa: PLW0603 - one command runs in a process
        policy = limits
        sys.exit(_run(list(words), _environment(store, keys)))

    return strongroom


def _environment(store: str | None, keys: KeySource | None) -> dict[str, str]:
    """What the commands look up: the application's own settings before the environment's."""
    told = {"STRONGROOM_POLICY": f"{__name__}:policy"}
    if store is not None:
        told["STRONGROOM_STORE"] = store
    if isinstance(keys, str | os.PathLike):
        told["STRONGROOM_KEYS_FILE"] = os.fspath(keys)
    return {**os.environ, **told}


def _run(words: list[str], environment: dict[str, str]) -> int:
    from strongroom.cli.__main__ import run
    from strongroom.cli.output import World

    world = World(
        input=sys.stdin,
        out=sys.stdout,
        err=sys.stderr,
        env=environment,
        clock=lambda: time_ns() // 1_000_000,
    )
    return run(words, world)
