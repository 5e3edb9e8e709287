"""No framework pays an import for another, and none is loaded by the middleware alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import strongroom.integrations

FRAMEWORKS = frozenset(
    "starlette fastapi litestar flask quart django aiohttp sqlalchemy authlib pydantic".split()
)
OWN = {
    "starlette": {"starlette"},
    "fastapi": {"fastapi", "starlette", "pydantic"},
    # It offers pydantic support, and so looks for it.
    "litestar": {"litestar", "pydantic"},
    "flask": {"flask"},
    "quart": {"quart", "flask"},
    "django": {"django"},
    "aiohttp": {"aiohttp"},
}
"""What an integration may load: its framework, and what that one is made of. Others: nothing."""
MODULES = sorted(
    each.stem if each.is_file() else each.name
    for each in Path(str(strongroom.integrations.__file__)).parent.iterdir()
    if not each.name.startswith("_") and (each.suffix == ".py" or (each / "__init__.py").exists())
)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_an_integration_loads_its_own_framework_alone(module: str) -> None:
    """Each in a fresh interpreter, so that nothing was loaded before (DESIGN 4)."""
    name = f"strongroom.integrations.{module}"
    assert importlib.util.find_spec(name) is not None
    code = f"import sys, json, {name}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = {each.partition(".")[0] for each in json.loads(run.stdout)}
    assert loaded & FRAMEWORKS <= OWN.get(module.split("_", maxsplit=1)[0], set())
