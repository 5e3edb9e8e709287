"""A Valkey store's URL: what it can say, and that a wrong one is refused without repeating it."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from strongroom.core.errors import ConfigurationError, StoreUnavailable
from strongroom.core.ops import Find
from strongroom.stores.urls import SCHEMES, open_async_store, open_store
from strongroom.stores.valkey import Address, AsyncValkeyStore, Mode, Settings, ValkeyStore
from strongroom.stores.valkey.urls import settings_from


def settings(url: str, **options: object) -> Settings:
    return settings_from(urlsplit(url), options)


def test_a_server_alone():
    """Host, port, database, user and password; each has its usual default."""
    plain = settings("valkey://db")
    assert (plain.addresses, plain.mode, plain.database) == (
        (Address("db", 6379),),
        Mode.SINGLE,
        0,
    )
    assert plain.login.words == ()
    full = settings("redis://shop:p%40ss%2Fw@[::1]:7000/3", prefix="shop:", durable_ends=2)
    assert full.addresses == (Address("::1", 7000),)
    assert (full.database, full.prefix, full.replicas) == (3, "shop:", 2)
    assert full.login.words == ("shop", "p@ss/w")
    assert settings("redis://:secret@db").login.words == ("secret",)


def test_sentinels():
    """Several hosts, the primary's name as the path, and a login of their own."""
    found = settings("valkey+sentinel://a,b:1,[::2]:3/rooms/2", sentinel_password="s")
    assert found.addresses == (Address("a", 26379), Address("b", 1), Address("::2", 3))
    assert (found.mode, found.primary_name, found.database) == (Mode.SENTINEL, "rooms", 2)
    assert found.sentinel_login.words == ("s",)


def test_a_cluster():
    """Some of its nodes are enough."""
    found = settings("redis+cluster://a,b:7001")
    assert (found.mode, found.addresses) == (Mode.CLUSTER, (Address("a", 6379), Address("b", 7001)))


def test_tls_is_in_the_schemes_name():
    """Certificates and host names are always checked: there is no option that turns it off."""
    for scheme in SCHEMES:
        if scheme.startswith(("valkeys", "rediss")):
            url = f"{scheme}://a" + ("/rooms" if "sentinel" in scheme else "")
            tls = settings(url).tls
            assert tls is not None
            assert tls.check_hostname
    assert settings("valkey://a").tls is None


@pytest.mark.parametrize(
    "url",
    [
        "valkey://",
        "valkey://u:hunter2@",
        "valkey://u:hunter2@host:port",
        "valkey://u:hunter2@host:99999",
        "valkey://u:hunter2@host/zero",
        "valkey://u:hunter2@host/0/1",
        "valkey+sentinel://u:hunter2@a,b",
        "valkey+cluster://u:hunter2@a/1",
        "valkey+cluster://u:hunter2@a,,b",
        "valkey://u:hunter2@host?prefix={x}",
        "valkey://u:hunter2@host?prefix=",
        "valkey://u:hunter2@host?timeout_ms=0",
        "valkey://u:hunter2@host?timeout_ms=5000&patience_ms=100",
        "valkey://u:hunter2@host?tls_ca=/etc/ca.pem",
        "valkeys://u:hunter2@host?tls_ca=/no/such/hunter2.pem",
        "valkey://u:hunter2@host?durable_ends=two",
        "valkey://u:hunter2@host?hunter2=1",
    ],
)
def test_a_wrong_url_is_refused(url: str):
    """With a sentence that says what to write, and no part of a password (P5)."""
    for opening in (open_store, open_async_store):
        with pytest.raises(ConfigurationError) as refused:
            opening(url)
        assert "hunter2@" not in str(refused.value)
        assert "u:hunter2" not in str(refused.value)
        assert refused.value.hint


def test_no_store_shows_its_password():
    """Neither store nor settings, nor the login itself, in any `repr` (P5)."""
    url = "valkey://user:hunter2@127.0.0.1:1/0?prefix=x:"
    found = settings(url)
    for shown in (open_store(url), open_async_store(url), found, found.login):
        assert "hunter2" not in repr(shown)
    assert isinstance(open_store(url), ValkeyStore)
    assert isinstance(open_async_store(url), AsyncValkeyStore)


def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch):
    """With the command that installs it; the password is not repeated."""
    for name in [each for each in sys.modules if each.startswith("strongroom.stores.valkey")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hiredis", None)
    with pytest.raises(ConfigurationError, match="strongroom\\[valkey\\]") as refused:
        open_store("valkey://u:hunter2@host")
    assert "hunter2" not in str(refused.value)


def test_before_it_is_opened_nothing_is_answered(tmp_path: Path):
    """A store that was never opened, or whose server is not there, says so (P22)."""
    store = open_store("valkey://127.0.0.1:1?timeout_ms=50&patience_ms=50")
    with pytest.raises(StoreUnavailable, match="not open"):
        store.find(Find(bytes(16)))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
        store.open(bytes(16))
    store.close()
