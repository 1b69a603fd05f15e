"""The command `python -m hoop.demo`: a chat room on an observed hoop loop, driven and then left open."""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.util import find_spec


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hoop.demo",
        description="Serve a chat room with aiohttp on a hoop loop, drive it with real clients, "
        "say what that cost, and leave the page open until Ctrl-C.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end after the drive, with status 0 if all was delivered and 1 if not",
    )
    parser.add_argument(
        "--block",
        action="store_true",
        help="block the loop once, as one should not, and print the report that says where",
    )
    parser.add_argument("--port", type=int, default=0, help="default: one that is free")
    parser.add_argument(
        "--loop", choices=("hoop", "asyncio"), default="hoop", help="default: %(default)s"
    )
    parser.add_argument("--clients", type=int, default=40, help="default: %(default)s")
    parser.add_argument(
        "--messages", type=int, default=25, help="how many each client says; default: %(default)s"
    )
    parser.add_argument(
        "--requests", type=int, default=100, help="for the page; default: %(default)s"
    )
    arguments = parser.parse_args()
    if min(arguments.clients, arguments.messages) < 1 or arguments.requests < 0:
        parser.error("there must be at least one client with one message")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    if find_spec("aiohttp") is None:
        print("hoop.demo needs aiohttp: pip install aiohttp", file=sys.stderr)
        return 2

    from hoop.demo.show import show

    demonstration = show(
        arguments.port,
        arguments.clients,
        arguments.messages,
        arguments.requests,
        once=arguments.once,
        block_once=arguments.block,
    )
    try:
        if arguments.loop == "asyncio":
            complete = asyncio.run(demonstration)
        else:
            import hoop

            complete = hoop.run(demonstration, observe=True)
    except KeyboardInterrupt:
        print("\nThe room is closed.")
        return 0
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
