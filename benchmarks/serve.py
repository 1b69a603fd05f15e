"""One echo server on one loop, in a process of its own: prints its port, then serves.

Usage: serve.py LOOP SERVER LIFETIME_SECONDS, with a LOOP from loops.py and a SERVER from
workloads.py. It ends by itself after its lifetime, so it cannot outlive a lost benchmark for long.
"""

from __future__ import annotations

import signal
import sys

from loops import loop_factory
from workloads import ECHO_SERVERS


def main() -> None:
    loop_name, server_name, lifetime_s = sys.argv[1:]
    signal.alarm(int(lifetime_s))
    loop = loop_factory(loop_name)()
    server = loop.run_until_complete(ECHO_SERVERS[server_name]("127.0.0.1"))
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main()
