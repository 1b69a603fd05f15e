"""The places of Unix sockets of observed processes: `$XDG_RUNTIME_DIR/hoop/PID.sock`, or a temporary folder.

The folder has to be the user's own and no link, and nobody else may enter it. A socket whose process is gone
is removed by the next process that starts to listen.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile

LINE_MAX = 64 * 1024  # bytes of a request
ANSWER_MAX = 8 * 1024 * 1024
PATH_MAX = 107  # bytes that the kernel takes
NAME = re.compile(r"(\d+)\.sock")
MEMFD = "hoop-stall"


def folder_of(uid: int) -> str:
    """The folder of the sockets of a user. Only for oneself does the environment count."""
    if uid == os.geteuid():
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if os.path.isabs(runtime) and os.path.isdir(runtime):
            return os.path.join(runtime, "hoop")
    elif os.path.isdir(f"/run/user/{uid}/hoop"):
        return f"/run/user/{uid}/hoop"
    return temporary_folder_of(uid)


def temporary_folder_of(uid: int) -> str:
    return os.path.join(tempfile.gettempdir(), f"hoop-{uid}")


def open_folder(path: str, own: bool) -> int:
    """Open the folder of a socket, which is made if it is missing. Returns its descriptor.

    Raises OSError if it is a link, or another user's. With `own`, nobody else may enter it either.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "the folder above it is missing", path) from None
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if own else 0)
    try:
        fd = os.open(path, flags)
    except NotADirectoryError:
        if not own:
            raise NotADirectoryError(
                errno.ENOTDIR, "the socket cannot be in a file", path
            ) from None
        raise PermissionError(errno.EPERM, "the folder is a link, or none at all", path) from None
    about = os.fstat(fd)
    if own and about.st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EPERM, "the folder is another user's", path)
    if own and stat.S_IMODE(about.st_mode) & 0o077:
        os.close(fd)
        raise PermissionError(errno.EPERM, "the folder is open to other users", path)
    return fd


def address_of(folder: int, path: str) -> str:
    """The address of a socket in an open folder. A path that is too long for the kernel is made shorter."""
    if len(os.fsencode(path)) <= PATH_MAX:
        return path
    short = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    if len(os.fsencode(short)) > PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, "the name of the socket is too long", path)
    return short


def is_stale(address: str) -> bool:
    """Whether nobody listens at this socket any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


def sweep(folder: int) -> None:
    """Remove the sockets of processes that ended without doing so."""
    for name in os.listdir(folder):
        found = NAME.fullmatch(name)
        if not found or os.path.exists(f"/proc/{found[1]}"):
            continue
        if is_stale(f"/proc/self/fd/{folder}/{name}"):
            remove(folder, name)


def remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass  # another process was faster


def listen(path: str | None = None) -> tuple[socket.socket, str]:
    """Listen at a path, or else at this process's own. Returns the socket and the path.

    Raises OSError if the place is not safe, or another process listens there.
    """
    own = path is None
    if path is None:
        path = os.path.join(folder_of(os.geteuid()), f"{os.getpid()}.sock")
    path = os.path.abspath(path)
    name = os.path.basename(path)
    folder = open_folder(os.path.dirname(path), own)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if own:
            sweep(folder)
        address = address_of(folder, path)
        os.fchmod(listening.fileno(), 0o600)  # the mode that bind() gives to the file
        try:
            listening.bind(address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise OSError(exc.errno, exc.strerror, path) from None
            if not is_socket(folder, name):
                raise FileExistsError(
                    errno.EEXIST, "there is something, and no socket", path
                ) from None
            if not is_stale(address):
                raise OSError(errno.EADDRINUSE, "another process listens there", path) from None
            remove(folder, name)
            listening.bind(address)
        listening.listen(16)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(folder)
    return listening, path


def is_socket(folder: int, name: str) -> bool:
    """Whether there is a socket of this name; anything else is never removed."""
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return stat.S_ISSOCK(about.st_mode)
