"""How each real application is installed, started and described: one folder in `apps` for each.

A folder holds `recipe.toml`, the auditor's own `audit.toml`, and the few files of configuration
that the application needs. `[judged]` in the recipe is the verdict of a person on every finding:
what a run finds beyond it has not been looked at yet. `[missed]` is what the person found and the
audit did not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

APPS = Path(__file__).parent / "apps"
_WORDS = {"alice": "Correct-horse-battery-9", "mallory": "Staple-of-the-forger-9"}
PASSWORDS = {name + more: word for name, word in _WORDS.items() for more in ("", "@site.example")}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One application. Commands are lists; {python}, {bin}, {work}, {home} and {port} stand in.

    `python`, `npm` and `debian` are what is installed, with versions where the registry keeps them.
    `setup` runs once the files are laid out, `after` once it answers at `ready`.
    """

    id: str
    name: str
    version: str
    language: str
    design: str
    start: list[str]
    ready: str = "/"
    base: str = "/"
    python: list[str] = field(default_factory=list[str])
    npm: list[str] = field(default_factory=list[str])
    debian: list[str] = field(default_factory=list[str])
    setup: list[list[str]] = field(default_factory=list[list[str]])
    after: list[list[str]] = field(default_factory=list[list[str]])
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    host: str = "127.0.0.1"
    patience: int = 120
    judged: Mapping[str, str] = field(default_factory=dict[str, str])
    missed: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return APPS / self.id


def recipe(name: str) -> Recipe:
    """The recipe in this folder."""
    said: dict[str, Any] = tomllib.loads((APPS / name / "recipe.toml").read_text("utf-8"))
    return Recipe(id=name, **said)


def recipes() -> list[Recipe]:
    """All of them, by name."""
    return [recipe(each.parent.name) for each in sorted(APPS.glob("*/recipe.toml"))]
