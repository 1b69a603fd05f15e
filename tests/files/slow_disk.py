"""A disk whose every request takes as long as a test wishes: a FUSE server, run as a program.

    slow_disk.py FOLDER

mounts a disk with one file, `file`, on the folder and prints "mounted". For each request of a kind in SLOW
it prints the kind. It answers when it has read a line, or after TOO_LONG seconds, with "late" printed. So a
loop that answers each line shows that no request stops it. The server ends when its standard input ends.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE = 1, 2, 3, 4, 14, 15, 16
STATFS, RELEASE, FLUSH, INIT, INTERRUPT, BATCH_FORGET = 17, 18, 25, 26, 36, 42
SLOW = {OPEN: "open", READ: "read", WRITE: "write", FLUSH: "flush"}
TOO_LONG = 3.0

_HEADER = struct.Struct("<IIQQIIII")
_ENOENT, _ENOSYS = 2, 38
_FOLDER, _FILE = 1, 2

content = bytearray(b"a line\n" * 20_000)


def attributes(node: int) -> bytes:
    size = len(content) if node == _FILE else 0
    mode = 0o100644 if node == _FILE else 0o40755
    return struct.pack("<6Q3I7I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(kind: int, node: int, data: bytes) -> bytes | int | None:
    """The body of an answer, a negative error, or None for no answer."""
    if kind == INIT:
        _, _, readahead, _ = struct.unpack_from("<4I", data)
        return struct.pack("<4I2H2I2H8I", 7, 31, readahead, 0, 16, 12, 1 << 17, 1, 0, 0, *[0] * 8)
    if kind in (FORGET, BATCH_FORGET, INTERRUPT):
        return None
    if kind == LOOKUP:
        if data != b"file\0":
            return -_ENOENT
        return struct.pack("<4Q2I", _FILE, 0, 1000, 1000, 0, 0) + attributes(_FILE)
    if kind in (GETATTR, SETATTR):
        if kind == SETATTR and struct.unpack_from("<I", data)[0] & 8:  # the size
            del content[struct.unpack_from("<3Q", data)[2] :]
        return struct.pack("<Q2I", 1000, 0, 0) + attributes(node)
    if kind == OPEN:
        return struct.pack("<Q2I", 1, 0, 0)
    if kind == READ:
        _, offset, size = struct.unpack_from("<2QI", data)
        return bytes(content[offset : offset + size])
    if kind == WRITE:
        _, offset, size = struct.unpack_from("<2QI", data)
        content[offset : offset + size] = data[40 : 40 + size]
        return struct.pack("<2I", size, 0)
    if kind == STATFS:
        return bytes(80)
    return b"" if kind in (FLUSH, RELEASE) else -_ENOSYS


def wait_for_leave(name: str) -> None:
    print(name, flush=True)
    ready, _, _ = select.select([0], [], [], TOO_LONG)
    if not ready:
        print("late", name, flush=True)
        ready, _, _ = select.select([0], [], [], 60)
    if not os.read(0, 1):
        raise EOFError


def serve(device: int) -> None:
    while True:
        ready, _, _ = select.select([device, 0], [], [])
        if 0 in ready and not os.read(0, 1):
            return
        if device not in ready:
            continue
        request = os.read(device, 1 << 18)
        length, kind, unique, node, *_ = _HEADER.unpack_from(request)
        if kind in SLOW:
            wait_for_leave(SLOW[kind])
        body = answer(kind, node, request[_HEADER.size : length])
        if body is None:
            continue
        error = body if isinstance(body, int) else 0
        body = b"" if isinstance(body, int) else body
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except FileNotFoundError:
            pass  # whoever asked was killed


def main(folder: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    if libc.mount(b"slow", folder.encode(), b"fuse.slow", 6, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    print("mounted", flush=True)
    try:
        serve(device)
    except EOFError:
        pass
    finally:
        libc.umount2(folder.encode(), 2)


if __name__ == "__main__":
    main(sys.argv[1])
