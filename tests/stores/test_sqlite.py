"""What is particular to SQLite: the file, whose it is, what fails, and what is on the disk when."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import strongroom
from strongroom.core.errors import (
    ConfigurationError,
    StoreMismatch,
    StoreUnavailable,
    UnreadableRecord,
)
from strongroom.core.ops import (
    Append,
    AtLimit,
    EndAll,
    EndSubject,
    Erase,
    Find,
    Insert,
    Limit,
    ListSubject,
    ReadEpoch,
    ReadHistory,
    Sweep,
)
from strongroom.core.record import EndReason, Record
from strongroom.stores.base import Store
from strongroom.stores.sqlite import SQLiteStore, checkpoint, lines, schema
from strongroom.testing.clock import START
from strongroom.testing.records import (
    KEEP,
    a_record,
    a_replace,
    a_rotate,
    a_shift,
    a_subject_key,
    a_touch,
    an_end,
    an_entry,
    an_insert,
)

IDENTITY = b"the identity of the test's store"
LATER = START + 10 * KEEP
SRC = str(Path(strongroom.__file__).parents[1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(path, busy_timeout_ms=200)
    store.open(IDENTITY)
    yield store
    store.close()


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads look at the file every time, so that a test need not wait a second."""
    monkeypatch.setattr(lines, "FILE_CHECK_SECONDS", 0.0)


def inserted(store: Store, **fields: object) -> Record:
    record = a_record(**fields)  # type: ignore[arg-type]
    kept = store.insert(an_insert(record)).record
    assert kept is not None
    return kept


def is_live(store: Store, record: Record) -> bool:
    found = store.find(Find(record.session_id))
    return found is not None and found.record.is_live


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with strongroom in reach."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": SRC, "PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestTheFile:
    """Making it, and knowing whose it is."""

    def test_it_is_made_for_this_user_alone(self, tmp_path: Path):
        """Directories are made where they are missing; nobody else can read or list them."""
        path = tmp_path / "a" / "b" / "sessions.db"
        store = SQLiteStore(path)
        store.open(IDENTITY)
        inserted(store)
        for directory in (path.parent, path.parent.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        store.close()
        assert [each.name for each in path.parent.iterdir()] == ["sessions.db"]

    def test_nothing_is_made_before_it_is_opened(self, path: Path):
        """Making the object touches no disk, and says so when it is used."""
        store = SQLiteStore(path)
        with pytest.raises(StoreUnavailable, match="not open"):
            store.find(Find(bytes(16)))
        assert not path.exists()

    def test_an_empty_file_is_taken(self, path: Path):
        """As `touch` or `mktemp` leave it."""
        path.touch()
        store = SQLiteStore(path)
        store.open(IDENTITY)
        store.close()

    def test_it_says_what_it_is(self, store: SQLiteStore, path: Path):
        """The file carries our application id, the schema's number and a write-ahead log."""
        del store
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
            assert raw.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
            assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        raw.close()

    def test_what_was_kept_is_found_after_reopening(self, store: SQLiteStore):
        """Closing loses nothing; closing twice is a no-op; a closed store says so."""
        record = inserted(store)
        store.close()
        store.close()
        with pytest.raises(StoreUnavailable, match="not open"):
            store.find(Find(record.session_id))
        store.open(IDENTITY)
        assert is_live(store, record)

    def test_other_keys_are_refused(self, store: SQLiteStore, path: Path):
        """A file that belongs to other keys is not opened, and the message names it."""
        with pytest.raises(StoreMismatch, match="under other keys") as raised:
            SQLiteStore(path).open(b"other keys")
        assert str(path) in raised.value.what
        assert is_live(store, inserted(store))

    def test_a_newer_schema_is_refused(self, store: SQLiteStore, path: Path):
        """An older release does not touch what a newer one wrote."""
        store.close()
        raw = sqlite3.connect(path)
        raw.execute("PRAGMA user_version = 999")
        raw.close()
        with pytest.raises(StoreMismatch, match="newer release"):
            store.open(IDENTITY)

    @pytest.mark.parametrize(
        "statement",
        ["CREATE TABLE users (name)", "PRAGMA application_id = 77", "PRAGMA user_version = 3"],
    )
    def test_another_programs_database_is_left_alone(self, path: Path, statement: str):
        """It is refused before its journal mode or anything else is changed."""
        raw = sqlite3.connect(path)
        raw.execute(statement)
        raw.commit()
        raw.close()
        before = path.read_bytes()
        with pytest.raises(StoreMismatch, match="another program"):
            SQLiteStore(path).open(IDENTITY)
        assert path.read_bytes() == before
        assert [each.name for each in path.parent.iterdir()] == ["sessions.db"]

    def test_a_file_that_is_no_database_is_left_alone(self, path: Path):
        """A text file in that place is somebody's text file."""
        path.write_text("Dear diary, today was a long day. " * 200)
        before = path.read_bytes()
        with pytest.raises(StoreMismatch, match="not an SQLite file"):
            SQLiteStore(path).open(IDENTITY)
        assert path.read_bytes() == before

    def test_a_directory_is_refused(self, path: Path):
        """And the message says what must be there."""
        path.mkdir()
        with pytest.raises(StoreUnavailable, match="must be a file"):
            SQLiteStore(path).open(IDENTITY)

    def test_a_parent_that_is_a_file_is_refused(self, path: Path):
        """A directory cannot be made where a file is."""
        path.touch()
        with pytest.raises(StoreUnavailable, match="cannot be made"):
            SQLiteStore(path / "below" / "it.db").open(IDENTITY)

    @pytest.mark.parametrize("name", ["", ":memory:", "file:sessions.db?mode=memory"])
    def test_a_name_for_no_file_is_refused(self, name: str):
        """Each connection would have a database of its own."""
        with pytest.raises(ConfigurationError):
            SQLiteStore(name)

    def test_a_negative_timeout_is_refused(self, path: Path):
        """Zero is a time-out: do not wait. Less is a mistake."""
        SQLiteStore(path, busy_timeout_ms=0)
        with pytest.raises(ConfigurationError):
            SQLiteStore(path, busy_timeout_ms=-1)

    @pytest.mark.parametrize("locked", ["file", "directory"])
    def test_what_this_user_may_not_write_is_refused(self, locked: str):
        """Sessions that can be read but not ended are not served. (Root may write everything, so
        as root the attempt is made by somebody else.)"""
        directory = Path(tempfile.mkdtemp(prefix="strongroom-"))
        path = directory / "sessions.db"
        try:
            store = SQLiteStore(path)
            store.open(IDENTITY)
            store.close()
            path.chmod(0o444)
            directory.chmod(0o777 if locked == "file" else 0o555)
            code = """if True:
                import os, sys, urllib.parse  # urllib: pathlib needs it later, and may not read it
                from strongroom.core.errors import StoreUnavailable
                from strongroom.stores.sqlite import SQLiteStore
                if os.geteuid() == 0:
                    os.setuid(65534)
                try:
                    SQLiteStore(sys.argv[1]).open(sys.argv[2].encode())
                except StoreUnavailable as error:
                    print(error)
            """
            done = run_python(code, str(path), IDENTITY.decode())
            assert "cannot be" in done.stdout, done.stderr
            assert str(path) in done.stdout
        finally:
            directory.chmod(0o700)
            shutil.rmtree(directory)


class TestMigration:
    """From one schema to the next."""

    def test_what_is_missing_is_run_once(
        self, store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A newer release brings the file up to date and loses nothing."""
        record = inserted(store)
        store.close()

        def add_a_table(connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)")

        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_a_table))
        for _ in range(2):
            store.open(IDENTITY)
            assert is_live(store, record)
            store.close()
        raw = sqlite3.connect(path)
        assert raw.execute("PRAGMA user_version").fetchone() == (2,)
        raw.close()

    def test_one_that_fails_leaves_the_file_as_it_was(
        self, store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The migrations of one start are one transaction."""
        record = inserted(store)
        store.close()

        def fail(connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)")
            connection.execute("this is no SQL")

        with monkeypatch.context() as patched:
            patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, fail))
            with pytest.raises(StoreUnavailable):
                store.open(IDENTITY)
        store.open(IDENTITY)
        assert is_live(store, record)
        raw = sqlite3.connect(path)
        assert raw.execute("SELECT name FROM sqlite_master WHERE name = 'more'").fetchall() == []
        raw.close()

    def test_it_is_refused_for_other_keys_too(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ):
        """Somebody else's file is not migrated: the check and the migration are one transaction."""
        store.close()
        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, lambda connection: None))
        with pytest.raises(StoreMismatch):
            store.open(b"other keys")
        monkeypatch.undo()
        store.open(IDENTITY)


class TestWaiting:
    """Somebody else has the lock."""

    def test_a_write_waits_no_longer_than_the_timeout(self, store: SQLiteStore, path: Path):
        """Then it is refused undone, reads go on, and when the lock is gone writes go on too."""
        record = inserted(store)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match="locked by somebody else"):
            store.end(an_end(record))
        assert 0.2 <= time.monotonic() - started < 5
        assert is_live(store, record)
        other.execute("ROLLBACK")
        other.close()
        assert store.end(an_end(record)).applied

    def test_a_write_goes_on_when_the_lock_is_released(self, path: Path):
        """Waiting ends with the other's transaction, not with the time-out."""
        store = SQLiteStore(path, busy_timeout_ms=30_000)
        store.open(IDENTITY)
        record = inserted(store)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.1, other.execute, ("ROLLBACK",))
        timer.start()
        started = time.monotonic()
        assert store.end(an_end(record)).applied
        assert time.monotonic() - started < 5
        timer.join()
        other.close()
        store.close()

    def test_a_write_waits_no_longer_for_a_thread_of_ours(self, store: SQLiteStore):
        """The lock of this process counts towards the same time-out."""
        record = inserted(store)
        busy, done = threading.Event(), threading.Event()

        def occupy(_: sqlite3.Connection) -> None:
            busy.set()
            done.wait(30)

        thread = threading.Thread(target=store._lines.writing.run, args=(occupy,))
        thread.start()
        busy.wait(30)
        with pytest.raises(StoreUnavailable, match="locked by somebody else"):
            store.touch(a_touch(record))
        assert is_live(store, record)
        done.set()
        thread.join()

    def test_a_read_at_once_waits_for_nobody(self, store: SQLiteStore):
        """In an event loop a find is answered now or handed over."""
        record = inserted(store)
        found = store.find_at_once(Find(record.session_id))
        assert found == store.find(Find(record.session_id))
        assert found is not None
        busy, done = threading.Event(), threading.Event()

        def occupy(_: sqlite3.Connection) -> None:
            busy.set()
            done.wait(30)

        thread = threading.Thread(target=store._lines.reading.run, args=(occupy,))
        thread.start()
        busy.wait(30)
        with pytest.raises(BlockingIOError):
            store.find_at_once(Find(record.session_id))
        done.set()
        thread.join()

    def test_a_reader_pins_no_old_view(self, store: SQLiteStore, path: Path):
        """No statement stays open: a second store's end is seen by the next find, every time."""
        second = SQLiteStore(path)
        second.open(IDENTITY)
        for _ in range(20):
            record = inserted(store)
            assert is_live(second, record)
            assert second.list_subject(ListSubject(record.subject_key))
            assert store.end(an_end(record)).applied
            assert not is_live(second, record)
        assert second.insert(an_insert(a_record())).refusal is None
        second.close()


class TestNoRoom:
    """The disk is full, or fails."""

    def test_a_full_disk_takes_nothing_half(self, store: SQLiteStore):
        """The refused insert left no trace, the rest is read, and there is room again later."""
        kept = [inserted(store, data=bytes(4000)) for _ in range(5)]
        writing = store._lines.writing
        pages = writing.run(lambda c: c.execute("PRAGMA page_count").fetchall()[0][0])
        writing.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchall())
        refused = a_record(data=bytes(40_000))
        oldest = Limit(1, AtLimit.EVICT_OLDEST)
        for op in (an_insert(refused), Insert(refused, START, limit=oldest)):
            with pytest.raises(StoreUnavailable, match="full"):
                store.insert(op)
        with pytest.raises(StoreUnavailable, match="full"):
            store.replace(a_replace(kept[0], data=bytes(60_000)))
        assert store.find(Find(refused.session_id)) is None
        assert all(is_live(store, record) for record in kept)
        # Ending needs no room in the file: it makes some.
        assert store.end(an_end(kept[0])).applied
        writing.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchall())
        assert store.insert(an_insert(refused)).refusal is None
        assert is_live(store, refused)

    def test_a_disk_that_fails_takes_nothing_half(self, path: Path):
        """Real failing writes (a limit on file size) are rolled back; afterwards all goes on."""
        code = """if True:
            import resource, signal, sys
            from strongroom.core.errors import StoreUnavailable
            from strongroom.core.ops import Find
            from strongroom.stores.sqlite import SQLiteStore
            from strongroom.testing.records import a_record, an_end, an_insert
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            store = SQLiteStore(sys.argv[1])
            store.open(b"identity")
            kept, refused = a_record(), a_record(data=bytes(400_000))
            store.insert(an_insert(kept))
            unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, unlimited[1]))
            for _ in range(3):
                try:
                    store.insert(an_insert(refused))
                except StoreUnavailable as error:
                    print(error.what)
                assert store.find(Find(refused.session_id)) is None
                assert store.find(Find(kept.session_id)).record.is_live
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            assert store.insert(an_insert(refused)).refusal is None
            assert store.end(an_end(kept)).applied
            store.close()
            store.open(b"identity")
            assert store.find(Find(refused.session_id)).record.data == bytes(400_000)
            assert not store.find(Find(kept.session_id)).record.is_live
            store.close()
        """
        done = run_python(code, str(path))
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3
        raw = sqlite3.connect(path)
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw.close()

    def test_a_damaged_file_lets_nobody_in(self, store: SQLiteStore, path: Path):
        """Overwritten pages are reported as damage, never as "no such session"."""
        records = [inserted(store, subject=f"s{n}") for n in range(300)]
        store.close()
        content = bytearray(path.read_bytes())
        content[4096 * 4 :] = b"\xa5" * (len(content) - 4096 * 4)
        path.write_bytes(content)
        with pytest.raises((UnreadableRecord, StoreMismatch)):
            store.open(IDENTITY)
            for record in records:
                store.find(Find(record.session_id))


class TestDamagedRecords:
    """One row is nonsense."""

    @pytest.fixture
    def damaged(self, store: SQLiteStore) -> Record:
        record = inserted(store)
        store._lines.writing.run(
            lambda c: c.execute(
                "UPDATE session SET header = x'ff00' WHERE session_id = ?", (record.session_id,)
            )
        )
        return record

    def test_it_is_neither_accepted_nor_ended(self, store: SQLiteStore, damaged: Record):
        """Reading and writing it says that it is damaged, and leaves it alone."""
        for attempt in (
            lambda: store.find(Find(damaged.session_id)),
            lambda: store.touch(a_touch(damaged)),
            lambda: store.end(an_end(damaged)),
            lambda: store.list_subject(ListSubject(damaged.subject_key)),
        ):
            with pytest.raises(UnreadableRecord):
                attempt()

    def test_it_does_not_stop_a_sign_in(self, store: SQLiteStore, damaged: Record):
        """Nobody is in it, so it does not count towards the limit."""
        assert damaged.subject_key == a_subject_key("alice")
        op = Insert(a_record(), START, limit=Limit(1, AtLimit.REFUSE))
        assert store.insert(op).refusal is None

    def test_signing_out_everywhere_removes_it(self, store: SQLiteStore, damaged: Record):
        """What cannot be marked as ended must not outlive it."""
        other = inserted(store)
        op = EndSubject(damaged.subject_key, b"r" * 8, EndReason.EVERYWHERE, LATER, LATER, b"e" * 8)
        assert [each.record.session_id for each in store.end_subject(op)] == [other.session_id]
        assert store.find(Find(damaged.session_id)) is None


@pytest.mark.usefixtures("watchful")
class TestAFileThatGoesAway:
    """Deleted, moved or replaced while in use."""

    def test_nobody_signs_in_against_a_ghost(self, path: Path):
        """Once the file is deleted, reads and writes fail, and none is made anew by itself."""
        store = SQLiteStore(path)
        store.open(IDENTITY)
        record = inserted(store)
        path.unlink()
        for attempt in (
            lambda: store.insert(an_insert(a_record())),
            lambda: store.find(Find(record.session_id)),
            lambda: store.find_at_once(Find(record.session_id)),
            lambda: store.sweep(Sweep(LATER, 10)),
        ):
            with pytest.raises(StoreUnavailable, match="moved or deleted"):
                attempt()
        assert not path.exists()
        store.close()
        store.open(IDENTITY)
        assert store.find(Find(record.session_id)) is None
        store.close()

    def test_it_goes_on_when_the_file_is_back(self, path: Path):
        """A file that was moved away and put back, with its log, has lost nothing."""
        store = SQLiteStore(path)
        store.open(IDENTITY)
        record = inserted(store)
        moved = path.with_name("elsewhere.db")
        for ending in ("", "-wal", "-shm"):
            Path(f"{path}{ending}").rename(f"{moved}{ending}")
        with pytest.raises(StoreUnavailable):
            store.touch(a_touch(record))
        for ending in ("", "-wal", "-shm"):
            Path(f"{moved}{ending}").rename(f"{path}{ending}")
        assert store.touch(a_touch(record)).applied
        store.close()

    def test_a_restored_backup_is_taken_up(self, store: SQLiteStore, path: Path):
        """Another file of the same store in that place is opened, without a restart."""
        old = inserted(store)
        backup = path.with_name("backup.db")
        store._lines.keeping.run(lambda c: c.execute("VACUUM INTO ?", (str(backup),)))
        new = inserted(store)
        for ending in ("-wal", "-shm"):
            Path(f"{path}{ending}").unlink()
        backup.replace(path)
        assert is_live(store, old)
        assert store.find(Find(new.session_id)) is None
        assert store.end(an_end(old)).applied

    def test_somebody_elses_file_is_not(self, store: SQLiteStore, path: Path):
        """A file of another store in that place is refused by every op."""
        record = inserted(store)
        other_path = path.with_name("other.db")
        other = SQLiteStore(other_path)
        other.open(b"other keys")
        other.close()
        for ending in ("-wal", "-shm"):
            Path(f"{path}{ending}").unlink()
        other_path.replace(path)
        with pytest.raises(StoreMismatch):
            store.find(Find(record.session_id))
        with pytest.raises(StoreMismatch):
            store.touch(a_touch(record))


class TestDurability:
    """What waits for the disk, and what does not."""

    def test_what_ends_or_begins_a_session_waits_for_the_disk(self, store: SQLiteStore):
        """Each op commits under the synchronous level that its promise needs."""
        record = inserted(store)
        subject = EndSubject(
            record.subject_key, b"r" * 8, EndReason.EVERYWHERE, LATER, LATER, b"e" * 8
        )
        steps = [
            (lambda: store.touch(a_touch(record)), 1),
            (lambda: store.insert(an_insert(a_record())), 2),
            (lambda: store.shift(a_shift(record)), 1),
            (lambda: store.rotate(a_rotate(kept())), 2),
            (lambda: store.replace(a_replace(record)), 1),
            (lambda: store.end(an_end(record)), 2),
            (lambda: store.append(Append((an_entry(),), keep=5)), 1),
            (lambda: store.end_subject(subject), 2),
            (lambda: store.sweep(Sweep(LATER * 2, 10)), 1),
            (lambda: store.end_all(EndAll(b"e" * 8, LATER)), 2),
            (lambda: store.append(Append((an_entry(),), keep=5)), 1),
            (lambda: store.erase(Erase(record.subject_key)), 2),
        ]

        def kept() -> Record:
            found = store.find(Find(record.session_id))
            assert found is not None
            return found.record

        for number, (step, level) in enumerate(steps):
            step()
            said = store._lines.writing.run(lambda c: c.execute("PRAGMA synchronous").fetchall())
            assert said == [(level,)], f"step {number}"

    def test_a_thread_makes_the_checkpoints(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        """What was written reaches the database itself soon, and no request does the work."""
        monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.01)
        monkeypatch.setattr(checkpoint.Checkpointer.__init__, "__defaults__", (0.01,))
        store = SQLiteStore(path)
        store.open(IDENTITY)
        empty = path.stat().st_size
        for _ in range(50):
            inserted(store)
        deadline = time.monotonic() + 30
        while path.stat().st_size == empty and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_size > empty
        store.close()
        assert not [each for each in threading.enumerate() if "checkpoint" in each.name]

    def test_the_thread_ends_whenever_it_is_told(self):
        """Also if it is told in the very moment in which it begins a checkpoint."""
        stopping = threading.Event()

        class StoppedNow(threading.Event):
            def clear(self) -> None:
                stopping.set()
                self.set()
                super().clear()

        written = StoppedNow()
        written.set()
        checkpointer = checkpoint.Checkpointer(lambda: None, interval=0.0)
        thread = threading.Thread(target=checkpointer._run, args=(written, stopping), daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()

    def test_the_thread_may_be_ended_while_others_write(self):
        """However wakes and stops meet, each stop ends, and no thread is left at the last."""
        checkpointer = checkpoint.Checkpointer(lambda: None, interval=0.0001)
        until = time.monotonic() + 0.3

        def wake() -> None:
            while time.monotonic() < until:
                checkpointer.wake()

        threads = [threading.Thread(target=wake, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            checkpointer.stop()
        for thread in threads:
            thread.join(10)
        checkpointer.stop()
        assert not [each for each in threading.enumerate() if "checkpoint" in each.name]

    def test_a_long_log_starts_over(self, store: SQLiteStore, path: Path):
        """Under steady writing the log does not grow for ever."""
        wal = Path(f"{path}-wal")
        for _ in range(3):
            for _ in range(30):
                inserted(store, data=bytes(600_000))
            store._lines.keeping.run(checkpoint.checkpoint)
        assert wal.stat().st_size < 2 * 30 * 700_000


class TestSweeping:
    """In bites, and no more than what is due."""

    def test_it_takes_all_that_is_due_in_bites(self, store: SQLiteStore):
        """More rows than one bite has, records and history alike, up to the limit."""
        due = [inserted(store, subject=f"s{n}", purge_at=START + n) for n in range(130)]
        undue = inserted(store, purge_at=START + 131)
        store.append(Append(tuple(an_entry(at=START + n, purge_at=START) for n in range(60)), 100))
        assert store.sweep(Sweep(START + 130, 120)) == 120
        assert store.sweep(Sweep(START + 130, 1000)) == 70
        assert store.sweep(Sweep(START + 130, 1000)) == 0
        assert not any(store.find(Find(record.session_id)) for record in due)
        assert is_live(store, undue)
        assert store.read_history(ReadHistory(a_subject_key("alice"), 10)) == ()

    def test_a_touch_that_crosses_a_slot_moves_in_the_index(self, store: SQLiteStore):
        """The coarse index follows purge_at, forwards when touched and back when ended."""
        slot = 1 << schema.PURGE_SLOT_BITS
        record = inserted(store, purge_at=START + slot)
        touched = store.touch(replace(a_touch(record), purge_at=START + 5 * slot)).record
        assert touched is not None
        assert store.sweep(Sweep(START + 4 * slot, 10)) == 0
        assert store.end(an_end(touched, purge_at=START + slot)).applied
        assert store.sweep(Sweep(START + slot, 10)) == 1

    def test_old_epochs_are_forgotten_only_when_told(self, store: SQLiteStore):
        """By the moment that they were replaced, not by whether a session is left."""
        key = a_subject_key("alice")
        store.end_subject(EndSubject(key, b"r" * 8, EndReason.EVERYWHERE, START, START, b"e" * 8))
        assert store.sweep(Sweep(LATER, 10)) == 0
        assert store.sweep(Sweep(LATER, 10, epochs_before=START)) == 0
        assert store.read_epoch(ReadEpoch(key)).subject == b"e" * 8
        assert store.sweep(Sweep(LATER, 10, epochs_before=START + 1)) == 1
        assert store.read_epoch(ReadEpoch(key)).subject == bytes(8)


class TestForking:
    """A store that was opened before the process forked."""

    def test_parent_and_child_go_on(self, path: Path):
        """Each has connections of its own afterwards, whichever way the fork came about."""
        code = """if True:
            import ctypes, os, sys, threading
            from strongroom.core.ops import Find
            from strongroom.stores.sqlite import SQLiteStore, checkpoint
            from strongroom.testing.records import a_record, an_end, an_insert
            # No other thread may be at work in a fork that Python is not told about.
            checkpoint.Checkpointer.__init__.__defaults__ = (1000.0,)
            fork = os.fork if sys.argv[2] == "told" else ctypes.PyDLL(None).fork
            store = SQLiteStore(sys.argv[1])
            store.open(b"identity")
            records = [a_record() for _ in range(20)]
            for record in records:
                store.insert(an_insert(record))
                assert store.find(Find(record.session_id))
            child = fork()
            mine = records[::2] if child else records[1::2]
            for record in mine:
                assert store.end(an_end(record)).applied
            store.insert(an_insert(a_record()))
            if not child:
                store.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            assert not any(store.find(Find(each.session_id)).record.is_live for each in records)
            store.close()
        """
        for way in ("told", "untold"):
            place = path.with_name(f"{way}.db")
            done = run_python(code, str(place), way)
            assert done.returncode == 0, (way, done.stderr)
            assert not done.stderr
            raw = sqlite3.connect(place)
            assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            raw.close()

    def test_a_fork_waits_for_what_is_under_way(self, path: Path):
        """While other threads write, a fork comes between two transactions, never into one."""
        code = """if True:
            import os, sys, threading, time, warnings
            warnings.simplefilter("ignore")  # newer Pythons warn of forking beside any thread
            from strongroom.stores.sqlite import SQLiteStore
            from strongroom.testing.records import a_record, an_insert
            store = SQLiteStore(sys.argv[1], busy_timeout_ms=20_000)
            store.open(b"identity")
            stop = threading.Event()
            def write():
                while not stop.is_set():
                    store.insert(an_insert(a_record(entropy=os.urandom)))
                    time.sleep(0.001)
            threads = [threading.Thread(target=write) for _ in range(3)]
            for each in threads: each.start()
            for _ in range(10):
                child = os.fork()
                if not child:
                    for _ in range(5):
                        store.insert(an_insert(a_record(entropy=os.urandom)))
                    store.close()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            stop.set()
            for each in threads: each.join()
            store.close()
        """
        done = run_python(code, str(path))
        assert done.returncode == 0, done.stderr
        raw = sqlite3.connect(path)
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw.close()
