"""`strongroom init`: the key file, a small module and the two lines that an application needs.

Rules. The application's code is read and never imported, and not without end. Nothing that exists
is written over; what cannot be written is printed instead. `.gitignore` knows the folder of the
keys before there is a key in it. A second run changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from strongroom import keyfile
from strongroom.core.errors import ConfigurationError

from . import settings
from .output import DONE, Output, printable
from .parsing import Command

FRAMEWORKS = ("fastapi", "starlette", "asgi")
MOST_FILES = 2000
MOST_FOLDERS = 2000
LARGEST = 1_000_000
"""Where looking ends: files of Python, folders, and bytes of one file. No application's own code
is near them; a folder of somebody's whole disk is."""

MODULE = "sessions"
DEVELOPMENT_VARIABLE = "STRONGROOM_DEVELOPMENT"

_VAR = settings.DEFAULT_KEYS.parent.as_posix() + "/"
_CALLS = {"FastAPI": "fastapi", "Starlette": "starlette"}
_ASGI = ["scope", "receive", "send"]
_OTHERS = ("django", "flask", "litestar", "sanic", "aiohttp", "tornado", "bottle", "pyramid")
_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__", "build", "dist", "var"})
_ASIDE = frozenset({"tests", "test", "docs", "examples", "scripts", "bench"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where an application is made: `name = FastAPI(...)`. Paths are relative to the folder.

    `after` is the line that the call comes after, `indent` its column; `is_global` says whether a
    server can be told its name. `has_sessions` is where it already calls ours.
    """

    framework: str
    path: Path
    line: int
    name: str
    after: int
    indent: int
    is_global: bool
    has_sessions: int | None


@dataclass(slots=True)
class Findings:
    """What stands in a folder."""

    places: list[Place] = field(default_factory=list[Place])
    imported: set[str] = field(default_factory=set[str])
    declared: dict[str, str] = field(default_factory=dict[str, str])
    other_sessions: list[str] = field(default_factory=list[str])
    is_cut_short: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """One file: what is done with it (`write`, `append`, `keep`, `print`), and the text."""

    path: Path
    action: str
    text: str = ""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--framework",
        type=_known,
        metavar="NAME",
        help=f"{', '.join(FRAMEWORKS)} (else the one that is found)",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="the folder that the application is started in (default: this one)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say it, and write nothing")


def _known(name: str) -> str:
    if name not in FRAMEWORKS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(FRAMEWORKS)}")
    return name


def init(options: argparse.Namespace, out: Output) -> int:
    """Write what is missing, and print what is left to do."""
    folder: Path = options.dir
    if not folder.is_dir():
        raise ConfigurationError(
            f"There is no folder {folder}.", hint="Name the one that the application is started in."
        )
    found = _look(folder)
    framework, reason = _framework(options.framework, found)
    place = next((each for each in found.places if each.framework == framework), None)
    beside = place.path.parent if place else Path()
    files = [
        *_ignored(folder),
        _keys(folder),
        _module(folder / beside / f"{MODULE}.py", framework),
    ]
    if not options.dry_run:
        for file in files:
            _carry_out(file, folder, out)
    lines = _lines(folder, beside, framework, place)
    document = {
        "framework": framework,
        "found": reason,
        "dry_run": options.dry_run,
        "files": [
            {
                "path": str(each.path),
                "action": each.action,
                "text": each.text if each.action == "print" else None,
            }
            for each in files
        ],
        "application": place and _as_json(folder, place),
        "lines": lines,
        "other_sessions": found.other_sessions,
    }
    told = [f"{_NAMES[framework]}: {reason}.", *_told(files, options)]
    if found.is_cut_short:
        told.append(
            f"Only the first {MOST_FILES} files were looked at; name the folder with --dir."
        )
    told += _to_add(folder, place, lines)
    for where in found.other_sessions:
        told += ["", f"{where} has another session middleware, which would take this one's place:",
                 "  take it out. Sessions from under it end."]  # fmt: skip
    out.answer(document, [*told, *_next(folder, beside, place)])
    return DONE


def _as_json(folder: Path, place: Place) -> dict[str, Any]:
    return {"path": str(folder / place.path), "line": place.line, "name": place.name}


_NAMES = {"fastapi": "FastAPI", "starlette": "Starlette", "asgi": "ASGI"}


# What is found


def _look(folder: Path) -> Findings:
    """Read the folder's code and its lists of packages."""
    found = Findings(declared=_declared(folder))
    for number, path in enumerate(_sources(folder, found)):
        if number >= MOST_FILES:
            found.is_cut_short = True
            break
        tree = _parsed(folder / path)
        if tree is not None:
            _read(tree, path, found)
    found.places.sort(
        key=lambda place: (
            bool(_ASIDE & set(place.path.parts)),
            list(_NAMES).index(place.framework),
            len(place.path.parts),
        )
    )
    return found


def _sources(folder: Path, found: Findings) -> Iterator[Path]:
    """The folder's Python files; not those of others, of virtual environments or of builds."""
    for number, (root, folders, names) in enumerate(os.walk(folder)):
        if number >= MOST_FOLDERS:
            found.is_cut_short = True
            return
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if name.endswith(".py"):
                yield (here / name).relative_to(folder)


def _parsed(path: Path) -> ast.Module | None:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what there is to say of their code, others say
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _read(tree: ast.Module, path: Path, found: Findings) -> None:
    """Add what one file has to the findings."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.imported |= {each.name.partition(".")[0] for each in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.imported.add(module.partition(".")[0])
                if module in ("starlette.middleware.sessions", "starsessions"):
                    found.other_sessions.append(f"{path}:{node.lineno}")
            case _:
                pass
    for statement, target, framework in _made(tree):
        name = ast.unparse(target) if target is not None else "app"
        found.places.append(_place(tree, path, statement, name, framework))


def _made(tree: ast.Module) -> Iterator[tuple[ast.stmt, ast.expr | None, str]]:
    """Each statement that makes an application, what it is assigned to, and its framework."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(targets=[target, *_], value=ast.Call(func=function))
                | ast.AnnAssign(target=target, value=ast.Call(func=function))
            ) if framework := _CALLS.get(ast.unparse(function).rpartition(".")[2]):
                yield node, target, framework
            case ast.AsyncFunctionDef() if [each.arg for each in node.args.args] == _ASGI:
                if node in tree.body:
                    yield node, ast.Name(node.name), "asgi"
            case _:
                pass


def _place(tree: ast.Module, path: Path, statement: ast.stmt, name: str, framework: str) -> Place:
    """Where ours is to be called: last, and so outermost, after the other middleware."""
    after = statement.end_lineno or statement.lineno
    has_sessions, column = None, 0
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        beside = cast("list[ast.stmt]", body) if isinstance(body, list) else []
        if statement in beside:
            added = (each.end_lineno or 0 for each in beside if _adds_to(name, each))
            after = max(after, *added, 0)
            column = beside[0].col_offset
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "add_sessions":
            has_sessions = node.lineno
    is_global = statement in tree.body and name.isidentifier()
    return Place(framework, path, statement.lineno, name, after, column, is_global, has_sessions)


def _adds_to(name: str, statement: ast.AST) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr="add_middleware"))):
            return ast.unparse(owner) == name
        case _:
            return False


def _declared(folder: Path) -> dict[str, str]:
    """The packages that the project says it needs, each with the file that says so."""
    declared: dict[str, str] = {}
    for path in sorted([*folder.glob("requirements*.txt"), *folder.glob("requirements/*.txt")]):
        for line in _text(path).splitlines():
            declared.setdefault(_package(line), path.relative_to(folder).as_posix())
    for need in _needs(_project(folder)):
        declared.setdefault(_package(need), "pyproject.toml")
    declared.pop("", None)
    return declared


def _project(folder: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(_text(folder / "pyproject.toml"))
    except tomllib.TOMLDecodeError:
        return {}


def _needs(project: dict[str, Any]) -> list[str]:
    own, poetry = _table(project, "project"), _table(project, "tool", "poetry", "dependencies")
    groups = [own.get("dependencies"), *_table(own, "optional-dependencies").values()]
    groups += _table(project, "dependency-groups").values()
    lists: list[list[Any]] = [each for each in groups if isinstance(each, list)]
    return [need for each in lists for need in each if isinstance(need, str)] + list(poetry)


def _table(document: Any, *names: str) -> dict[str, Any]:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None  # pyright: ignore
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _package(line: str) -> str:
    name = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", line)
    return re.sub(r"[-_.]+", "-", name[1]).lower() if name else ""


def _text(path: Path) -> str:
    try:
        if path.is_file() and path.stat().st_size <= LARGEST:
            return path.read_text("utf-8", errors="replace")
    except OSError:
        pass
    return ""


def _framework(named: str | None, found: Findings) -> tuple[str, str]:
    """Which framework it is, and how that is known: applications first, then imports, then needs.

    Raises:
        ConfigurationError: it is none that there is a middleware for, or there is nothing here.
    """
    if named:
        places = [each for each in found.places if each.framework == named]
        return named, f"made at {places[0].path}:{places[0].line}" if places else "as you said"
    if found.places:
        first = found.places[0]
        return first.framework, f"made at {first.path}:{first.line}"
    for framework in ("fastapi", "starlette"):
        if framework in found.imported:
            return framework, "imported here"
        if framework in found.declared:
            return framework, f"named in {found.declared[framework]}"
    others = [each for each in _OTHERS if each in found.imported or each in found.declared]
    raise ConfigurationError(
        f"There is no middleware for {others[0].capitalize()}."
        if others
        else "No framework was found here.",
        why="There is a middleware for FastAPI, for Starlette, and for any other ASGI application; "
        "neither the code nor the lists of packages name one.",
        hint=f"Name the folder with --dir, or say it: --framework {'|'.join(FRAMEWORKS)}",
    )


# What is written


def _keys(folder: Path) -> File:
    """The key file; one that exists must be of use, and is kept."""
    path = folder / settings.DEFAULT_KEYS
    if path.exists() or path.is_symlink():
        keyfile.read(path)
        return File(path, "keep")
    return File(path, "write")


def _module(path: Path, framework: str) -> File:
    """The module, unless it is there; another one of that name is the application's own."""
    text = _text_of_module(framework)
    tree = _parsed(path)
    if tree and any(getattr(each, "name", "") == "add_sessions" for each in tree.body):
        return File(path, "keep")
    taken = path.exists() or path.is_symlink() or path.with_suffix("").exists()
    return File(path, "print" if taken else "write", text)


def _ignored(folder: Path) -> list[File]:
    """The .gitignore, where git is used: the folder of the keys stands in it once."""
    path = folder / ".gitignore"
    above = [folder.resolve(), *folder.resolve().parents]
    top = next((number for number, each in enumerate(above) if (each / ".git").exists()), None)
    if top is None and not path.exists():
        return []
    name = _VAR.rstrip("/")
    anywhere = {name, _VAR, f"**/{name}", f"**/{_VAR}"}
    here = anywhere | {f"/{name}", f"/{_VAR}", f"{_VAR}*", f"/{_VAR}*", f"{_VAR}**", f"/{_VAR}**"}
    for number, each in enumerate(above[: (top or 0) + 1]):
        known = here if number == 0 else anywhere
        if known & {line.strip() for line in _text(each / ".gitignore").splitlines()}:
            return [File(path if number == 0 else each / ".gitignore", "keep")]
    return [File(path, "append" if path.exists() else "write", _VAR + "\n")]


def _carry_out(file: File, folder: Path, out: Output) -> None:
    if file.action == "write" and file.path == folder / settings.DEFAULT_KEYS:
        keyfile.write(file.path, keyfile.generate(_realm(folder), out.world.clock()))
    elif file.action == "write":
        with file.path.open("x", encoding="utf-8") as stream:
            stream.write(file.text)
    elif file.action == "append":
        with file.path.open("r+b") as stream:
            before = stream.read()
            ending = b"\r\n" if before.endswith(b"\r\n") else b"\n"
            missing = b"" if not before or before.endswith(b"\n") else b"\n"
            stream.write(missing + file.text.encode().replace(b"\n", ending))


def _realm(folder: Path) -> str:
    """The project's name, or else the folder's: it keeps two applications' sessions apart."""
    name = _table(_project(folder), "project").get("name") or folder.resolve().name
    return re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-")[:64] or "default"


_TEMPLATE = f'''"""Sessions, by Strongroom. Written by `strongroom init`; yours to change."""

import os
{{imports}}

# {DEVELOPMENT_VARIABLE}=1 is for http://localhost alone. Without it: https, and safe cookies.
is_development = os.environ.get("{DEVELOPMENT_VARIABLE}") == "1"
policy = SessionPolicy.for_development() if is_development else SessionPolicy()

# Relative to the folder that the application is started in. Keep it out of version control.
STORE = "{settings.DEFAULT_STORE}"
KEYS = "{settings.DEFAULT_KEYS.as_posix()}"


{{function}}
'''

_ADDING = '''def add_sessions(app: {application}) -> None:
    """Give every request a session. To be called last: what is added last runs first."""
    app.add_middleware(SessionMiddleware, store=STORE, keys=KEYS, policy=policy)'''

_WRAPPING = '''def add_sessions(app: ASGIApp) -> ASGIApp:
    """The application with a session in every scope. Serve what this returns."""
    return SessionMiddleware(app, store=STORE, keys=KEYS, policy=policy)'''


def _text_of_module(framework: str) -> str:
    imports = ["from strongroom import SessionPolicy"]
    names = "ASGIApp, SessionMiddleware" if framework == "asgi" else "SessionMiddleware"
    imports.append(f"from strongroom.integrations.{framework} import {names}")
    if framework == "asgi":
        return _TEMPLATE.format(imports="\n" + "\n".join(imports), function=_WRAPPING)
    application = _NAMES[framework]
    source = "starlette.applications" if framework == "starlette" else "fastapi"
    imports.insert(0, f"\nfrom {source} import {application}")
    return _TEMPLATE.format(
        imports="\n".join(imports), function=_ADDING.format(application=application)
    )


# What is told


def _lines(folder: Path, beside: Path, framework: str, place: Place | None) -> list[dict[str, Any]]:
    """The two lines that the application still needs; none where it has them."""
    if place is not None and place.has_sessions:
        return []
    is_package = (folder / beside / "__init__.py").exists() or beside.parts not in ((), ("src",))
    name = place.name if place else "app"
    call = f"{name} = add_sessions({name})" if framework == "asgi" else f"add_sessions({name})"
    return [
        {
            "after_line": None if place is None else _last_import(folder / place.path),
            "text": f"from {'.' if is_package else ''}{MODULE} import add_sessions",
        },
        {
            "after_line": None if place is None else place.after,
            "text": " " * (place.indent if place else 0) + call,
        },
    ]


def _last_import(path: Path) -> int:
    tree = _parsed(path)
    body = tree.body if tree else []
    imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom)]
    return max((each.end_lineno or 0 for each in imports), default=0)


def _told(files: list[File], options: argparse.Namespace) -> list[str]:
    if all(file.action == "keep" for file in files):
        names = " and ".join(f"{file.path}" for file in files if file.path.name != ".gitignore")
        return [f"Nothing was changed: {printable(names)} are there already."]
    said = {"write": "Wrote", "append": "Added", "keep": "Kept"}
    if options.dry_run:
        said = {"write": "Would write", "append": "Would add", "keep": "Would keep"}
    told: list[str] = []
    for file in files:
        path = printable(file.path)
        if file.action == "print":
            told += [
                f"{path} was there, and was left as it is. Put these lines into it, or elsewhere:",
                "",
            ]
            told += [textwrap.indent(file.text, "    ").rstrip(), ""]
        elif file.action == "append":
            told.append(f"{said['append']} {_VAR} to {path}.")
        else:
            told.append(f"{said[file.action]} {path}{_why(file, options.dir)}.")
    return told


def _why(file: File, folder: Path) -> str:
    if file.action == "keep":
        return ", which is there already"
    if file.path.name == settings.DEFAULT_KEYS.name:
        return f": a key, realm {_realm(folder)!r}, readable by you alone"
    return f": {_VAR}" if file.path.name == ".gitignore" else ": add_sessions(app), and the policy"


def _to_add(folder: Path, place: Place | None, lines: list[dict[str, Any]]) -> list[str]:
    if not lines:
        assert place is not None  # noqa: S101 - there are always lines without one
        where = f"{folder / place.path}:{place.has_sessions}"
        return ["", f"The application calls add_sessions already, at {printable(where)}."]
    first, second = (line["text"] for line in lines)
    if place is None:
        return ["", "Add two lines where the application is made:", f"  {first}", f"  {second}"]
    return [
        "",
        f"Add two lines to {printable(folder / place.path)}:",
        f"  with the imports, after line {lines[0]['after_line']}:  {first}",
        f"  after line {lines[1]['after_line']}:  {second}",
    ]


def _next(folder: Path, beside: Path, place: Place | None) -> list[str]:
    module = ".".join((*(part for part in beside.parts if part != "src"), MODULE))
    told = ["", "Next:"]
    if place is not None and place.is_global:
        application = ".".join((*module.split(".")[:-1], place.path.stem))
        told.append(
            f"  Try it on http://localhost:8000: {DEVELOPMENT_VARIABLE}=1 "
            f"uvicorn {application}:{place.name}"
        )
    else:
        told.append(f"  Try it on http://localhost with {DEVELOPMENT_VARIABLE}=1 set.")
    return [
        *told,
        f"  On the server leave {DEVELOPMENT_VARIABLE} out, and make other keys there:",
        f"    strongroom keys generate --realm {_realm(folder)[:53]}-production",
        f"  See that all is well: strongroom doctor --policy {module}:policy",
    ]


COMMANDS = (
    Command(
        "init",
        "Write the keys and the few lines that an application needs.",
        """Looks which framework the folder's code uses, without running any of it. Then it writes
        a key file (var/strongroom.keys, for its owner alone) and a small module, sessions.py,
        beside the application; lets git ignore var/, where git is used; and prints the two lines
        that you add.

        What exists is never written over: where the module's name is taken, its lines are printed.
        A second run changes nothing, and says so.""",
        (
            "strongroom init",
            "strongroom init --dry-run",
            "strongroom init --framework starlette --dir backend",
        ),
        _options,
        init,
    ),
)
