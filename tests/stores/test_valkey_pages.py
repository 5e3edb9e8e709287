"""What docs/valkey.md says, tried on a real server; TLS; a manager on both faces of the store."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.core.ops import Find, Watch
from strongroom.stores.urls import open_async_store, open_store
from strongroom.testing.records import IDENTITY, a_record, an_end, an_insert
from tests.support.servers import tls, valkey

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "valkey.md"


def test_what_the_page_shows_works(tmp_path: Path):
    """Its Python, with the port of a server that the test started; warnings are errors."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    command = [sys.executable, "-m", "strongroom", "keys", "generate", "var/strongroom.keys"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with valkey.single() as server:
        for block in blocks:
            code = block.replace("localhost:6379", f"127.0.0.1:{server.port}")
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", code],
                cwd=tmp_path,
                env=os.environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
        assert server.ask("EXISTS", "sr:{store}identity") == 1, "the store was opened"


def test_the_page_lists_every_option():
    """No option of the URL is missing from the table, and none is made up."""
    from strongroom.stores.urls import SCHEMES

    scheme = SCHEMES["valkey"]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    shown = {name for row in rows for name in re.findall(r"[a-z_]+", row)}
    known = {each for each in scheme.options | scheme.texts if "near_cache" not in each}
    assert shown == known


def test_sessions_travel_over_tls(tmp_path: Path):
    """Both faces and the push channel, with an authority that the URL names."""
    certificate, key = tls.self_signed(tmp_path)
    with valkey.single() as server, tls.in_front_of(server.port, certificate, key) as port:
        url = f"valkeys://127.0.0.1:{port}?tls_ca={certificate}"
        store = open_store(url)
        store.open(IDENTITY)
        record = a_record(data=random.randbytes(60_000))
        store.insert(an_insert(record))
        stop, notices = threading.Event(), list[Any]()
        watching = threading.Thread(
            target=store.watch,  # type: ignore[attr-defined]
            args=(Watch(notices.append, 0.05, stop.is_set),),
        )
        watching.start()
        valkey.until(lambda: notices, "a proof of life over TLS")

        async def find() -> None:
            other = open_async_store(url)
            await other.open(IDENTITY)
            found = await other.find(Find(record.session_id))
            assert found is not None
            assert found.record.data == record.data
            assert (await other.end(an_end(record))).applied
            await other.close()

        asyncio.run(find())
        valkey.until(
            lambda: any(record.session_id in getattr(n, "session_ids", ()) for n in notices),
            "the end is told over TLS",
        )
        stop.set()
        watching.join(10)
        store.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path):
    """Neither an unknown authority nor another host's certificate is taken, and nothing is sent."""
    certificate, key = tls.self_signed(tmp_path)
    foreign, foreign_key = tls.self_signed(tmp_path, "127.0.0.2")
    with valkey.single() as server:
        with tls.in_front_of(server.port, certificate, key) as port:
            refuses(f"valkeys://u:hunter2@127.0.0.1:{port}?patience_ms=1000")
        with tls.in_front_of(server.port, foreign, foreign_key) as port:
            refuses(f"valkeys://u:hunter2@127.0.0.1:{port}?patience_ms=1000&tls_ca={foreign}")


def refuses(url: str) -> None:
    """The store does not open, threads or loop, and says why."""
    store = open_store(url)
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate") as refused:
        store.open(IDENTITY)
    assert "hunter2" not in str(refused.value)

    async def opening() -> None:
        other = open_async_store(url)
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
            await other.open(IDENTITY)
        await other.close()

    asyncio.run(opening())
