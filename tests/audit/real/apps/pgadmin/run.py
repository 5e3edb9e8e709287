"""Runs one of pgAdmin's scripts from where it is installed."""

import runpy
import sys
from pathlib import Path

import pgadmin4

folder = Path(pgadmin4.__path__[0])
sys.argv = [str(folder / sys.argv[1]), *sys.argv[2:]]
sys.path.insert(0, str(folder))
runpy.run_path(sys.argv[0], run_name="__main__")
