"""A client of examples/echo_server.py: sends each argument as a line, and prints the answers.

    python examples/echo_client.py 8888 hello world

The first argument is the port on which the server listens.
"""

from __future__ import annotations

import sys

import hoop


async def main(port: int, words: list[str]) -> None:
    reader, writer = await hoop.open_connection("127.0.0.1", port)
    writer.writelines(word.encode() + b"\n" for word in words)
    for _ in words:
        answer = await reader.readline()
        print("answer:", answer.decode().rstrip())
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    hoop.run(main(int(sys.argv[1]), sys.argv[2:]))
