"""What one GET costs through each client: why the store talks to its server itself.

    python -m bench.valkey_clients            # clients that are not installed are left out

It starts a server of its own on loopback. docs/decisions/0020 has the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from strongroom.stores.valkey import Address, Settings
from strongroom.stores.valkey.wire import AsyncConnection, Connection
from tests.support.servers import valkey

ROUNDS = 7
OPS = 3000
IN_FLIGHT = 32
VALUE = b"v" * 560


def sync_us(get: Callable[[], Any]) -> float:
    """Microseconds for one GET after the other, the median of rounds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(OPS):
            assert get() == VALUE
        found.append((time.perf_counter() - began) / OPS * 1e6)
    return statistics.median(found)


async def async_us(get: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Microseconds for one after the other, and for one of `IN_FLIGHT` at once."""
    alone, together = [], []

    async def worker(count: int) -> None:
        for _ in range(count):
            assert await get() == VALUE

    for _ in range(ROUNDS):
        began = time.perf_counter()
        await worker(OPS)
        alone.append((time.perf_counter() - began) / OPS * 1e6)
        began = time.perf_counter()
        await asyncio.gather(*(worker(OPS // IN_FLIGHT * 3) for _ in range(IN_FLIGHT)))
        together.append((time.perf_counter() - began) / (OPS // IN_FLIGHT * 3 * IN_FLIGHT) * 1e6)
    return statistics.median(alone), statistics.median(together)


def show(name: str, *figures: float) -> None:
    print(f"{name:32}", *(f"{each:8.1f}" for each in figures), flush=True)


async def ours(port: int) -> None:
    settings = Settings((Address("127.0.0.1", port),))
    line = await AsyncConnection.open(settings.addresses[0], settings, 5, 5)

    async def get() -> Any:
        return (await line.exchange((("GET", b"key"),)))[0]

    show("our wire, async", *await async_us(get))
    line.close()
    await line.closed()


async def redis_py(port: int) -> None:
    from redis.asyncio import Redis

    async with Redis(port=port) as client:
        show("redis-py, async", *await async_us(lambda: client.get(b"key")))


async def with_coredis(port: int) -> None:
    import coredis

    client: Any = coredis.Redis(port=port)
    async with client:
        show("coredis, async", *await async_us(lambda: client.get(b"key")))


async def with_glide(port: int) -> None:
    import glide

    address = glide.NodeAddress("127.0.0.1", port)
    client = await glide.GlideClient.create(glide.GlideClientConfiguration([address]))
    show("valkey-glide, async", *await async_us(lambda: client.get(b"key")))
    await client.close()


def main() -> None:
    with valkey.single() as server:
        server.ask("SET", "key", VALUE)
        print(f"{'microseconds for a GET':32} {'alone':>8} {'of 32':>8}")
        settings = Settings((Address("127.0.0.1", server.port),))
        line = Connection(settings.addresses[0], settings, time.monotonic() + 5)
        show(
            "our wire, sync",
            sync_us(lambda: line.exchange((("GET", b"key"),), time.monotonic() + 5)[0]),
        )
        line.close()
        with contextlib.suppress(ImportError):
            import redis

            client = redis.Redis(port=server.port)
            show("redis-py, sync", sync_us(lambda: client.get(b"key")))
            client.close()
        for each in (ours, redis_py, with_coredis, with_glide):
            with contextlib.suppress(ImportError):
                asyncio.run(each(server.port))


if __name__ == "__main__":
    main()
