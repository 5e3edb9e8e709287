"""The pages about proxies: their files are the ones that run here, their transcripts happen."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from strongroom import keyfile
from strongroom.cli.__main__ import run
from strongroom.cli.output import World
from tests.proxies.browser import CLIENT
from tests.proxies.conftest import ONE_READER
from tests.proxies.servers import (
    DOCS,
    Certificates,
    Proxy,
    edge_caddy,
    edge_nginx,
    inner_caddy,
    shop,
)

ROOT = DOCS.parents[1]
PAGES = [ROOT / "docs" / "doctor.md", *sorted(DOCS.glob("*.md"))]
FILES = [path for path in sorted(DOCS.iterdir()) if path.suffix != ".md"]
SHOWN = re.compile(
    r"^<!-- not run: [^>]*test_pages\.py runs it: ([a-z-]+) -->\n"
    r"```console\n\$ strongroom doctor https://shop\.example([^\n]*)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
TRANSCRIPTS = [
    pytest.param(*found.groups(), id=f"{page.stem}-{found[1]}")
    for page in PAGES
    for found in SHOWN.finditer(page.read_text("utf-8"))
]
TRUSTING = {"networks": ["127.0.0.1"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_stands_on_its_page(path: Path) -> None:
    """To the letter, so that what is read is what runs."""
    pages = [page for page in PAGES if path.read_text("utf-8") in page.read_text("utf-8")]
    assert len(pages) == 1, f"{path.name} is on {len(pages)} pages"


def test_every_transcript_is_run() -> None:
    """Each block that test_docs leaves to this file is found, and each situation is used."""
    left = sum(page.read_text("utf-8").count("test_pages.py runs it") for page in PAGES)
    assert len(TRANSCRIPTS) == left
    assert {each.values[0] for each in TRANSCRIPTS} == set(SITUATIONS)


class Stage:
    """Builds a situation: what the page speaks of, and the keys that the doctor has."""

    def __init__(self, folder: Path, certificates: Certificates, keys: Path) -> None:
        self.stack = ExitStack()
        self.folder, self.certificates, self.keys = folder, certificates, keys

    def app(self, *flags: str, **trusted: object) -> int:
        """The application -> its port."""
        return self.stack.enter_context(shop(self.folder, self.keys, *flags, **trusted))

    def nginx(self, upstream: int, *changes: tuple[str, str]) -> Proxy:
        """nginx at the edge, spoiled or not."""
        return self.stack.enter_context(
            edge_nginx(self.folder, self.certificates, upstream, dict(changes))
        )


def _other_keys(stage: Stage) -> Proxy:
    proxy = stage.nginx(stage.app(ONE_READER, **TRUSTING))
    stage.keys = stage.folder / "others.keys"
    keyfile.write(stage.keys, keyfile.generate("others", time.time_ns() // 1_000_000))
    return proxy


def _caddy(stage: Stage) -> Proxy:
    app = stage.app(ONE_READER, **TRUSTING)
    return stage.stack.enter_context(edge_caddy(stage.folder, stage.certificates, app))


def _inner_caddy(stage: Stage) -> Proxy:
    trust = "\t\ttrusted_proxies static 127.0.0.1/32\n\t\ttrusted_proxies_strict\n"
    app = stage.app(ONE_READER, **TRUSTING)
    return stage.nginx(stage.stack.enter_context(inner_caddy(stage.folder, app, {trust: ""})))


SITUATIONS: dict[str, Callable[[Stage], Proxy]] = {
    "nginx": lambda stage: stage.nginx(stage.app(ONE_READER, **TRUSTING)),
    "nginx-without-x-forwarded-host": lambda stage: stage.nginx(
        stage.app(ONE_READER, **TRUSTING),
        ("proxy_set_header X-Forwarded-Host  $http_host;", ""),
    ),
    "untrusted": lambda stage: stage.nginx(stage.app(ONE_READER)),
    "other-keys": _other_keys,
    "caddy": _caddy,
    "inner-caddy-without-trust": _inner_caddy,
    "two-readers": lambda stage: stage.nginx(stage.app(**TRUSTING)),
    "star": lambda stage: stage.nginx(
        stage.app("--forwarded-allow-ips", "*"),
        ("X-Forwarded-For   $remote_addr;", "X-Forwarded-For $proxy_add_x_forwarded_for;"),
    ),
}


@pytest.fixture
def stage(folder: Path, certificates: Certificates, keys: Path) -> Iterator[Stage]:
    """An empty stage, cleared afterwards."""
    made = Stage(folder, certificates, keys)
    with made.stack:
        yield made


@pytest.mark.parametrize(("situation", "words", "shown"), TRANSCRIPTS)
def test_a_transcript_is_what_happens(situation: str, words: str, shown: str, stage: Stage) -> None:
    """Real servers, on this machine's names and ports; lines may break elsewhere for that."""
    proxy = SITUATIONS[situation](stage)
    said = io.StringIO()
    world = World(io.StringIO(), said, said, {}, lambda: time.time_ns() // 1_000_000)
    here = ["--ca", str(stage.certificates.ca), "--keys", str(stage.keys), "--from", CLIENT]
    run(
        ["doctor", proxy.origin, *words.split(), "--http-port", str(proxy.http_port), *here],
        world,
    )
    printed = re.sub(r"localhost:[0-9]+", "shop.example", said.getvalue())
    printed = " ".join(printed.replace(CLIENT, "203.0.113.7").split())
    pattern = ".*".join(re.escape(part.strip()) for part in " ".join(shown.split()).split("..."))
    assert re.fullmatch(pattern.replace(".*", " ?.* ?"), printed), f"\n{said.getvalue()}"
