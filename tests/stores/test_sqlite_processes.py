"""Several real processes on one file, killed without warning at any moment.

Each worker writes what it is about to do to a log of its own, does it, and writes that it was
acknowledged; each line is on the disk before the worker goes on. After every kill the log and the
store are compared: nothing acknowledged is lost, and nothing that ended is alive again.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import strongroom
from strongroom.core.ops import Find
from strongroom.stores.sqlite import SQLiteStore

pytestmark = pytest.mark.slow

IDENTITY = b"identity of the processes' store"
SECONDS = 9.0
WORKERS = 3
SRC = str(Path(strongroom.__file__).parents[1])

WORKER = """if True:
    import os, random, sys
    from dataclasses import replace
    from strongroom.core.ops import EndSubject, Find, Sweep
    from strongroom.core.record import EndReason
    from strongroom.stores.sqlite import SQLiteStore
    from strongroom.testing.records import (
        a_record, a_replace, a_shift, a_subject_key, a_touch, an_end, an_insert)

    path, log_path, identity = sys.argv[1:4]
    worker = f"worker {os.getpid()} {os.urandom(4).hex()}"
    log = os.open(log_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def say(*words):
        os.write(log, (" ".join(words) + "\\n").encode())
        os.fsync(log)

    def done(step, outcome):
        # Whoever is refused got no acknowledgement to be kept.
        return "ok" if outcome.applied else "refused"

    store = SQLiteStore(path, busy_timeout_ms=20_000)
    store.open(identity.encode())
    live, ended = [], []
    while True:
        choice = random.random()
        if choice < 0.3 or not live:
            record = a_record(subject=worker, entropy=os.urandom)
            name = record.session_id.hex()
            say("try insert", name, record.header.data_version.hex())
            store.insert(an_insert(record))
            say("ok insert", name, record.header.data_version.hex())
            live.append(record)
        elif choice < 0.6:
            record = random.choice(live)
            found = store.find(Find(record.session_id)).record
            op = a_replace(found, entropy=os.urandom, data=os.urandom(random.choice([10, 9000])))
            say("try replace", record.session_id.hex(), op.data_version.hex())
            outcome = store.replace(op)
            say(done("replace", outcome), "replace", record.session_id.hex(), op.data_version.hex())
        elif choice < 0.7:
            found = store.find(Find(random.choice(live).session_id)).record
            store.touch(a_touch(found, entropy=os.urandom))
            store.shift(a_shift(found, entropy=os.urandom))
        elif choice < 0.9:
            record = live.pop(random.randrange(len(live)))
            say("try end", record.session_id.hex(), "-")
            outcome = store.end(an_end(record, entropy=os.urandom))
            say(done("end", outcome), "end", record.session_id.hex(), "-")
            ended.append(record)
        elif choice < 0.92:
            for record in live:
                say("try end", record.session_id.hex(), "-")
            header = live[0].header
            store.end_subject(EndSubject(
                a_subject_key(worker), os.urandom(8), EndReason.EVERYWHERE,
                header.last_seen, header.purge_at, os.urandom(8)))
            for record in live:
                say("ok end", record.session_id.hex(), "-")
            ended, live = ended + live, []
        else:
            # A late write, as a request makes it that began before the end.
            store.sweep(Sweep(0, 100))
            for record in ended[-3:]:
                late = (
                    store.touch(a_touch(record)), store.replace(a_replace(record)),
                    store.shift(a_shift(record)))
                if any(each.applied for each in late):
                    say("ok revived", record.session_id.hex(), "-")
"""


@dataclass
class Expected:
    """What one session must be like, as the log has it."""

    exists: bool = False
    ended: bool = False
    may_have_ended: bool = False
    versions: set[str] = field(default_factory=set)


def read_log(log: Path) -> dict[str, Expected]:
    """The log as expectations. What was tried and not acknowledged may be either way."""
    sessions: dict[str, Expected] = {}
    text = log.read_text() if log.exists() else ""
    for line in text.splitlines():
        said, what, name, version = line.split()
        session = sessions.setdefault(name, Expected())
        assert what != "revived", f"a late write brought {name} back"
        if what == "end":
            session.may_have_ended = True
            session.ended |= said == "ok"
        elif said == "ok":
            session.exists = True
            session.versions = {version}
        elif said == "try":
            session.versions.add(version)
        else:
            session.versions.discard(version)
    return sessions


def compare(store: SQLiteStore, sessions: dict[str, Expected]) -> None:
    """Hold the store against the expectations."""
    for name, expected in sessions.items():
        found = store.find(Find(bytes.fromhex(name)))
        if found is None:
            assert not expected.exists, f"the acknowledged session {name} is lost"
            continue
        header = found.record.header
        if expected.ended:
            assert not header.is_live, f"the ended session {name} is alive"
        if not header.is_live:
            assert expected.may_have_ended, f"nobody ended {name}"
            assert found.record.data == b""
        assert header.data_version.hex() in expected.versions, f"an acknowledged save of {name}"


def start(*arguments: str, code: str = WORKER) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": SRC, "PATH": os.environ.get("PATH", "")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, f"a worker ended by itself: {said}"


def test_killing_processes_loses_nothing_acknowledged(tmp_path: Path):
    """Nothing acknowledged is lost, nothing ended comes back, whenever a process dies (P6)."""
    path = tmp_path / "sessions.db"
    logs = [tmp_path / f"{number}.log" for number in range(WORKERS)]

    def worker(number: int) -> subprocess.Popen[str]:
        return start(str(path), str(logs[number]), IDENTITY.decode())

    store = SQLiteStore(path, busy_timeout_ms=20_000)
    store.open(IDENTITY)
    workers = [worker(number) for number in range(WORKERS)]
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(random.uniform(0.3, 1.0))
            number = random.randrange(WORKERS)
            kill(workers[number])
            compare(store, read_log(logs[number]))
            workers[number] = worker(number)
    finally:
        for process in workers:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=30)
    sessions = [read_log(log) for log in logs]
    for each in sessions:
        compare(store, each)
    assert sum(expected.ended for each in sessions for expected in each.values()) > 10
    store.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


def test_all_processes_may_open_a_new_file_at_once(tmp_path: Path):
    """One makes the tables, the others find them made, and all see one store epoch."""
    code = """if True:
        import os, sys
        from strongroom.core.ops import ReadEpoch
        from strongroom.stores.sqlite import SQLiteStore
        from strongroom.testing.records import a_record, an_insert
        store = SQLiteStore(sys.argv[1], busy_timeout_ms=20_000)
        print("ready", flush=True)
        sys.stdin.readline()
        store.open(sys.argv[2].encode())
        assert store.insert(an_insert(a_record(entropy=os.urandom))).refusal is None
        print(store.read_epoch(ReadEpoch(bytes(16))).store.hex())
        store.close()
    """
    path = tmp_path / "new" / "sessions.db"
    processes = [start(str(path), IDENTITY.decode(), code=code) for _ in range(6)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        epochs = set()
        for process in processes:
            said, complaint = process.communicate(timeout=60)
            assert process.returncode == 0, complaint
            epochs.add(said)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate(timeout=30)
    assert len(epochs) == 1
    raw = sqlite3.connect(path)
    assert raw.execute("SELECT count(*) FROM session").fetchall() == [(6,)]
    raw.close()
