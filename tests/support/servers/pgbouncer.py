"""A real PgBouncer in transaction mode in front of a test's PostgreSQL.

It is Debian's, where that is installed: `program()` is None elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.support.servers.ports import free_port
from tests.support.servers.postgres import PATIENCE, Server, until


def program() -> str | None:
    """Where it is; it need not be on everybody's PATH."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def in_front_of(server: Server, *, connections: int = 2) -> Iterator[int]:
    """The loopback port of a PgBouncer with so few connections of the server's to share."""
    found = program()
    assert found is not None
    directory = Path(tempfile.mkdtemp(prefix="sr-pgb-"))
    port = free_port()
    account = "nobody" if os.geteuid() == 0 else None
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 100
server_round_robin = 1
"""
    )
    # With `any`, everybody is the user that the database's line names.
    text = configuration.read_text().replace("* = ", "* = user=postgres ")
    configuration.write_text(text)
    if account:
        shutil.chown(directory, account)
    process = subprocess.Popen(
        [found, "-q", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=account,
        group=None if account is None else pwd.getpwnam(account).pw_gid,
        extra_groups=None if account is None else [],
    )
    try:
        until(lambda: _answers(port), "PgBouncer answers")
        yield port
    finally:
        process.kill()
        process.wait(PATIENCE)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(port: int) -> bool:
    with psycopg.connect(
        host="127.0.0.1", port=port, dbname="postgres", user="postgres", connect_timeout=5
    ) as connection:
        return bool(connection.execute("SELECT 1").fetchall())
