"""The demonstration from start to end: serve, drive, report, and leave the page open."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

import hoop.observe
from hoop.demo.chat import PAGE, create_application, describe_loop
from hoop.demo.clients import Outcome, drive

HOST = "127.0.0.1"
SHUTDOWN_TIMEOUT_S = 2.0
FAULTS_SHOWN_MAX = 10
BLOCK_S = 0.5
REPORT_TIMEOUT_S = 5.0


@asynccontextmanager
async def serving(app: web.Application, port: int) -> AsyncIterator[str]:
    """Serve the application on the port, 0 for one the kernel chooses, and give its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def summary(outcome: Outcome, page_bytes: int) -> str:
    """Return the result and its cost, as lines to print."""
    lines = [
        f"{outcome.clients} clients said {outcome.messages:,} messages over WebSockets",
        f"  delivered  {outcome.deliveries:,} of {outcome.deliveries_expected:,} messages",
        f"  page       {outcome.page_requests} of {outcome.page_requests_expected} requests "
        f"answered with all {page_bytes:,} bytes",
        f"  time       {outcome.wall_s:.2f} s wall, {outcome.cpu_s:.2f} s CPU",
    ]
    if outcome.deliveries:
        lines.append(
            f"  cost       {outcome.cpu_s * 1e6 / outcome.deliveries:.1f} µs CPU per delivered "
            "message, its sending and its checking included"
        )
    faults = [f"  FAULT      {fault}" for fault in outcome.faults[:FAULTS_SHOWN_MAX]]
    if len(outcome.faults) > FAULTS_SHOWN_MAX:
        faults.append(f"  and {len(outcome.faults) - FAULTS_SHOWN_MAX:,} more faults")
    verdict = (
        "Every client got every message once, in the same order."
        if outcome.complete
        else "NOT everything was delivered as it should."
    )
    return "\n".join([*lines, *faults, verdict])


class Reports(logging.Handler):
    """Prints each report of a blocked loop. `over` is set when one was the last of its stall."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a report, in the observer's thread."""
        print(f"  REPORT     {record.getMessage()}", flush=True)
        if record.__dict__["hoop"].over:
            self.loop.call_soon_threadsafe(self.over.set)


def fetch_slowly() -> None:
    """Wait as a blocking database driver does, and let nothing else run meanwhile."""
    time.sleep(BLOCK_S)  # this is the line


async def careless() -> None:
    """Do in a task of the loop what belongs into a thread."""
    fetch_slowly()


async def block() -> None:
    """Block the loop once, and wait for the reports."""
    print(f"Blocking the loop for {BLOCK_S} s:", flush=True)
    reports = Reports()
    logger = logging.getLogger("hoop.watch")
    logger.addHandler(reports)
    try:
        with hoop.observe.label("a careless guest"):
            await asyncio.create_task(careless(), name="guest")
        async with asyncio.timeout(REPORT_TIMEOUT_S):
            await reports.over.wait()
    except TimeoutError:
        print("  nothing was reported: is the loop hoop's?", flush=True)
    finally:
        logger.removeHandler(reports)


def commands(pid: int) -> str:
    """Return the commands that look into this process, as lines to print."""
    return "\n".join(
        [
            "Look into it from another terminal:",
            f"  hoop top {pid}         tasks, connections, and the line that blocks the loop",
            f"  hoop web {pid}         the same in the browser",
            f"  hoop stalls {pid}      the last reports; `hoop --help` lists the other commands",
        ]
    )


async def show(
    port: int,
    clients_count: int,
    messages_each: int,
    page_requests: int,
    *,
    once: bool,
    block_once: bool = False,
) -> bool:
    """Run the demonstration and return whether everything was delivered.

    Unless it is to run once only, it then serves the page until it is cancelled.
    """
    app = create_application()
    async with serving(app, port) as url:
        loop = describe_loop(asyncio.get_running_loop())
        print(f"A chat room on {url} served by aiohttp on {loop}", flush=True)
        outcome = await drive(url, app[PAGE], clients_count, messages_each, page_requests)
        print(summary(outcome, len(app[PAGE])), flush=True)
        if block_once:
            await block()
        if hoop.observe.is_on():
            print(commands(os.getpid()), flush=True)
        if not once:
            print(f"The room stays open at {url} until you press Ctrl-C.", flush=True)
            await asyncio.Event().wait()
    return outcome.complete
