"""What the Valkey server is asked in one request, and what one session takes there."""

from __future__ import annotations

from redis import Redis

from .rounds import CASES, Case, Contestant

_REQUESTS = 50
_QUIET = {"ping", "info", "client", "hello", "select", "dbsize", "memory", "scan", "config", "auth"}
"""Commands that are not a request's: heartbeats, new connections, and this module's own."""


def look_at_valkey(contestants: list[Contestant], url: str) -> None:
    """Note the commands and the bytes of every row that has its sessions there."""
    server = Redis.from_url(url.replace("valkey://", "redis://"))
    for each in contestants:
        database = each.measured.row.database
        if database is None or each.measured.failed:
            continue
        for case in CASES:
            if case.at_once == 1:
                each.measured.commands[case.name] = _asked(server, each, case)
        each.measured.stored = _stored(server, each, database)
    server.close()


def _asked(server: Redis, contestant: Contestant, case: Case) -> str:
    """Such as `get` or `get 2, set`; commands that a script gives count too."""
    askings = contestant.askings(case) * _REQUESTS
    before = _calls(server)
    contestant.site.turn(askings, 1)()
    after = _calls(server)
    each = {name: (after[name] - before.get(name, 0)) / len(askings) for name in after}
    told = {name: round(count) for name, count in each.items() if count >= 0.5}
    return ", ".join(name if count == 1 else f"{name} {count}" for name, count in told.items())


def _calls(server: Redis) -> dict[str, int]:
    told = server.info("commandstats")
    names = ((name.removeprefix("cmdstat_"), stats["calls"]) for name, stats in told.items())
    return {name: int(calls) for name, calls in names if name.partition("|")[0] not in _QUIET}


def _stored(server: Redis, contestant: Contestant, number: int) -> int:
    """Bytes a session, of a hundred that sign in now; what is kept per user is in it."""
    database = Redis.from_url(f"{_address(server)}/{number}")
    before = _bytes(database)
    for _ in range(100):
        contestant.look(next(case for case in CASES if case.name == "sign-in"))
    taken = (_bytes(database) - before) // 100
    database.close()
    return taken


def _address(server: Redis) -> str:
    where = server.connection_pool.connection_kwargs
    return f"redis://{where['host']}:{where['port']}"


def _bytes(database: Redis) -> int:
    return sum(int(database.memory_usage(key, samples=0) or 0) for key in database.scan_iter())
