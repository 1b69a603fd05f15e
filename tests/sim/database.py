"""Clients move money between the accounts of a small database, in a simulation.

`History` checks that the transfers are linearizable. Each takes effect once, at one moment between its call
and its return, and each look at the accounts shows the state of one moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import own
from database_client import Pool, transaction
from database_messages import ACCOUNTS, MONEY, SELECT_ALL, SqlError
from database_server import Database, start


class History:
    """All that clients have written and read, and between which commits."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.writes: list[tuple[str, int, int]] = []
        self.reads: list[tuple[int, int, list[Any]]] = []

    async def write(self, id: str, transfer: Callable[[str], Awaitable[Any]]) -> None:
        """Call a function that makes the transfer of this id, until it has succeeded."""
        before = len(self.database.log)
        await transfer(id)
        self.writes.append((id, before, len(self.database.log)))

    @contextlib.contextmanager
    def read(self) -> Iterator[list[Any]]:
        """Put the rows of SELECT_ALL into the list."""
        before = len(self.database.log)
        rows: list[Any] = []
        yield rows
        self.reads.append((before, len(self.database.log), rows))

    def check(self) -> None:
        """Each transfer has taken effect once, and each look has seen the state of one moment."""
        log = self.database.log
        assert len(log) == len(self.writes)
        begun = dict.fromkeys(ACCOUNTS, MONEY)
        for before, after in zip(
            [begun, *(state for _, state in log)], [state for _, state in log]
        ):
            assert sorted(after[name] - before[name] for name in ACCOUNTS) == [-1, 0, 0, 1]
        for id, first, last in self.writes:
            assert [id for id, _ in log[first:last]].count(id) == 1
        for first, last, rows in self.reads:
            (version,) = {version for _, _, version in rows}
            assert first <= version <= last
            state = log[version - 1][1] if version else begun
            assert {name: balance for name, balance, _ in rows} == state


async def until_it_works(ask: Callable[[], Awaitable[Any]], faulty: bool) -> Any:
    """Call `ask` until neither the network nor a deadlock ends it."""
    for _ in range(200):
        try:
            return await ask()
        except SqlError as error:
            if error.code != "40P01":
                raise
        except OSError:
            assert faulty
        await asyncio.sleep(random.random())
    raise AssertionError("200 tries have failed")


async def numbered_lines(n: int) -> AsyncIterator[bytes]:
    """So many lines, several at once."""
    for first in range(0, n, 500):
        yield b"".join(b"%d\n" % i for i in range(first, first + 500))


async def use(faulty: bool, with_tls: bool = False) -> None:
    """Clients move money between accounts, look at all of them, and use what else the protocol has."""
    serving, asking = own.contexts() if with_tls else (None, None)
    database = await start(serving)
    history = History(database)
    pool = Pool(3, asking)

    async def transfer(id: str) -> None:
        source, target = random.sample(ACCOUNTS, 2)
        steps = (("insert", id), ("select", source), ("update", source, -1), ("update", target, 1))
        async with pool.acquire() as connection:
            try:
                if random.random() < 0.5:
                    await connection.run_all(*steps).get()
                    return
                async with transaction(connection):
                    for answer in [connection.run(*step) for step in steps]:
                        await answer.get()
            except SqlError as error:
                if error.code != "23505":
                    raise
                assert faulty  # an earlier try has succeeded, and its answer was lost

    async def move(n: int) -> None:
        for i in range(4):
            await history.write(
                f"{n}-{i}", lambda id: until_it_works(functools.partial(transfer, id), faulty)
            )

    async def look() -> None:
        async with pool.acquire() as connection:
            with history.read() as rows:
                if random.random() < 0.5:
                    rows += await connection.run("all").get()
                else:
                    rows += await connection.query(SELECT_ALL)

    async def count() -> None:
        async with pool.acquire() as connection, transaction(connection):
            answer = connection.run("series", 100, limit=7, portal="p")
            rows = await answer.get()
            while answer.tags == ["suspended"]:
                answer = connection.fetch("series", "p", random.randrange(1, 40))
                rows += await answer.get()
            assert rows == [(i,) for i in range(100)]

    async def copy() -> None:
        async with pool.acquire() as connection:
            answer = await connection.copy(numbered_lines(10_000))
            assert answer.tags == ["COPY 10000"]

    async def cancel() -> None:
        async with pool.acquire() as connection:
            answer = connection.run("sleep", 50)
            await asyncio.sleep(20)
            await connection.cancel()
            with contextlib.suppress(SqlError):
                await answer.get()
            if answer.error is None:
                assert faulty  # the network has lost the CancelRequest
            else:
                assert answer.error.code == "57014"
            assert len(await connection.run("all").get()) == len(ACCOUNTS)

    async def be_impatient() -> None:
        try:
            async with pool.acquire(0.05) as connection:
                await connection.query("BEGIN; ROLLBACK")
        except TimeoutError:
            assert not faulty or pool.lent <= pool.size

    async with asyncio.TaskGroup() as group:
        for n in range(3):
            group.create_task(move(n))
        for one in (look, look, look, count, copy, cancel, be_impatient, be_impatient):
            group.create_task(until_it_works(one, faulty))
    await pool.close()
    await database.close()
    history.check()
