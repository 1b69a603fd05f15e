"""A chat room: every line that someone writes goes to all others.

    python examples/chat_server.py 8888

Join it from several terminals with `nc 127.0.0.1 8888`. The first line that you send is your name.
"""

from __future__ import annotations

import contextlib
import sys

import hoop

BEHIND_MAX = 1 << 16  # bytes that may wait for one slow member

members: dict[hoop.StreamWriter, str] = {}


def tell(text: str, but: hoop.StreamWriter | None = None) -> None:
    """Send a line to everyone in the room except one. A member that reads too slowly is put out."""
    for writer in list(members):
        if writer is not but:
            if writer.transport.get_write_buffer_size() > BEHIND_MAX:
                writer.transport.abort()
            else:
                writer.write(f"{text}\n".encode())


async def serve(reader: hoop.StreamReader, writer: hoop.StreamWriter) -> None:
    writer.write(b"your name? ")
    try:
        name = (await reader.readline()).decode(errors="replace").strip() or "nobody"
        members[writer] = name
        tell(f"* {name} joined, {len(members)} here")
        while line := await reader.readline():
            tell(f"{name}: {line.decode(errors='replace').rstrip()}", but=writer)
    except ConnectionError:
        pass  # left without a word
    finally:
        if name := members.pop(writer, ""):
            tell(f"* {name} left")
        writer.close()


async def main(port: int) -> None:
    server = await hoop.start_server(serve, "127.0.0.1", port)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        hoop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8888))
