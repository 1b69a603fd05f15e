"""redis-py, asyncpg and psycopg on a hoop loop, each against a real server: by Unix socket, TCP and TLS."""

import asyncio
import shutil
import ssl

import daemons
import pytest

PASSWORD = "a long secret"

WAYS = ["unix", "tcp", "tls"]


@pytest.fixture(scope="module")
def redis_server(certificate):
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no redis-server; Debian's package is redis-server")
    with daemons.redis(program, certificate) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def postgres_server(certificate):
    program = daemons.find_program("postgres", "/usr/lib/postgresql/*/bin")
    if program is None:
        pytest.skip("there is no postgres; Debian's package is postgresql")
    with daemons.postgres(program, certificate, PASSWORD) as daemon:
        yield daemon


# ---- redis-py --------------------------------------------------------------------------------------


@pytest.fixture(params=WAYS)
def redis_client(request, redis_server, certificate):
    """A function that makes a client of the Redis server; the same way every time."""
    redis = pytest.importorskip("redis.asyncio")
    if request.param == "unix":
        way = {"unix_socket_path": str(redis_server.folder / "redis.sock")}
    elif request.param == "tcp":
        way = {"host": "127.0.0.1", "port": redis_server.port}
    else:
        if not redis_server.tls_port:
            pytest.skip("this redis-server was built without TLS")
        way = {"host": "127.0.0.1", "port": redis_server.tls_port, "ssl": True}
        way["ssl_ca_certs"] = certificate.cert
    return lambda **options: redis.Redis(**way, **options)


def test_redis_stores_and_pipelines(run, redis_client):
    async def main():
        async with redis_client() as client:
            await client.flushall()
            blob = bytes(range(256)) * 8192
            assert await client.set("blob", blob) is True
            assert await client.get("blob") == blob
            async with client.pipeline(transaction=True) as pipe:
                for n in range(1000):
                    pipe.rpush("numbers", n).incrby("sum", n)
                found = await pipe.execute()
            assert found[::2] == list(range(1, 1001))
            assert found[-1] == sum(range(1000))
            assert await client.lrange("numbers", 0, -1) == [b"%d" % n for n in range(1000)]

            async def increase():
                for _ in range(50):
                    await client.incr("shared")

            await asyncio.gather(*(increase() for _ in range(20)))  # 20 connections of one pool
            assert await client.get("shared") == b"1000"

    run(main())


def test_redis_transaction_is_repeated_when_a_watched_key_changed(run, redis_client):
    async def main():
        async with redis_client() as client, redis_client() as other:
            await client.set("balance", 10)
            attempts = []

            async def double(pipe):
                balance = int(await pipe.get("balance"))
                attempts.append(balance)
                if len(attempts) == 1:
                    await other.set("balance", 11)
                pipe.multi()
                pipe.set("balance", balance * 2)

            assert await client.transaction(double, "balance") == [True]
            assert attempts == [10, 11]
            assert await client.get("balance") == b"22"

    run(main())


def test_redis_wakes_who_waits_for_an_element(run, redis_client):
    async def main():
        async with redis_client() as client, redis_client() as other:
            found = []

            async def consume():
                while (job := (await client.blpop("jobs", timeout=10))[1]) != b"end":
                    found.append(job)
                    await client.rpush("done", job)

            consuming = asyncio.create_task(consume())
            for n in range(50):
                await other.rpush("jobs", f"job {n}")
                assert await other.blpop("done", timeout=10) == (b"done", b"job %d" % n)
            await other.rpush("jobs", "end")
            await consuming
            assert found == [b"job %d" % n for n in range(50)]

    run(main())


def test_redis_publishes_to_subscribers(run, redis_client):
    async def main():
        async with redis_client(decode_responses=True) as client:

            async def listen(n, ready):
                found = []
                async with client.pubsub() as channel:
                    await channel.subscribe("news")
                    await channel.psubscribe("to-*")
                    async for message in channel.listen():
                        if message["type"] == "psubscribe":
                            ready.release()
                        elif message["type"] in ("message", "pmessage"):
                            found.append((message["channel"], message["data"]))
                        if message["data"] == "end":
                            return found
                raise AssertionError(f"listener {n} was not told to end")

            ready = asyncio.Semaphore(0)
            listening = [asyncio.create_task(listen(n, ready)) for n in range(5)]
            for _ in listening:
                await ready.acquire()
            for n in range(100):
                assert await client.publish("news", f"item {n}") == 5
                assert await client.publish(f"to-{n}", "you") == 5
            await client.publish("news", "end")
            expected = [
                item for n in range(100) for item in [("news", f"item {n}"), (f"to-{n}", "you")]
            ]
            assert await asyncio.gather(*listening) == [[*expected, ("news", "end")]] * 5

    run(main())


# ---- PostgreSQL: what both clients are asked -----------------------------------------------------------

IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
WORDS = """
    SELECT length(word), count(*), string_agg(word, ',' ORDER BY word)
    FROM unnest(string_to_array('the loop runs what is ready and sleeps until more is', ' ')) word
    GROUP BY 1 ORDER BY 1
"""
COUNTED = [
    (2, 2, "is,is"),
    (3, 2, "and,the"),
    (4, 4, "loop,more,runs,what"),
    (5, 2, "ready,until"),
    (6, 1, "sleeps"),
]


# ---- asyncpg ---------------------------------------------------------------------------------------


@pytest.fixture(params=WAYS)
def asyncpg_way(request, postgres_server, certificate):
    """How asyncpg reaches the server, as arguments of connect() and create_pool()."""
    pytest.importorskip("asyncpg")
    way = {"user": "hoop", "password": PASSWORD, "database": "postgres", "statement_cache_size": 10}
    way |= {"host": "127.0.0.1", "port": postgres_server.port, "ssl": False}
    if request.param == "unix":
        way["host"] = str(postgres_server.folder)
    elif request.param == "tls":
        way["ssl"] = ssl.create_default_context(cafile=certificate.cert)
    return way


def test_asyncpg_queries_and_transactions(run, asyncpg_way):
    import asyncpg

    async def main():
        db = await asyncpg.connect(**asyncpg_way)
        assert await db.fetchval(IS_ENCRYPTED) is bool(asyncpg_way["ssl"])
        assert [tuple(row) for row in await db.fetch(WORDS)] == COUNTED
        await db.execute("CREATE TEMP TABLE t (n int PRIMARY KEY, data bytea)")
        rows = [(n, bytes([n % 256]) * n) for n in range(500)]
        await db.executemany("INSERT INTO t VALUES ($1, $2)", rows)

        async def fail():
            async with db.transaction():
                await db.execute("DELETE FROM t WHERE n > 10")
                await db.execute("INSERT INTO t VALUES (0, '')")

        with pytest.raises(asyncpg.UniqueViolationError):
            await fail()
        async with db.transaction():
            await db.execute("UPDATE t SET data = $1 WHERE n = 0", b"changed")
        async with db.transaction():
            found = [
                tuple(row) async for row in db.cursor("SELECT * FROM t ORDER BY n", prefetch=7)
            ]
        assert found == [(0, b"changed"), *rows[1:]]
        big = b"x" * 3_000_000
        assert await db.fetchval("SELECT $1::bytea || 'y'", big) == big + b"y"
        await db.close()

    run(main())


def test_asyncpg_pool_cancels_and_goes_on(run, asyncpg_way):
    import asyncpg

    async def main():
        async with asyncpg.create_pool(min_size=2, max_size=5, **asyncpg_way) as pool:
            query = "SELECT sum(n) FROM generate_series(1, $1::int) n"
            sums = await asyncio.gather(*(pool.fetchval(query, n) for n in range(1, 101)))
            assert sums == [n * (n + 1) // 2 for n in range(1, 101)]
            async with pool.acquire() as db:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await db.execute("SELECT pg_sleep(60)")
                assert await db.fetchval("SELECT 'here'") == "here"

    run(main())


def test_asyncpg_copies_both_ways(run, asyncpg_way):
    import asyncpg

    async def main():
        db = await asyncpg.connect(**asyncpg_way)
        await db.execute("CREATE TEMP TABLE t (n int, name text)")
        rows = [(n, f"name {n}") for n in range(20_000)]
        assert await db.copy_records_to_table("t", records=rows) == "COPY 20000"
        out = bytearray()

        async def keep(data):
            out.extend(data)

        assert await db.copy_from_table("t", output=keep) == "COPY 20000"
        assert bytes(out) == b"".join(b"%d\tname %d\n" % (n, n) for n in range(20_000))
        await db.close()

    run(main())


def test_asyncpg_hears_notifications(run, asyncpg_way):
    import asyncpg

    async def main():
        listener = await asyncpg.connect(**asyncpg_way)
        speaker = await asyncpg.connect(**asyncpg_way)
        heard = asyncio.Queue()
        await listener.add_listener("news", lambda _db, pid, _channel, what: heard.put_nowait(what))
        for n in range(20):
            await speaker.execute("SELECT pg_notify('news', $1)", f"item {n}")
            assert await heard.get() == f"item {n}"
        async with speaker.transaction():
            for n in range(100):
                await speaker.execute("SELECT pg_notify('news', $1)", f"batch {n}")
            assert heard.empty()  # until the transaction is over
        assert [await heard.get() for _ in range(100)] == [f"batch {n}" for n in range(100)]
        await listener.close()
        await speaker.close()

    run(main())


# ---- psycopg: libpq's own sockets, watched with add_reader and add_writer -------------------------------


@pytest.fixture(params=WAYS)
def psycopg_way(request, postgres_server, certificate):
    """A connection string for the server."""
    pytest.importorskip("psycopg")
    way = {"user": "hoop", "dbname": "postgres", "port": postgres_server.port}
    way |= {"host": "127.0.0.1", "sslmode": "disable"}
    if request.param == "unix":
        way["host"] = postgres_server.folder
    elif request.param == "tls":
        way |= {"sslmode": "verify-full", "sslrootcert": certificate.cert}
    return " ".join(f"{key}={value}" for key, value in way.items()) + f" password='{PASSWORD}'"


def test_psycopg_queries_and_transactions(run, psycopg_way):
    import psycopg

    async def main():
        async with await psycopg.AsyncConnection.connect(psycopg_way) as db:
            encrypted = await (await db.execute(IS_ENCRYPTED)).fetchone()
            assert encrypted == ("verify-full" in psycopg_way,)
            assert await (await db.execute(WORDS)).fetchall() == COUNTED
            await db.execute("CREATE TEMP TABLE t (n int PRIMARY KEY, data bytea)")
            rows = [(n, bytes([n % 256]) * n) for n in range(500)]
            async with db.cursor() as cursor:
                await cursor.executemany("INSERT INTO t VALUES (%s, %s)", rows)

            async def fail():
                async with db.transaction():
                    await db.execute("DELETE FROM t WHERE n > 10")
                    await db.execute("INSERT INTO t VALUES (0, '')")

            with pytest.raises(psycopg.errors.UniqueViolation):
                await fail()
            async with db.transaction():
                await db.execute("UPDATE t SET data = %s WHERE n = 0", [b"changed"])
            async with db.cursor(name="on the server") as cursor:
                await cursor.execute("SELECT * FROM t ORDER BY n")
                found = [row async for row in cursor]
            assert found == [(0, b"changed"), *rows[1:]]
            big = b"x" * 3_000_000
            answer = await db.execute("SELECT %s::bytea || 'y'", [big])
            assert await answer.fetchone() == (big + b"y",)

    run(main())


def test_psycopg_connections_work_side_by_side(run, psycopg_way):
    import psycopg

    async def one(n):
        async with await psycopg.AsyncConnection.connect(psycopg_way) as db:
            found = []
            async with db.pipeline():
                answers = [
                    await db.execute("SELECT sum(i) FROM generate_series(1, %s) i", [n * 100 + m])
                    for m in range(20)
                ]
            for answer in answers:
                found += await answer.fetchone()
            return found

    async def main():
        assert await asyncio.gather(*map(one, range(8))) == [
            [i * (i + 1) // 2 or None for i in range(n * 100, n * 100 + 20)] for n in range(8)
        ]
        async with await psycopg.AsyncConnection.connect(psycopg_way, autocommit=True) as db:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await db.execute("SELECT pg_sleep(60)")
            assert await (await db.execute("SELECT 'here'")).fetchone() == ("here",)

    run(main())


def test_psycopg_copies_both_ways(run, psycopg_way):
    import psycopg

    async def main():
        async with await psycopg.AsyncConnection.connect(psycopg_way) as db, db.cursor() as cursor:
            await cursor.execute("CREATE TEMP TABLE t (n int, name text)")
            async with cursor.copy("COPY t FROM STDIN") as copy:
                for n in range(20_000):
                    await copy.write_row((n, f"name {n}"))
            out = bytearray()
            async with cursor.copy("COPY t TO STDOUT") as copy:
                async for block in copy:
                    out += block
            assert bytes(out) == b"".join(b"%d\tname %d\n" % (n, n) for n in range(20_000))

    run(main())


def test_psycopg_hears_notifications(run, psycopg_way):
    import psycopg

    async def main():
        connect = psycopg.AsyncConnection.connect
        async with (
            await connect(psycopg_way, autocommit=True) as listener,
            await connect(psycopg_way, autocommit=True) as speaker,
        ):
            await listener.execute("LISTEN news")

            async def hear():
                found = []
                async for notification in listener.notifies():
                    if notification.payload == "end":
                        return found
                    found.append((notification.channel, notification.payload))

            hearing = asyncio.create_task(hear())
            for n in range(100):
                await speaker.execute("SELECT pg_notify('news', %s)", [f"item {n}"])
            await speaker.execute("NOTIFY news, 'end'")
            assert await hearing == [("news", f"item {n}") for n in range(100)]

    run(main())
