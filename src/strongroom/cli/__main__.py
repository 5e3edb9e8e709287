"""The command line: finds the command, runs it, and turns failures into sentences and exit codes.

No failure of ours shows a traceback; a traceback is a bug. `main` is what the installed command
calls, `run` is the same with everything outside handed in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TextIO

from strongroom.core.errors import ConfigurationError, StrongroomError

from . import (
    audit,
    bench,
    devices,
    doctor,
    explain,
    init,
    keys,
    policy,
    sessions,
    store,
    subject,
    watch,
)
from .output import DONE, INTERRUPTED, NO_READER, Output, World
from .parsing import Command, find

COMMANDS: tuple[Command, ...] = (
    *init.COMMANDS,
    *keys.COMMANDS,
    *sessions.COMMANDS,
    *devices.COMMANDS,
    *subject.COMMANDS,
    *policy.COMMANDS,
    *store.COMMANDS,
    *doctor.COMMANDS,
    *audit.COMMANDS,
    *watch.COMMANDS,
    *explain.COMMANDS,
    *bench.COMMANDS,
)
GROUPS = {
    "init": "the first two minutes of an application",
    "keys": "what sessions are issued under",
    "sessions": "who is signed in, and ending it",
    "devices": "a user's devices, and what each one has",
    "subject": "what is kept of one person",
    "policy": "the limits in force",
    "store": "where sessions are kept",
    "doctor": "what is wrong, and what to change",
    "audit": "what an attacker could do, on any site",
    "watch": "what is happening, as it happens",
    "explain": "why something happened",
    "bench": "how fast it is here",
}
_EXTRAS = {"httpcore": "audit"}
"""Which extra of ours brings a package that a command imports."""
_HELP = frozenset({"--help", "-h"})


def main(argv: Sequence[str] | None = None) -> int:
    """The installed command -> its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no `�` shows `?`
    try:
        code = run(sys.argv[1:] if argv is None else argv, _this_world())
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        # Whoever read is gone. Python would try to flush once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER
    return code


def run(argv: Sequence[str], world: World) -> int:
    """One command in this world -> its exit code."""
    ours = _before_dashes(argv)
    is_plain = "--no-color" in ours or world.env.get("TERM") == "dumb"
    colour = not (is_plain or world.env.get("NO_COLOR"))
    out = Output(world, as_json="--json" in ours, colour=colour)
    try:
        return _run(argv, out)
    except StrongroomError as error:
        return out.failed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        return out.failed(_refused_by_system(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        return out.failed(_not_installed(package))


def _not_installed(package: str) -> ConfigurationError:
    return ConfigurationError(
        f"This command needs the package {package}, which is not installed.",
        why="Strongroom by itself brings only what an application's sessions need.",
        hint=f"pip install 'strongroom[{_EXTRAS[package]}]'",
    )


def _refused_by_system(error: OSError) -> ConfigurationError:
    where = f" {error.filename}" if error.filename else ""
    return ConfigurationError(
        f"The system refused{where}: {error.strerror or type(error).__name__}.",
        why="Nothing can be done without it.",
        hint="Check the path, and whose it is.",
    )


def _run(argv: Sequence[str], out: Output) -> int:
    words = list(argv)
    while words and words[0] in ("--json", "--no-color"):
        words.pop(0)
    asks_help = bool(_HELP & set(_before_dashes(words)))
    if words and words[0] == "--version":
        return _version(out)
    if words and words[0] == "help":
        words, asks_help = words[1:], True
    if not words or words[0] in _HELP:
        return _print(out.world.out, _overview(out))
    found = find(words, COMMANDS)
    if found is None:
        return _print(out.world.out, _group(words[0], out))
    command, rest = found
    if asks_help:
        return _print(out.world.out, command.help())
    return command.run(command.parse(rest), out)


def _before_dashes(argv: Sequence[str]) -> Sequence[str]:
    return argv[: argv.index("--")] if "--" in argv else argv


def _print(stream: TextIO, text: str) -> int:
    stream.write(text)
    return DONE


def _version(out: Output) -> int:
    import strongroom

    version: str = strongroom.__version__
    out.answer({"version": version}, [f"strongroom {version}"])
    return DONE


def _overview(out: Output) -> str:
    lines = ["Strongroom keeps web sessions. This is the operator's side of it.", ""]
    for group, meaning in GROUPS.items():
        lines += [f"{out.heading(group)}: {meaning}", *_purposes(group), ""]
    lines += [
        out.heading("Start here"),
        "  strongroom init                   write what an application needs, and say what",
        "  strongroom policy show            see the limits in force, and what ends what",
        "  strongroom sessions list SUBJECT  see where somebody is signed in",
        "",
        "Every command explains itself, with examples: strongroom keys rotate --help",
    ]
    return "\n".join(lines) + "\n"


def _group(group: str, out: Output) -> str:
    lines = [
        f"{out.heading(group)}: {GROUPS[group]}",
        *_purposes(group),
        "",
        f"Every command explains itself: strongroom {group} COMMAND --help",
    ]
    return "\n".join(lines) + "\n"


def _purposes(group: str) -> list[str]:
    of_group = [each for each in COMMANDS if each.words.partition(" ")[0] == group]
    wide = max(len(each.words) for each in COMMANDS)
    return [f"  strongroom {each.words:<{wide}}  {each.purpose}" for each in of_group]


def _this_world() -> World:
    from time import time_ns

    return World(
        input=sys.stdin,
        out=sys.stdout,
        err=sys.stderr,
        env=os.environ,
        clock=lambda: time_ns() // 1_000_000,
    )


if __name__ == "__main__":
    sys.exit(main())
