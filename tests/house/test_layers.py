"""Who may import whom, as one table. It reads every import in src/strongroom, wherever it stands.

An import inside a function, under `if TYPE_CHECKING`, or by `import_module("...")` counts like any
other, except where a row's `lazily` says otherwise. A new module needs a row: decide where it
belongs before it imports anything.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
ANYTHING = ("*",)


@dataclass(frozen=True)
class Layer:
    """A module, or a package with all that is in it, and what it may import.

    `ours` are modules of strongroom, each with all that is in it; the module's own package is
    always allowed. `theirs` are top-level packages of others, and the stdlib's own database driver.
    `lazily` are modules of ours that may be imported inside functions and for type checkers only.
    """

    module: str
    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    lazily: tuple[str, ...] = ()


STORE = ("core", "stores.base")
# An integration hands facts to the flows and puts the answer back: it knows no store and no key.
INTEGRATION = (
    "actions",
    "following",
    "manager",
    "managing",
    "privilege",
    "running",
    "session",
    "setup",
    "core.adoption",
    "core.answers",
    "core.csrf_forms",
    "core.errors",
    "core.events",
    "core.exchange",
    "core.flows",
    "core.policy",
    "core.proxies",
    "core.visit",
)
# What integrations of synchronous frameworks share, as the ASGI ones share integrations.asgi.
SYNC = ("integrations.exchange_sync", "integrations.environ")
EXTENSION = ("integrations.commands", "integrations.extension", "integrations.permanent")

# From inner to outer. The longest matching row counts. "" is strongroom/__init__.py alone.
LAYERS = (
    Layer("", lazily=ANYTHING),
    Layer("core"),
    Layer("turns", ours=("core",)),
    Layer("drive", ours=("core", "stores.base", "turns")),
    Layer("actions", ours=("core",)),
    Layer("privilege", ours=("actions", "core")),
    Layer("session", ours=("actions", "core", "privilege")),
    Layer("following", ours=("core", "stores.base", "stores.pausing")),
    Layer("running", ours=("actions", "core", "drive", "stores.base")),
    Layer("adapters", ours=("core",), theirs=("cryptography", "msgspec")),
    Layer("keyfile", ours=("core",)),
    Layer("places", ours=("core",), theirs=("maxminddb",)),
    Layer("stores", lazily=("core", "stores")),
    Layer("stores.urls", ours=STORE, lazily=("stores",)),
    Layer("stores.base", ours=("core",)),
    Layer("stores.bridge", ours=STORE),
    Layer("stores.memory", ours=STORE),
    Layer("stores.sqlite", ours=STORE, theirs=("sqlite3",)),
    Layer("stores.valkey", ours=STORE, theirs=("hiredis",)),
    Layer("stores.postgres", ours=STORE, theirs=("psycopg", "psycopg_pool")),
    Layer("stores.moving", ours=STORE),
    Layer("stores.pausing", ours=STORE),
    Layer("stores.near_cache", ours=(*STORE, "stores.pausing")),
    Layer("telemetry", ours=("core",), theirs=("opentelemetry", "prometheus_client", "sqlite3")),
    Layer("managing", ours=("adapters", "core", "keyfile", "stores.base", "telemetry")),
    Layer(
        "manager",
        ours=(
            "actions",
            "core",
            "drive",
            "following",
            "managing",
            "session",
            "running",
            "stores.base",
        ),
    ),
    Layer("setup", ours=("core", "keyfile", "manager", "managing", "stores.bridge", "stores.urls")),
    Layer("__main__", ours=("cli",)),
    Layer("integrations"),
    Layer("integrations.body", ours=INTEGRATION),
    Layer(
        "integrations.old_cookies",
        ours=("core.adoption", "core.data"),
        theirs=("flask", "itsdangerous"),
    ),
    Layer("integrations.watching", ours=INTEGRATION),
    Layer("integrations.asgi", ours=(*INTEGRATION, "integrations.body", "integrations.watching")),
    Layer("integrations.doctor", ours=(*INTEGRATION, "core.diagnosis", "integrations.asgi")),
    Layer(
        "integrations.starlette", ours=(*INTEGRATION, "integrations.asgi"), theirs=("starlette",)
    ),
    Layer(
        "integrations.fastapi",
        ours=(*INTEGRATION, "integrations.asgi", "integrations.starlette"),
        theirs=("fastapi", "starlette"),
    ),
    Layer(
        "integrations.litestar",
        ours=(*INTEGRATION, "core.data", "integrations.asgi"),
        theirs=("litestar", "msgspec"),
    ),
    Layer("integrations.exchange_sync", ours=INTEGRATION),
    Layer("integrations.environ", ours=(*INTEGRATION, "integrations.exchange_sync")),
    Layer(
        "integrations.aiohttp",
        ours=(*INTEGRATION, "integrations.watching"),
        theirs=("aiohttp", "multidict"),
    ),
    Layer("integrations.wsgi", ours=(*INTEGRATION, *SYNC)),
    # What the extensions of Flask and Quart share, neither of which they name.
    Layer("integrations.commands", ours=INTEGRATION, theirs=("click",), lazily=("cli",)),
    Layer("integrations.extension", ours=INTEGRATION),
    Layer("integrations.permanent", ours=INTEGRATION),
    Layer(
        "integrations.flask",
        ours=(*INTEGRATION, *SYNC, *EXTENSION),
        theirs=("flask", "flask_login", "flask_wtf", "markupsafe", "werkzeug", "wtforms"),
    ),
    Layer(
        "integrations.quart",
        ours=(*INTEGRATION, *EXTENSION, "integrations.asgi", "integrations.watching"),
        theirs=("markupsafe", "quart", "werkzeug"),
    ),
    # Its asynchronous half shares what ASGI integrations share.
    Layer(
        "integrations.django",
        ours=(*INTEGRATION, *SYNC, "core.data", "core.ops", "core.record", "integrations.asgi"),
        theirs=("django", "asgiref"),
    ),
    Layer(
        "integrations.django.management",
        ours=("cli", "core.errors", "integrations.django"),
        theirs=("django",),
    ),
    Layer("bff", ours=("core", "manager", "session"), theirs=("httpx", "joserfc")),
    Layer("ui", ours=("manager", "session", "core.events"), theirs=("jinja2", "starlette")),
    Layer("audit", ours=("core.cookies",), theirs=("httpcore",)),
    Layer("audit.pytest_plugin", ours=("audit",), theirs=("pytest",)),
    Layer(
        "testing",
        ours=(
            "core",
            "drive",
            "manager",
            "running",
            "session",
            "adapters",
            "stores.base",
            "stores.memory",
        ),
        theirs=("hypothesis", "pytest"),
    ),
    Layer("cli", ours=ANYTHING, theirs=ANYTHING),
)

# What core may take from the standard library: nothing here waits, or knows what time it is.
PURE = frozenset(
    "__future__ abc base64 binascii collections contextlib dataclasses datetime enum functools "
    "hashlib hmac html ipaddress itertools json math operator re string struct types typing "
    "urllib.parse".split()
)

# Standard library modules that are somebody's driver: `theirs` must name them, as it must a wheel.
DRIVERS = frozenset({"sqlite3", "dbm"})


@dataclass(frozen=True)
class Import:
    """One import: who, whom, where it stands, and whether it runs when the module is loaded."""

    importer: str
    target: str
    line: int
    eager: bool


def _modules() -> dict[str, Path]:
    """Every module of ours by its name within strongroom; the package itself is the empty name."""
    found: dict[str, Path] = {}
    for path in sorted((SRC / "strongroom").rglob("*.py")):
        parts = path.relative_to(SRC / "strongroom").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(module: str, path: Path) -> Iterator[Import]:
    """Each import of a module, with relative ones resolved."""
    package = ["strongroom", *module.split(".")] if module else ["strongroom"]
    if path.name != "__init__.py":
        package.pop()

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            for target in _targets(child, package):
                yield Import(module, target, getattr(child, "lineno", 0), eager)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from visit(child, eager and not inside and not typing_only)

    yield from visit(ast.parse(path.read_text(encoding="utf-8"), str(path)), eager=True)


def _targets(node: ast.AST, package: list[str]) -> list[str]:
    """The absolute names that a node imports."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=base, names=names, level=level):
            start = package[: len(package) - level + 1] if level else []
            base_name = ".".join([*start, *([base] if base else [])])
            # `from strongroom.core import tokens` imports a module, not a name in one.
            return [
                f"{base_name}.{alias.name}" if _is_ours(f"{base_name}.{alias.name}") else base_name
                for alias in names
            ]
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]) if ast.unparse(
            function
        ).endswith(("import_module", "__import__")):
            return [".".join(package) + name if name.startswith(".") else name]
    return []


def _is_ours(name: str) -> bool:
    return name.removeprefix("strongroom.") in MODULES and name.startswith("strongroom.")


def _within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(
        prefix == "*" or module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes
    )


def _layer_of(module: str) -> Layer | None:
    """The longest row that covers a module. The rows of bare packages cover only themselves."""
    bare = {layer.module for layer in LAYERS} & {"", "stores", "integrations"}
    rows = [
        layer
        for layer in LAYERS
        if layer.module == module or (layer.module not in bare and _within(module, (layer.module,)))
    ]
    return max(rows, key=lambda layer: len(layer.module), default=None)


def _complaint(layer: Layer, found: Import) -> str | None:
    """What is wrong with an import, and what to do about it; None if nothing is."""
    top = found.target.partition(".")[0]
    if top == "strongroom":
        return _complaint_about_ours(layer, found)
    if top in sys.stdlib_module_names and top not in DRIVERS:
        if layer.module == "core" and not _within(found.target, tuple(PURE)):
            return (
                f"core is pure and must not import {found.target}: have the caller hand in what it "
                "gives (time, entropy, IO)."
            )
        return None
    if _within(top, layer.theirs):
        return None
    return (
        f"{layer.module or 'strongroom'} must not import {found.target}; it may use "
        f"{', '.join(layer.theirs) or 'no third-party package'}. Put the code that needs it into "
        "the layer that owns it, or hand the result in."
    )


def _complaint_about_ours(layer: Layer, found: Import) -> str | None:
    target = found.target.removeprefix("strongroom").removeprefix(".")
    itself = (layer.module,) if layer.module not in {"", "stores", "integrations"} else ()
    if _within(target, (*itself, *layer.ours)):
        return None
    if _within(target, layer.lazily):
        if not found.eager:
            return None
        return f"import strongroom.{target} inside the function that needs it, not at the top."
    return (
        f"{layer.module or 'strongroom'} may import {', '.join(layer.ours) or 'nothing of ours'}, "
        f"not strongroom.{target}. Move the code inwards, or pass the object in; if the design "
        "itself changed, change LAYERS in this file and say so in the commit."
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "strongroom")
def test_imports_point_inwards(module: str) -> None:
    """A module imports only what its layer may."""
    layer = _layer_of(module)
    assert layer is not None, (
        f"strongroom.{module} has no row in LAYERS: decide which layer it is, and add it."
    )
    path = MODULES[module]
    complaints = [
        f"{path.relative_to(SRC.parent)}:{found.line}: {complaint}"
        for found in _imports(module, path)
        if (complaint := _complaint(layer, found))
    ]
    assert not complaints, "\n" + "\n".join(complaints)


@pytest.mark.parametrize("module", [module for module in MODULES if _within(module, ("core",))])
def test_the_core_neither_waits_nor_looks_around(module: str) -> None:
    """No async, no file, no terminal and no clock, whatever the imports say."""
    path = MODULES[module]
    found = [
        f"{path.relative_to(SRC.parent)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)[:60]}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if _looks_around(node)
    ]
    assert not found, "core is a function of its arguments; hand these in:\n" + "\n".join(found)


def _looks_around(node: ast.AST) -> bool:
    match node:
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            return True
        case ast.Call(func=ast.Name(id="open" | "print" | "input" | "exec" | "eval")):
            return True
        case ast.Call(func=ast.Attribute(value=owner, attr="now" | "utcnow" | "today")):
            # The machine's clock; a clock that was handed in (`ctx.now()`) is the caller's.
            return ast.unparse(owner).endswith(("datetime", "date"))
    return False


def test_a_forbidden_import_is_found() -> None:
    """The rules bite: each of these imports would be refused, and each allowed one passes."""
    refused = [
        Import("core.tokens", "os", 1, eager=True),
        Import("core.tokens", "msgspec", 1, eager=False),
        Import("core.tokens", "strongroom.manager", 1, eager=False),
        Import("stores.sqlite", "strongroom.stores.memory", 1, eager=True),
        Import("stores.memory", "sqlite3", 1, eager=True),
        Import("manager", "strongroom.stores.sqlite", 1, eager=False),
        Import("integrations.flask", "strongroom.integrations.asgi", 1, eager=True),
        Import("audit", "strongroom.core.tokens", 1, eager=True),
        Import("", "strongroom.manager", 1, eager=True),
    ]
    allowed = [
        Import("core.tokens", "strongroom.core.errors", 1, eager=True),
        Import("core.tokens", "urllib.parse", 1, eager=True),
        Import("integrations.starlette", "strongroom.integrations.asgi", 1, eager=True),
        Import("", "strongroom.manager", 1, eager=False),
        Import("cli.show", "strongroom.stores.sqlite", 1, eager=True),
    ]
    for found in refused + allowed:
        layer = _layer_of(found.importer)
        assert layer is not None, found
        assert bool(_complaint(layer, found)) == (found in refused), found


def test_importing_strongroom_loads_nothing_heavy() -> None:
    """`import strongroom` loads no framework, no driver, and not even our two dependencies."""
    code = "import sys, json; import strongroom; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    heavy = {
        *("cryptography", "msgspec", "asyncio", "ssl", "sqlite3", "redis", "psycopg", "httpx"),
        *("starlette", "fastapi", "pydantic", "litestar", "flask", "django", "jinja2", "anyio"),
        *("quart", "aiohttp", "werkzeug", "click", "itsdangerous"),
    }
    assert not loaded & heavy, "import these inside the functions that need them"
