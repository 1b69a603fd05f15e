"""hoop.Path: pathlib's paths, whose methods that touch the disk are coroutines.

The parts that only compute (`/`, parent, name, suffix, ...) are pathlib's own, and you do not await them. A
method exists if the running Python's pathlib has it. The methods for copying and moving always exist.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import pathlib
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from hoop.files import engine, whole
from hoop.files import os as files_os
from hoop.files.file import BinaryFile, Opening, TextFile
from hoop.files.opening import Opener
from hoop.files.opening import open as open_file

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

_T = TypeVar("_T")

BATCH = 256  # how many names one call on a thread fetches


class Path(pathlib.PurePosixPath):
    """A path whose methods that touch the disk are coroutines. See pathlib.Path.

    The exceptions are those of pathlib.Path.

        folder = hoop.Path("src")
        async for path in folder.rglob("*.py"):
            print(path, (await path.stat()).st_size)
    """

    __module__ = "hoop"

    __slots__ = ()

    async def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of pathlib's path on a thread."""
        method = getattr(pathlib.Path(self), name)
        return await engine.in_thread(functools.partial(method, *args, **kwargs))

    async def _batches(self, start: Callable[[], Iterable[_T]]) -> AsyncIterator[_T]:
        """The values of an iterator, fetched in batches on threads."""
        values: Iterator[_T] = iter(await engine.in_thread(start))
        while batch := await engine.in_thread(_take, values):
            for value in batch:
                yield value

    async def _paths(self, name: str, *args: Any, **kwargs: Any) -> AsyncIterator[Self]:
        method = getattr(pathlib.Path(self), name)
        async for path in self._batches(functools.partial(method, *args, **kwargs)):
            yield type(self)(path)

    # ---- asking ----

    async def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the status of the file, an os.stat_result."""
        return await files_os.stat(self, follow_symlinks=follow_symlinks)

    async def lstat(self) -> os.stat_result:
        """Return the status of the file, or of the link itself if the path is one."""
        return await self.stat(follow_symlinks=False)

    async def exists(self, **options: Any) -> bool:
        """Return True if the path exists."""
        answer: bool = await self._do("exists", **options)
        return answer

    async def is_file(self, **options: Any) -> bool:
        """Return True if the path is a regular file."""
        answer: bool = await self._do("is_file", **options)
        return answer

    async def is_dir(self, **options: Any) -> bool:
        """Return True if the path is a folder."""
        answer: bool = await self._do("is_dir", **options)
        return answer

    async def is_symlink(self) -> bool:
        """Return True if the path is a symbolic link."""
        answer: bool = await self._do("is_symlink")
        return answer

    async def is_mount(self) -> bool:
        """Return True if a file system is mounted on the path."""
        answer: bool = await self._do("is_mount")
        return answer

    async def is_socket(self) -> bool:
        """Return True if the path is a socket."""
        answer: bool = await self._do("is_socket")
        return answer

    async def is_fifo(self) -> bool:
        """Return True if the path is a FIFO."""
        answer: bool = await self._do("is_fifo")
        return answer

    async def is_block_device(self) -> bool:
        """Return True if the path is a block device."""
        answer: bool = await self._do("is_block_device")
        return answer

    async def is_char_device(self) -> bool:
        """Return True if the path is a character device."""
        answer: bool = await self._do("is_char_device")
        return answer

    if sys.version_info >= (3, 12):

        async def is_junction(self) -> bool:
            """Return False: there are no junctions on Linux."""
            answer: bool = await self._do("is_junction")
            return answer

    async def samefile(self, other_path: Any) -> bool:
        """Return True if both paths lead to the same file."""
        answer: bool = await self._do("samefile", os.fspath(other_path))
        return answer

    async def owner(self, **options: Any) -> str:
        """Return the name of the user who owns the file."""
        answer: str = await self._do("owner", **options)
        return answer

    async def group(self, **options: Any) -> str:
        """Return the name of the group that owns the file."""
        answer: str = await self._do("group", **options)
        return answer

    async def readlink(self) -> Self:
        """Return the path that the symbolic link contains."""
        return type(self)(await self._do("readlink"))

    async def resolve(self, strict: bool = False) -> Self:
        """Return the absolute path without symbolic links. With `strict` it must exist: OSError otherwise."""
        return type(self)(await self._do("resolve", strict))

    async def absolute(self) -> Self:
        """Return the path from the root, without following links."""
        return type(self)(await self._do("absolute"))

    async def expanduser(self) -> Self:
        """Return the path with ~ and ~user replaced."""
        return type(self)(await self._do("expanduser"))

    @classmethod
    async def cwd(cls) -> Self:
        """Return the current folder."""
        return cls(await engine.in_thread(pathlib.Path.cwd))

    @classmethod
    async def home(cls) -> Self:
        """Return the user's home folder."""
        return cls(await engine.in_thread(pathlib.Path.home))

    # ---- folders ----

    def iterdir(self) -> AsyncIterator[Self]:
        """Give the paths in the folder, for `async for`.

        For example:

            async for path in hoop.Path("src").iterdir():
                print(path)
        """
        return self._paths("iterdir")

    def glob(self, pattern: str, **options: Any) -> AsyncIterator[Self]:
        """Give the paths below the folder that match a pattern, for `async for`."""
        return self._paths("glob", pattern, **options)

    def rglob(self, pattern: str, **options: Any) -> AsyncIterator[Self]:
        """Give the paths at any depth below the folder that match a pattern, for `async for`."""
        return self._paths("rglob", pattern, **options)

    if sys.version_info >= (3, 12):

        async def walk(
            self,
            top_down: bool = True,
            on_error: Callable[[OSError], object] | None = None,
            follow_symlinks: bool = False,
        ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
            """Give each folder below this one with the names in it, for `async for`.

            Folders come one by one, so that you can change the list of folders on the way down.
            """
            start = functools.partial(
                pathlib.Path(self).walk,
                top_down,
                on_error,
                follow_symlinks,  # type: ignore[arg-type]
            )
            folders = await engine.in_thread(start)
            while (found := await engine.in_thread(next, folders, None)) is not None:
                yield type(self)(found[0]), found[1], found[2]

    async def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the folder. Raises FileExistsError if it exists, unless `exist_ok`."""
        await self._do("mkdir", mode, parents, exist_ok)

    async def rmdir(self) -> None:
        """Remove the empty folder. Raises OSError if it is not empty."""
        await files_os.rmdir(self)

    # ---- changing ----

    async def rename(self, target: Any) -> Self:
        """Rename the file or folder. Returns the new path."""
        await files_os.rename(self, target)
        return type(self)(target)

    async def replace(self, target: Any) -> Self:
        """Rename the file or folder; an existing target is replaced. Returns the new path."""
        await files_os.replace(self, target)
        return type(self)(target)

    async def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file. Raises FileNotFoundError if it does not exist, unless `missing_ok`."""
        try:
            await files_os.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file if it does not exist, or set its times to now."""
        await self._do("touch", mode, exist_ok)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change the permissions."""
        await self._do("chmod", mode, follow_symlinks=follow_symlinks)

    async def lchmod(self, mode: int) -> None:
        """Change the permissions of a link itself, where the system has such."""
        await self._do("lchmod", mode)

    async def symlink_to(self, target: Any, target_is_directory: bool = False) -> None:
        """Make this path a symbolic link to `target`."""
        await self._do("symlink_to", target, target_is_directory)

    async def hardlink_to(self, target: Any) -> None:
        """Make this path another name of the file `target`."""
        await self._do("hardlink_to", target)

    async def copy(
        self, target: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False
    ) -> Self:
        """Copy the file or the folder with its content. Returns the new path. See pathlib.Path.copy (Python
        3.14).
        """
        await engine.in_thread(
            _copy, os.fspath(self), os.fspath(target), follow_symlinks, preserve_metadata
        )
        return type(self)(target)

    async def copy_into(
        self, target_dir: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False
    ) -> Self:
        """Copy the file or the folder with its content into another folder. Returns the new path."""
        return await self.copy(
            type(self)(target_dir) / self._own_name(),
            follow_symlinks=follow_symlinks,
            preserve_metadata=preserve_metadata,
        )

    async def move(self, target: Any) -> Self:
        """Move the file or the folder, also to another file system. Returns the new path."""
        await engine.in_thread(_move, os.fspath(self), os.fspath(target))
        return type(self)(target)

    async def move_into(self, target_dir: Any) -> Self:
        """Move the file or the folder into another folder. Returns the new path."""
        return await self.move(type(self)(target_dir) / self._own_name())

    def _own_name(self) -> str:
        if not self.name:
            raise ValueError(f"{self!r} has an empty name")
        return self.name

    # ---- content ----

    @overload
    def open(
        self,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        opener: Opener | None = None,
    ) -> Opening[TextFile]: ...
    @overload
    def open(
        self,
        mode: OpenBinaryMode,
        buffering: int = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
        *,
        opener: Opener | None = None,
    ) -> Opening[BinaryFile]: ...
    @overload
    def open(
        self,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        opener: Opener | None = None,
    ) -> Opening[Any]: ...
    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        opener: Opener | None = None,
    ) -> Opening[Any]:
        """Open the file. See hoop.open().

        For example:

            async with hoop.Path("log.txt").open("a") as file:
                await file.write("started")
        """
        return open_file(self, mode, buffering, encoding, errors, newline, opener=opener)

    async def read_bytes(self) -> bytes:
        """Return all bytes of the file."""
        return await whole.read_bytes(self)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """Return the whole text of the file."""
        return await whole.read_text(self, encoding, errors, newline)

    async def write_bytes(self, data: Any, *, atomic: bool = False) -> int:
        """Replace the content of the file by bytes. See hoop.write_bytes()."""
        return await whole.write_bytes(self, data, atomic=atomic)

    async def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *,
        atomic: bool = False,
    ) -> int:
        """Replace the content of the file by text. See hoop.write_text()."""
        return await whole.write_text(self, data, encoding, errors, newline, atomic=atomic)


def _take(values: Iterator[_T]) -> list[_T]:
    """On a thread: the next batch."""
    return list(itertools.islice(values, BATCH))


def _copy(source: str, target: str, follow: bool, keep_metadata: bool) -> None:
    copy_file = shutil.copy2 if keep_metadata else shutil.copyfile
    if os.path.islink(source) and not follow:
        os.symlink(os.readlink(source), target)
        if keep_metadata:
            shutil.copystat(source, target, follow_symlinks=False)
    elif not os.path.isdir(source):
        if os.path.isdir(target):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        if os.path.exists(target) and os.path.samefile(source, target):
            raise OSError(errno.EINVAL, "Source and target are the same file", source, None, target)
        copy_file(source, target)
    else:
        _refuse_inside(source, target)
        os.mkdir(target)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name), follow, keep_metadata)
        if keep_metadata:
            shutil.copystat(source, target)


def _refuse_inside(source: str, target: str) -> None:
    here, there = os.path.realpath(source), os.path.realpath(target)
    if here == there or there.startswith(here + os.sep):
        raise OSError(errno.EINVAL, "Source path is a parent of target path", source, None, target)


def _move(source: str, target: str) -> None:
    try:
        os.replace(source, target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        _copy(source, target, False, True)
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.rmtree(source)
        else:
            os.unlink(source)
