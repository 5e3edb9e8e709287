"""A store's URL, as settings. `stores.urls` calls this once the scheme is known.

A URL may carry a password, so no message repeats any part of it.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import SplitResult, unquote

from strongroom.core.errors import ConfigurationError

from .settings import PATIENCE_MS, PREFIX, TIMEOUT_MS, Address, Login, Mode, Settings

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

_MODES = {"": Mode.SINGLE, "sentinel": Mode.SENTINEL, "cluster": Mode.CLUSTER}
_TLS = ("valkeys", "rediss")


def settings_from(parts: SplitResult, options: dict[str, Any]) -> Settings:
    """The settings that the URL and its options say.

    Raises:
        ConfigurationError: something in it is not what it has to be.
    """
    kind, _, how = parts.scheme.partition("+")
    mode = _MODES[how]
    user_and_password, _, hosts = parts.netloc.rpartition("@")
    user, _, password = user_and_password.partition(":")
    name, database = _path(parts.path, mode)
    port = SENTINEL_PORT if mode is Mode.SENTINEL else DEFAULT_PORT
    return Settings(
        addresses=tuple(_address(each, port) for each in hosts.split(",")),
        mode=mode,
        primary_name=name,
        database=database,
        login=Login(unquote(user), unquote(password)),
        sentinel_login=Login(
            options.get("sentinel_user", ""), options.get("sentinel_password", "")
        ),
        tls=_tls(options, is_on=kind in _TLS),
        prefix=options.get("prefix", PREFIX),
        timeout_ms=options.get("timeout_ms", TIMEOUT_MS),
        patience_ms=options.get("patience_ms", PATIENCE_MS),
        replicas=options.get("durable_ends", 0),
        fsync=bool(options.get("durable_fsync", 0)),
        allow_eviction=bool(options.get("allow_eviction", 0)),
    )


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:  # no port, or a colon of an IPv6 address
        host, port = text, str(default_port)
    host = unquote(host).removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ConfigurationError(
            "The Valkey store's URL names no host, or a port that is no number.",
            why="There is nobody to connect to.",
            hint="Write valkey://user:password@host:6379/0; special characters in user and "
            "password are written as %XX.",
        )
    return Address(host, int(port))


def _path(path: str, mode: Mode) -> tuple[str, int]:
    words = [unquote(each) for each in path.split("/") if each]
    name = words.pop(0) if mode is Mode.SENTINEL and words else ""
    database = words.pop(0) if words else "0"
    if words or not (database.isascii() and database.isdigit()):
        raise ConfigurationError(
            "What follows the host in the Valkey store's URL is no database number.",
            hint="Write valkey://host/0, or valkey+sentinel://host1,host2/name-of-the-primary/0.",
        )
    return name, int(database)


def _tls(options: dict[str, Any], *, is_on: bool) -> ssl.SSLContext | None:
    files = {name: options.get(name) for name in ("tls_ca", "tls_cert", "tls_key")}
    if not is_on:
        if any(files.values()):
            raise ConfigurationError(
                "The Valkey store's URL has TLS options, and a scheme without TLS.",
                why="Sessions would cross the network in the clear.",
                hint="Write valkeys:// or rediss://.",
            )
        return None
    try:
        context = ssl.create_default_context(cafile=files["tls_ca"])
        if files["tls_cert"]:
            context.load_cert_chain(files["tls_cert"], files["tls_key"])
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"A certificate or key of the Valkey store cannot be used ({error}).",
            hint="Give paths of PEM files that this user may read.",
        ) from None
    return context
