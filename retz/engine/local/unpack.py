"""Unpacks archives into the current directory. Nothing leaves it, nothing of it is larger than was agreed.

Names with ``..`` or from the root, links that lead out, devices and pipes are errors, not skipped: an archive that
has them is not what its owner thinks. Every directory is opened by its parent's descriptor and never through a link,
so it does not matter what was unpacked before. Links among the members may begin with ``..``, but have none after that:
then each of them leads from a real place to one inside, whatever other links lie on the way.
"""

from __future__ import annotations

import bz2
import contextlib
import encodings.cp437
import encodings.idna
import gzip
import lzma
import os
import stat
import tarfile
import time
import zipfile
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Literal, Protocol

    class Readable(Protocol):
        def read(self, size: int, /) -> bytes: ...

    Kind = Literal["tar", "zip", "gz"]

CHUNK = 1 << 20
MAX_ENTRIES = 1_000_000
MAX_DEPTH = 64
RATIO, RATIO_FROM = 200, 256 << 20
"""Above this size, what unpacks to more than so many times itself is a bomb."""
RESERVED = ("stdout", "stderr")
_NEEDED = (bz2, lzma, zlib, encodings.cp437, encodings.idna)
"""Here, because others import them late, when the files of this Python may be out of reach."""
_ENDINGS: dict[str, Kind] = {
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
    ".zip": "zip",
    ".gz": "gz",
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class FetchError(Exception):
    """A file cannot be had; the text says why."""


def kind_of(name: str) -> Kind | None:
    """How a file of this name is packed; None if it is none of what we know."""
    return next((kind for ending, kind in _ENDINGS.items() if name.lower().endswith(ending)), None)


def cause(error: Exception) -> str:
    """What went wrong, in words."""
    if isinstance(error, FetchError):
        return str(error)
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):  # urllib wraps what it meets
        return cause(inner)
    if isinstance(error, TimeoutError):
        return "the server fell silent"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{error or type(error).__name__}"


def unpack(archive: IO[bytes], name: str, most: int) -> None:
    """Unpack an archive.

    Args:
        name: What it is called, which says how it is packed.
        most: Bytes that it may unpack to.

    Raises:
        FetchError: it is refused, or damaged; some of it may be there.
    """
    tree = _Tree(os.fstat(archive.fileno()).st_size, most)
    kind = kind_of(name)
    try:
        if kind == "tar":
            _unpack_tar(archive, tree)
        elif kind == "zip":
            _unpack_zip(archive, tree)
        else:
            with gzip.GzipFile(fileobj=archive) as stream:
                tree.file(name[: -len(".gz")], stream, None, 0o644, None)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise FetchError(f"the archive is damaged: {error}") from error
    finally:
        tree.close()


def _unpack_tar(archive: IO[bytes], tree: _Tree) -> None:
    with tarfile.open(fileobj=archive, mode="r:*") as tar:
        while (member := tar.next()) is not None:
            if member.isdir():
                tree.directory(member.name, member.mode)
            elif member.isreg():
                stream = tar.extractfile(member)
                assert stream is not None
                tree.file(member.name, stream, member.size, member.mode, member.mtime)
            elif member.issym():
                tree.link(member.name, member.linkname)
            elif member.islnk():
                tree.hard_link(member.name, member.linkname)
            else:
                raise FetchError(f"{member.name!r} in the archive is a device or a pipe")
            tar.members = []  # type: ignore[attr-defined]  # a million of them would fill the memory
        _see_end(tar)


def _see_end(tar: tarfile.TarFile) -> None:
    """What the library takes for the end may be damage."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if block and block != bytes(tarfile.BLOCKSIZE):
        raise FetchError("the archive is damaged: it ends in the middle")


def _unpack_zip(archive: IO[bytes], tree: _Tree) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                tree.directory(member.filename, mode or 0o755)
                continue
            with packed.open(member) as stream:
                if stat.S_ISLNK(mode):
                    tree.link(member.filename, os.fsdecode(stream.read(4097)))
                elif stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                    raise FetchError(f"{member.filename!r} in the archive is a device or a pipe")
                else:
                    tree.file(member.filename, stream, member.file_size, mode or 0o644, _zip_time(member))


def _zip_time(member: zipfile.ZipInfo) -> float | None:
    try:
        return time.mktime((*member.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return None


class _Tree:
    """What is unpacked of one archive: every entry is counted, and made where its name says or not at all."""

    def __init__(self, packed: int, most: int) -> None:
        self._packed, self._most = packed, most
        self._entries = self._bytes = 0
        self._root = os.open(".", _DIRECTORY)
        self._parts: tuple[str, ...] = ()
        self._parent = os.dup(self._root)  # the directory of the last entry: the next one is often there too

    def close(self) -> None:
        """Close its directories."""
        os.close(self._parent)
        os.close(self._root)

    def directory(self, name: str, mode: int) -> None:
        """Make a directory, unless it is there."""
        fd = self._enter(self._split(name))
        os.fchmod(fd, mode & 0o755 | 0o700)

    def file(self, name: str, stream: Readable, size: int | None, mode: int, mtime: float | None) -> None:
        """Make a file of ``size`` bytes (None: of all there are), in place of one of that name."""
        parent, last = self._place(name)
        with open(os.open(last, _FILE, 0o600, dir_fd=parent), "wb") as file:
            copied = 0
            while chunk := stream.read(CHUNK):
                self._count(len(chunk))
                copied += len(chunk)
                file.write(chunk)
            if size is not None and copied != size:
                raise FetchError(f"the archive is damaged: {name!r} has {copied} bytes, not {size}")
            file.flush()
            # Without setuid and the like, and for nobody else to write.
            os.fchmod(file.fileno(), mode & 0o755 | 0o600)
            if mtime is not None:
                moment = min(max(0.0, mtime), 1 << 33)
                os.utime(file.fileno(), (moment, moment))

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link that leads to a place inside."""
        parts = self._split(name)
        inner = target.split("/")
        while inner and inner[0] in ("..", "."):
            inner.pop(0)
        up = [part for part in target.split("/")[: len(target.split("/")) - len(inner)] if part == ".."]
        if target.startswith("/") or not target or ".." in inner or len(up) >= len(parts):
            raise FetchError(f"{name!r} in the archive is a link to {target!r}, which leads out of the sandbox")
        parent, last = self._place(name)
        os.symlink(target, last, dir_fd=parent)

    def hard_link(self, name: str, target: str) -> None:
        """Give a file of this archive another name."""
        parts = self._split(target)
        if not parts:
            raise FetchError(f"{name!r} in the archive is a link to {target!r}, which is not a file")
        source = parts[-1]
        fd = os.dup(self._enter(parts[:-1]))
        try:
            if not stat.S_ISREG(os.stat(source, dir_fd=fd, follow_symlinks=False).st_mode):
                raise FetchError(f"{name!r} in the archive is a link to {target!r}, which is not a file")
            parent, last = self._place(name)
            os.link(source, last, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(fd)

    def _split(self, name: str) -> tuple[str, ...]:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise FetchError(f"{name!r} in the archive leads out of the sandbox")
        if len(parts) > MAX_DEPTH:
            raise FetchError(f"the archive has directories more than {MAX_DEPTH} deep")
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise FetchError(f"the archive has more than {MAX_ENTRIES} entries")
        return parts

    def _place(self, name: str) -> tuple[int, str]:
        """The directory of an entry and its last name, which is free."""
        parts = self._split(name)
        if not parts or parts[0] in RESERVED:
            raise FetchError(f"{name!r} in the archive is in the place of something of the sandbox's own")
        parent = self._enter(parts[:-1])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(parts[-1], dir_fd=parent)  # a later member of that name counts
        return parent, parts[-1]

    def _enter(self, parts: tuple[str, ...]) -> int:
        """Open a directory, making what is missing. It stays open until the next call."""
        if parts == self._parts:
            return self._parent
        current = os.dup(self._root)
        for part in parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=current)
            try:
                deeper = os.open(part, _DIRECTORY, dir_fd=current)
            except OSError as error:
                raise FetchError(f"{part!r} in the archive is no directory, or behind a link") from error
            finally:
                os.close(current)
            current = deeper
        os.close(self._parent)
        self._parts, self._parent = parts, current
        return current

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._most:
            raise FetchError(f"the archive unpacks to more than {self._most >> 20} MiB (retz.fetch.max-size)")
        if self._bytes > RATIO_FROM and self._bytes > RATIO * self._packed:
            raise FetchError(f"the archive unpacks to more than {RATIO} times its size: is it a bomb?")
