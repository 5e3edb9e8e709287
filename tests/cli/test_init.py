"""`strongroom init`: what it writes works, what exists is left alone, and no code is run."""

from __future__ import annotations

import ast
import importlib
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from strongroom import keyfile
from strongroom.cli import init
from tests.cli.runner import KEYS, Desk

SHOP = """\
from typing import Annotated

from fastapi import FastAPI, Form
from strongroom.integrations.fastapi import CurrentSession

app = FastAPI(
    title="Shop",
)


@app.post("/sign-in")
async def sign_in(session: CurrentSession, name: Annotated[str, Form()]) -> None:
    await session.sign_in(name)


@app.get("/")
def home(session: CurrentSession) -> str | None:
    return session.subject
"""
BROWSER = {"sec-fetch-site": "same-origin"}


def lay(**files: str) -> None:
    """Files in the folder of the desk: `app__main` is app/main.py."""
    for name, text in files.items():
        path = Path(name.replace("__", "/")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def told(desk: Desk, line: str = "") -> dict[str, Any]:
    """What `init` says in JSON."""
    answer = desk.say(f"init --json {line}")
    assert answer.code == 0, answer.err
    document: dict[str, Any] = json.loads(answer.out)
    return document


def insert(path: str, lines: list[dict[str, Any]]) -> None:
    """Put the printed lines where they are said to belong, the last one first."""
    rows = Path(path).read_text("utf-8").splitlines()
    for line in reversed(lines):
        rows.insert(line["after_line"], line["text"])
    Path(path).write_text("\n".join(rows) + "\n", "utf-8")


def everything() -> dict[str, bytes]:
    """Each file of the folder, with its bytes."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("folder", ["", "shop/", "src/"])
def test_a_project_signs_in_with_what_was_written(
    desk: Desk, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two printed lines, where they are said to go, are all that is missing."""
    lay(**{f"{folder}main": SHOP})
    if folder == "shop/":
        lay(shop____init__="")
    document = told(desk)
    insert(document["application"]["path"], document["lines"])
    monkeypatch.setenv("STRONGROOM_DEVELOPMENT", "1")
    monkeypatch.syspath_prepend("src" if folder == "src/" else "")
    name = "shop.main" if folder == "shop/" else "main"
    try:
        app = importlib.import_module(name).app
        with TestClient(app, base_url="http://localhost:8000") as browser:
            assert browser.get("/").json() is None
            assert browser.post("/sign-in", data={"name": "alice"}, headers=BROWSER).is_success
            assert browser.get("/").json() == "alice"
    finally:
        for each in ("main", "sessions", "shop", "shop.main", "shop.sessions"):
            sys.modules.pop(each, None)
    before = everything()
    assert "calls add_sessions already" in desk.say("init").out
    assert everything() == before


@pytest.mark.parametrize(("development", "expected"), [("1", True), ("", False), ("0", False)])
@pytest.mark.parametrize("framework", init.FRAMEWORKS)
def test_the_module_is_for_https_unless_told_otherwise(
    desk: Desk, framework: str, development: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable says that it is development; nothing, or anything else, is production."""
    told(desk, f"--framework {framework}")
    monkeypatch.setenv("STRONGROOM_DEVELOPMENT", development)
    module: dict[str, Any] = {}
    exec(Path("sessions.py").read_text("utf-8"), module)
    assert module["policy"].development is expected


def test_an_asgi_application_is_wrapped(desk: Desk) -> None:
    """Found by its three arguments; the printed line gives the name to what wraps it."""
    lay(main="async def app(scope, receive, send):\n    raise NotImplementedError\n")
    document = told(desk)
    assert document["framework"] == "asgi"
    insert("main.py", document["lines"])
    text = Path("main.py").read_text("utf-8")
    assert text.startswith("from sessions import add_sessions\n")
    assert text.endswith("raise NotImplementedError\napp = add_sessions(app)\n")


@pytest.mark.parametrize(
    ("files", "framework", "reason"),
    [
        ({"main.py": "import fastapi\napi = fastapi.FastAPI()"}, "fastapi", "made at main.py:2"),
        ({"main.py": "app: Starlette = Starlette()"}, "starlette", "made at main.py:1"),
        ({"main.py": "from starlette import routing"}, "starlette", "imported here"),
        ({"requirements.txt": "uvicorn\nFastAPI[all]>=0.1\n"}, "fastapi", "in requirements.txt"),
        (
            {"requirements/base.txt": "-r x\n# starlette\nstarlette==1\n"},
            "starlette",
            "in requirements/base.txt",
        ),
        ({"pyproject.toml": '[project]\ndependencies = ["fastapi"]'}, "fastapi", "pyproject"),
        (
            {"pyproject.toml": '[tool.poetry.dependencies]\nstarlette = "*"'},
            "starlette",
            "pyproject",
        ),
        (
            {"pyproject.toml": '[dependency-groups]\nweb = ["fastapi", {include-group = "x"}]'},
            "fastapi",
            "pyproject",
        ),
    ],
)
def test_the_framework_is_found(
    desk: Desk, files: dict[str, str], framework: str, reason: str
) -> None:
    """In code first, then in what is imported, then in the lists of packages."""
    for name, text in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text, "utf-8")
    document = told(desk, "--dry-run")
    assert document["framework"] == framework and reason in document["found"]


@pytest.mark.parametrize(
    "text",
    [
        "# FastAPI()\n'FastAPI()'",
        "def broken(",
        "\0",
        "(" * 5000,
        "\udcff",
        "import fast_api",
    ],
)
def test_what_only_looks_like_a_framework_is_none(desk: Desk, text: str) -> None:
    """Comments, strings and code that is broken; each failure says what there is."""
    Path("main.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    Path("pyproject.toml").write_text('project = "fastapi"\ntool = [1]\n')
    answer = desk.say("init")
    assert answer.code == 2
    assert "for FastAPI, for Starlette, and for any other ASGI" in answer.err
    assert "--framework fastapi|starlette|asgi" in answer.err
    assert sorted(everything()) == ["main.py", "pyproject.toml"]


def test_another_framework_is_named(desk: Desk) -> None:
    """A sentence about Flask helps more than one about nothing."""
    lay(main="from flask import Flask\n")
    assert "There is no middleware for Flask." in desk.say("init").err


def test_no_code_is_run(desk: Desk) -> None:
    """The application is read; importing it could do anything."""
    lay(main="open('ran', 'w')\nfrom fastapi import FastAPI\napp = FastAPI()\n")
    told(desk)
    assert not Path("ran").exists()


def test_other_peoples_code_is_not_looked_at(desk: Desk) -> None:
    """Virtual environments, hidden folders and packages are not the application."""
    for folder in (".hidden", "env", "node_modules/x", "lib/site-packages/fastapi"):
        Path(folder).mkdir(parents=True)
        Path(folder, "main.py").write_text("app = FastAPI()\n")
    Path("env/pyvenv.cfg").touch()
    assert desk.say("init").code == 2


def test_looking_ends(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of very many files it stops, and says so."""
    lay(a="app = FastAPI()\n", b="", c="")
    monkeypatch.setattr(init, "MOST_FILES", 2)
    assert "Only the first 2 files" in desk.say("init --dry-run").out
    monkeypatch.setattr(init, "MOST_FOLDERS", 0)
    assert desk.say("init --dry-run").code == 2
    monkeypatch.undo()
    monkeypatch.setattr(init, "LARGEST", 3)
    assert desk.say(f"init --dry-run --dir {Path().resolve()}").code == 2


def test_an_application_counts_before_a_test_of_one(desk: Desk) -> None:
    """The one in tests/ is there for the tests; FastAPI counts before what it is made of."""
    lay(tests__app="app = FastAPI()\n", shop__app="app = FastAPI()\n", a="app = Starlette()\n")
    assert told(desk, "--dry-run")["application"]["path"] == "shop/app.py"
    assert told(desk, "--dry-run --framework starlette")["application"]["path"] == "a.py"


def test_ours_is_added_after_the_other_middleware(desk: Desk) -> None:
    """What is added last runs first. In a function the line stands where its neighbours stand."""
    lay(
        main="def make():\n    app = FastAPI()\n    app.add_middleware(\n        CORS,\n    )\n"
        "    return app\n\n\ndef other(app):\n    app.add_middleware(GZip)\n"
    )
    document = told(desk)
    assert document["lines"][1] == {"after_line": 5, "text": "    add_sessions(app)"}
    insert("main.py", document["lines"])
    ast.parse(Path("main.py").read_text("utf-8"))
    assert "uvicorn" not in desk.say("init").out


def test_another_session_middleware_is_pointed_out(desk: Desk) -> None:
    """Two of them would take each other's place."""
    lay(main=f"from starlette.middleware.sessions import SessionMiddleware\n{SHOP}")
    assert "main.py:1 has another session middleware" in desk.say("init").out


def test_nothing_is_written_over(desk: Desk) -> None:
    """A module of that name, a package of it, a link: the lines are printed instead."""
    lay(main="app = FastAPI()\n", sessions="mine = 1\n")
    answer = desk.say("init")
    assert "def add_sessions(app: FastAPI)" in answer.out and "left as it is" not in answer.err
    assert Path("sessions.py").read_text() == "mine = 1\n"
    Path("sessions.py").unlink()
    Path("sessions.py").symlink_to("nowhere.py")
    assert told(desk)["files"][-1]["action"] == "print"
    Path("sessions.py").unlink()
    Path("sessions").mkdir()
    assert told(desk)["files"][-1]["action"] == "print"
    assert not Path("sessions.py").exists() and not Path("nowhere.py").exists()


def test_a_module_that_was_changed_is_kept(desk: Desk) -> None:
    """It is theirs from the first moment."""
    lay(main="app = FastAPI()\n", sessions="def add_sessions(app): ...\n")
    assert told(desk)["files"][-1]["action"] == "keep"


def test_keys_that_are_there_are_kept(shop: Desk) -> None:
    """And keys that cannot be used are said to be so, before anything is written."""
    before = Path(KEYS).read_bytes()
    lay(main="app = FastAPI()\n")
    told(shop)
    assert Path(KEYS).read_bytes() == before
    Path("sessions.py").unlink()
    Path(KEYS).chmod(0o644)
    assert "chmod 600" in shop.say("init").err
    assert not Path("sessions.py").exists()


def test_the_keys_are_for_their_owner_and_named_after_the_project(desk: Desk) -> None:
    """Mode 600; the realm is what tells two applications apart."""
    lay(main="app = FastAPI()\n")
    Path("pyproject.toml").write_text('[project]\nname = "My_Shop.web"\n')
    told(desk)
    assert stat.S_IMODE(Path(KEYS).stat().st_mode) == 0o600
    ring = keyfile.read(KEYS)
    assert (ring.realm, ring.keys[0].created_at) == ("my-shop-web", desk.clock())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, b"var/\n"),
        (b"", b"var/\n"),
        (b"*.pyc", b"*.pyc\nvar/\n"),
        (b"*.pyc\r\n", b"*.pyc\r\nvar/\r\n"),
        (b"\xff\n", b"\xff\nvar/\n"),
        (b"# var/\n", b"# var/\nvar/\n"),
        (b"/var/\n", b"/var/\n"),
        (b" var \n", b" var \n"),
    ],
)
def test_git_ignores_the_keys_once(desk: Desk, before: bytes | None, after: bytes) -> None:
    """Appended where it is missing, never twice."""
    Path(".git").mkdir()
    if before is not None:
        Path(".gitignore").write_bytes(before)
    for _ in range(2):
        told(desk, "--framework fastapi")
        assert Path(".gitignore").read_bytes() == after


def test_git_is_left_alone_where_there_is_none(desk: Desk) -> None:
    """No .gitignore is made for nobody."""
    told(desk, "--framework fastapi")
    assert not Path(".gitignore").exists()


@pytest.mark.parametrize(("above", "ours"), [("var/\n", False), ("/var/\n", True)])
def test_a_folder_within_a_repository(desk: Desk, above: str, ours: bool) -> None:
    """What is ignored at the top is ignored below, unless it says the top alone."""
    Path(".git").mkdir()
    Path(".gitignore").write_text(above)
    Path("backend").mkdir()
    told(desk, "--framework fastapi --dir backend")
    assert Path("backend/.gitignore").exists() is ours
    assert Path("backend", KEYS).exists() and Path(".gitignore").read_text() == above


def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    """It says the same, with `would`."""
    lay(main="app = FastAPI()\n")
    Path(".git").mkdir()
    assert desk.say("init --dry-run").out.count("Would write") == 3
    assert list(everything()) == ["main.py"]


def test_a_folder_that_is_not_there(desk: Desk) -> None:
    """It is not made."""
    answer = desk.say("init --framework asgi --dir nowhere")
    assert answer.code == 2 and "no folder nowhere" in answer.err
    assert not Path("nowhere").exists()


def test_the_json_of_init_is_stable(desk: Desk) -> None:
    """Scripts read these names."""
    lay(main="app = FastAPI()\n")
    document = told(desk)
    assert list(document) == [
        *("framework", "found", "dry_run", "files", "application", "lines", "other_sessions")
    ]
    assert document["application"] == {"path": "main.py", "line": 1, "name": "app"}
    assert [list(each) for each in document["files"]] == [["path", "action", "text"]] * 2
    for secret in json.loads(Path(KEYS).read_text())["keys"]:
        assert secret["secret"] not in json.dumps(document)
