"""The project's policy by a name that the command line can import."""

from __future__ import annotations

from .options import read_options

policy = read_options().policy
