"""hoop.Path: pathlib's paths, whose methods that touch the disk are awaited.

The parts that only compute (`/`, parent, name, suffix, ...) are pathlib's own and are not awaited. A method
exists if the running Python's pathlib has it; copying and moving are always there.
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

BATCH = 256  # how many names one trip to a thread brings


class Path(pathlib.PurePosixPath):
    """A path of the file system. See pathlib.Path."""

    __slots__ = ()

    async def _do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of pathlib's path on a thread."""
        method = getattr(pathlib.Path(self), name)
        return await engine.in_thread(functools.partial(method, *args, **kwargs))

    async def _batches(self, start: Callable[[], Iterable[_T]]) -> AsyncIterator[_T]:
        """What an iterator gives, fetched in batches on threads."""
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
        """The status of the file."""
        return await files_os.stat(self, follow_symlinks=follow_symlinks)

    async def lstat(self) -> os.stat_result:
        """The status of the file, or of the link if it is one."""
        return await self.stat(follow_symlinks=False)

    async def exists(self, **options: Any) -> bool:
        """Whether there is such a file."""
        answer: bool = await self._do("exists", **options)
        return answer

    async def is_file(self, **options: Any) -> bool:
        """Whether it is a regular file."""
        answer: bool = await self._do("is_file", **options)
        return answer

    async def is_dir(self, **options: Any) -> bool:
        """Whether it is a folder."""
        answer: bool = await self._do("is_dir", **options)
        return answer

    async def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        answer: bool = await self._do("is_symlink")
        return answer

    async def is_mount(self) -> bool:
        """Whether something is mounted on it."""
        answer: bool = await self._do("is_mount")
        return answer

    async def is_socket(self) -> bool:
        """Whether it is a socket."""
        answer: bool = await self._do("is_socket")
        return answer

    async def is_fifo(self) -> bool:
        """Whether it is a FIFO."""
        answer: bool = await self._do("is_fifo")
        return answer

    async def is_block_device(self) -> bool:
        """Whether it is a block device."""
        answer: bool = await self._do("is_block_device")
        return answer

    async def is_char_device(self) -> bool:
        """Whether it is a character device."""
        answer: bool = await self._do("is_char_device")
        return answer

    if sys.version_info >= (3, 12):

        async def is_junction(self) -> bool:
            """Whether it is a junction, which there are not on Linux."""
            answer: bool = await self._do("is_junction")
            return answer

    async def samefile(self, other_path: Any) -> bool:
        """Whether it is the same file as another."""
        answer: bool = await self._do("samefile", os.fspath(other_path))
        return answer

    async def owner(self, **options: Any) -> str:
        """The name of the user who owns the file."""
        answer: str = await self._do("owner", **options)
        return answer

    async def group(self, **options: Any) -> str:
        """The name of the group that owns the file."""
        answer: str = await self._do("group", **options)
        return answer

    async def readlink(self) -> Self:
        """Where the symbolic link leads."""
        return type(self)(await self._do("readlink"))

    async def resolve(self, strict: bool = False) -> Self:
        """The absolute path without symbolic links."""
        return type(self)(await self._do("resolve", strict))

    async def absolute(self) -> Self:
        """The path from the root, links kept."""
        return type(self)(await self._do("absolute"))

    async def expanduser(self) -> Self:
        """The path with ~ and ~user replaced."""
        return type(self)(await self._do("expanduser"))

    @classmethod
    async def cwd(cls) -> Self:
        """The current folder."""
        return cls(await engine.in_thread(pathlib.Path.cwd))

    @classmethod
    async def home(cls) -> Self:
        """The user's folder."""
        return cls(await engine.in_thread(pathlib.Path.home))

    # ---- folders ----

    def iterdir(self) -> AsyncIterator[Self]:
        """The names in the folder: `async for`."""
        return self._paths("iterdir")

    def glob(self, pattern: str, **options: Any) -> AsyncIterator[Self]:
        """The files below it that match a pattern: `async for`."""
        return self._paths("glob", pattern, **options)

    def rglob(self, pattern: str, **options: Any) -> AsyncIterator[Self]:
        """The files anywhere below it that match a pattern: `async for`."""
        return self._paths("rglob", pattern, **options)

    if sys.version_info >= (3, 12):

        async def walk(
            self,
            top_down: bool = True,
            on_error: Callable[[OSError], object] | None = None,
            follow_symlinks: bool = False,
        ) -> AsyncIterator[tuple[Self, list[str], list[str]]]:
            """Each folder below it with the names in it: `async for`.

            Folders come one by one, so that the list of folders can be changed on the way down.
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
        """Make the folder."""
        await self._do("mkdir", mode, parents, exist_ok)

    async def rmdir(self) -> None:
        """Remove the empty folder."""
        await files_os.rmdir(self)

    # ---- changing ----

    async def rename(self, target: Any) -> Self:
        """Rename it. Returns the new path."""
        await files_os.rename(self, target)
        return type(self)(target)

    async def replace(self, target: Any) -> Self:
        """Rename it, over what may be there. Returns the new path."""
        await files_os.replace(self, target)
        return type(self)(target)

    async def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            await files_os.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    async def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file, or its times now."""
        await self._do("touch", mode, exist_ok)

    async def chmod(self, mode: int, *, follow_symlinks: bool = True) -> None:
        """Change the permissions."""
        await self._do("chmod", mode, follow_symlinks=follow_symlinks)

    async def lchmod(self, mode: int) -> None:
        """Change the permissions of a link, where there are any."""
        await self._do("lchmod", mode)

    async def symlink_to(self, target: Any, target_is_directory: bool = False) -> None:
        """Make this path a symbolic link to another."""
        await self._do("symlink_to", target, target_is_directory)

    async def hardlink_to(self, target: Any) -> None:
        """Make this path another name of a file."""
        await self._do("hardlink_to", target)

    async def copy(
        self, target: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False
    ) -> Self:
        """Copy the file or the tree. Returns the new path. See pathlib.Path.copy of Python 3.14."""
        await engine.in_thread(
            _copy, os.fspath(self), os.fspath(target), follow_symlinks, preserve_metadata
        )
        return type(self)(target)

    async def copy_into(
        self, target_dir: Any, *, follow_symlinks: bool = True, preserve_metadata: bool = False
    ) -> Self:
        """Copy the file or the tree into a folder. Returns the new path."""
        return await self.copy(
            type(self)(target_dir) / self._own_name(),
            follow_symlinks=follow_symlinks,
            preserve_metadata=preserve_metadata,
        )

    async def move(self, target: Any) -> Self:
        """Move the file or the tree, also to another file system. Returns the new path."""
        await engine.in_thread(_move, os.fspath(self), os.fspath(target))
        return type(self)(target)

    async def move_into(self, target_dir: Any) -> Self:
        """Move the file or the tree into a folder. Returns the new path."""
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
        """Open the file. See hoop.open."""
        return open_file(self, mode, buffering, encoding, errors, newline, opener=opener)

    async def read_bytes(self) -> bytes:
        """Everything in the file."""
        return await whole.read_bytes(self)

    async def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        """All the text in the file."""
        return await whole.read_text(self, encoding, errors, newline)

    async def write_bytes(self, data: Any, *, atomic: bool = False) -> int:
        """Make bytes the content of the file. See hoop.write_bytes."""
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
        """Make text the content of the file. See hoop.write_text."""
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
