"""The server that the other tests stand on does what they rely on."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from tests.support.servers import postgres

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]


def test_a_server_stops_starts_dies_and_pauses():
    """What was committed is there after a restart and after SIGKILL; nothing is left behind."""
    with postgres.running() as server:
        database = server.new_database()
        server.ask("CREATE TABLE t (n int)", database=database)
        server.ask("INSERT INTO t VALUES (%s)", 7, database=database)
        server.restart()
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            server.connect()
        server.start()
        server.pause()
        with pytest.raises(psycopg.Error):
            psycopg.connect(server.url(database), connect_timeout=2)
        server.resume()
        assert server.ask("SELECT n FROM t", database=database) == [(7,)]
        directory, process = server.directory, server._process
        assert process is not None
        assert (os.geteuid() == 0) is (directory.stat().st_uid != 0)
    assert not directory.exists()
    assert not Path(f"/proc/{process.pid}").exists()
