"""dask.distributed on hoop loops: a scheduler and two workers in processes of their own, and a client."""

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hoop

distributed = pytest.importorskip("distributed")
import cluster  # noqa: E402

HERE = Path(__file__).parent
SOURCE = Path(hoop.__file__).parent.parent


def hoop_loop(driver: str) -> str:
    """The answer of cluster.loop_here() for a hoop loop."""
    return f"hoop.EventLoop on {driver}"


@contextlib.contextmanager
def member(folder: Path, driver: str, security, role: str, *args: str):
    """A process that runs cluster.py, and must end well by itself."""
    env = os.environ | {"PYTHONPATH": f"{SOURCE}:{HERE}", "HOOP_DRIVER": driver}
    if security.certificate:
        env["HOOP_TEST_CERT"], env["HOOP_TEST_KEY"] = security.certificate
    log = folder / f"{'-'.join([role, *args])}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "cluster.py"), role, *args],
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield process
        assert process.wait(10) == 0, log.read_text()
    except BaseException as exc:
        exc.add_note(log.read_text())
        raise
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_two_workers_compute_together(run, driver, security, tmp_path):
    async def main(address):
        secure = cluster.security(*(security.certificate or (None, None)))
        async with distributed.Client(address, asynchronous=True, security=secure) as client:
            await client.wait_for_workers(2, timeout=10)
            loops = [
                await client.run_on_scheduler(cluster.loop_here),
                *(await client.run(cluster.loop_here)).values(),
            ]
            assert [loop for loop, _ in loops] == [hoop_loop(driver)] * 3
            assert len({pid for _, pid in loops} | {os.getpid()}) == 4
            await compute(client)
            await hand_over(client, driver)
            await talk(client)
            await client.shutdown()

    with (
        member(tmp_path, driver, security, "scheduler") as scheduler,
        member(tmp_path, driver, security, "worker", "a") as a,
        member(tmp_path, driver, security, "worker", "b") as b,
    ):
        address = scheduler.stdout.readline().strip()
        assert address.startswith("tls://" if security.certificate else "tcp://")
        for worker in (a, b):
            worker.stdin.write(f"{address}\n")
            worker.stdin.flush()
        run(main(address))


async def compute(client) -> None:
    """Many small tasks, a sum over them, and a failing one."""
    starts = range(0, 20_000, 500)
    parts = client.map(cluster.count_primes, starts, [start + 500 for start in starts])
    total = client.submit(sum, parts)
    assert await total == 2262  # primes below 20 000
    assert await client.gather(parts[:3]) == [95, 73, 71]
    failing = client.submit(cluster.count_primes, "a", "b")
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        await failing


async def hand_over(client, driver: str) -> None:
    """Megabytes from us to a worker, and from worker to worker; async tasks in the workers' loops."""
    for here, there in ("ab", "ba"):
        blob = client.submit(cluster.make_blob, 3, workers=here, pure=False)
        ours = await client.scatter(cluster.make_blob(2), workers=[there], direct=True)
        weight = client.submit(cluster.weigh, blob, ours, workers=there, pure=False)
        assert await weight == 5 << 20
    found = await client.gather(
        [client.submit(cluster.loop_of_worker, workers=name, pure=False) for name in "ab"]
    )
    assert [loop for loop, _ in found] == [hoop_loop(driver)] * 2
    assert found[0][1] != found[1][1]


async def talk(client) -> None:
    """Two tasks, one on each worker, play ping-pong through queues of the scheduler."""
    left, right = await distributed.Queue("left"), await distributed.Queue("right")
    players = [
        client.submit(cluster.play, "left", "right", 20, workers="a"),
        client.submit(cluster.play, "right", "left", 20, workers="b"),
    ]
    await left.put(0)
    assert await client.gather(players) == [list(range(0, 40, 2)), list(range(1, 40, 2))]
    assert await left.get() == 40
    assert await right.qsize() == 0


PROGRAM = """
    import asyncio, operator, os
    import hoop

    asyncio.set_event_loop_policy(hoop.EventLoopPolicy())  # here, and in the workers, which import this

    import dask, dask.bag
    import distributed

    def loop_here():
        loop = asyncio.get_running_loop()
        return type(loop) is hoop.EventLoop and loop.driver == os.environ["HOOP_DRIVER"], os.getpid()

    if __name__ == "__main__":
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            local_directory=os.getcwd(),
        ) as cluster, distributed.Client(cluster) as client:
            assert type(client.loop.asyncio_loop) is hoop.EventLoop
            loops = [client.run_on_scheduler(loop_here), *client.run(loop_here).values()]
            assert [ours for ours, _ in loops] == [True] * 3, loops
            assert len({pid for _, pid in loops}) == 3, loops
            words = dask.bag.from_sequence("to be or not to be".split() * 1000, npartitions=8)
            print(sorted(words.frequencies().compute()))
            squares = [dask.delayed(operator.pow)(n, 2) for n in range(100)]
            print(dask.delayed(sum)(squares).compute())
"""


def test_a_local_cluster_takes_its_loops_from_the_policy(driver, tmp_path):
    """The scheduler in a thread, nannies, and worker processes that multiprocessing spawned."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(program)],
        env=os.environ | {"PYTHONPATH": str(SOURCE), "HOOP_DRIVER": driver},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[('be', 2000), ('not', 1000), ('or', 1000), ('to', 2000)]",
        "328350",
    ]
