"""File layers for tests: one that remembers what a power loss would leave, one that fails on demand.

:class:`RecordingFiles` works on the real disk and keeps a log of every operation. :func:`after_power_loss` replays
a prefix of that log on a model of a disk that keeps only what was synced, and writes the result to a fresh
directory, ready to be opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retz.store.files import Buffer, FileLayer

Operation = tuple[Any, ...]


class RecordingFiles(FileLayer):
    """The real layer, with a log. ``mark`` puts the test's own entries between the operations."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[Operation] = []
        self._paths: dict[int, str] = {}

    def mark(self, what: Any) -> None:
        """Remember that this happened now, such as an acknowledgement."""
        self.log.append(("mark", what))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._paths[fd] = self._name(path)
        self.log.append(("create", fd, self._name(path)))
        return fd

    def open_append(self, path: Path) -> int:
        fd = super().open_append(path)
        self.log.append(("open", fd, self._name(path)))
        return fd

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        written = super().writev(fd, buffers)
        self.log.append(("write", fd, b"".join(bytes(buffer) for buffer in buffers)[:written]))
        return written

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        self.log.append(("sync", fd))

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self.log.append(("sync", fd))

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self.log.append(("truncate", fd, size))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.log.append(("rename", self._name(source), self._name(target)))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.log.append(("unlink", self._name(path)))

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        if path != self.root:
            self.log.append(("mkdir", self._name(path)))

    def fsync_dir(self, path: Path) -> None:
        super().fsync_dir(path)
        self.log.append(("sync_dir", self._name(path)))


@dataclass
class _Inode:
    """A file: what is safe, what is not yet."""

    safe: bytes = b""
    live: bytes = b""


Survival = Literal["synced", "data", "names", "all"]
"""What of the unsynced survives: nothing; file contents; directory entries; both."""


@dataclass
class _Disk:
    names: dict[str, _Inode] = field(default_factory=dict)
    safe_names: dict[str, _Inode] = field(default_factory=dict)
    directories: set[str] = field(default_factory=lambda: {"."})
    safe_directories: set[str] = field(default_factory=lambda: {"."})
    open: dict[int, _Inode] = field(default_factory=dict)
    last_write: tuple[_Inode, int] | None = None

    def replay(self, operation: Operation) -> None:
        kind, *rest = operation
        getattr(self, f"_{kind}")(*rest)

    def _mark(self, _what: Any) -> None:
        pass

    def _create(self, fd: int, name: str) -> None:
        # O_TRUNC on an existing name keeps the inode; ours never re-use one, a fresh inode is the harsher case.
        self.names[name] = self.open[fd] = _Inode()

    def _open(self, fd: int, name: str) -> None:
        self.open[fd] = self.names[name]

    def _write(self, fd: int, data: bytes) -> None:
        inode = self.open[fd]
        inode.live += data
        self.last_write = (inode, len(data))

    def _sync(self, fd: int) -> None:
        self.open[fd].safe = self.open[fd].live

    def _truncate(self, fd: int, size: int) -> None:
        self.open[fd].live = self.open[fd].live[:size]

    def _rename(self, source: str, target: str) -> None:
        self.names[target] = self.names.pop(source)

    def _unlink(self, name: str) -> None:
        del self.names[name]

    def _mkdir(self, name: str) -> None:
        self.directories.add(name)

    def _sync_dir(self, directory: str) -> None:
        inside = {name: inode for name, inode in self.names.items() if _parent(name) == directory}
        for name in [name for name in self.safe_names if _parent(name) == directory]:
            del self.safe_names[name]
        self.safe_names.update(inside)
        self.safe_directories |= {name for name in self.directories if _parent(name) == directory}

    def materialise(self, target: Path, survival: Survival, torn: int | None) -> None:
        every = survival in ("names", "all")
        names = self.names if every else self.safe_names
        directories = self.directories if every else self.safe_directories
        for directory in directories:
            (target / directory).mkdir(parents=True, exist_ok=True)
        for name, inode in names.items():
            if _parent(name) not in directories:
                continue
            content = inode.live if survival in ("data", "all") else inode.safe
            if torn is not None and self.last_write and inode is self.last_write[0] and content == inode.live:
                content = content[: len(content) - self.last_write[1] + torn]
            (target / name).write_bytes(content)


def _parent(name: str) -> str:
    return str(Path(name).parent)


def after_power_loss(
    log: Sequence[Operation], target: Path, survival: Survival = "synced", torn: int | None = None
) -> None:
    """Write to ``target`` (a new directory) what a disk would hold after these operations and a power loss.

    Args:
        survival: What of the unsynced survives. ``synced`` is the harshest for most code, but not for all:
            a name may survive whose data did not, and the other way round.
        torn: Keep only so many bytes of the last write, where its data would survive.
    """
    disk = _Disk()
    for operation in log:
        disk.replay(operation)
    target.mkdir(parents=True)
    disk.materialise(target, survival, torn)


def marks(log: Sequence[Operation]) -> list[Any]:
    """Return what the test put into the log with ``mark``, in order."""
    return [operation[1] for operation in log if operation[0] == "mark"]


class FailingFiles(FileLayer):
    """The real layer until ``fail_next`` is set: then the named operation raises.

    Attributes:
        short: A failing write first writes so many bytes.
    """

    def __init__(self) -> None:
        self._failures: dict[str, OSError] = {}
        self.short: int | None = None
        self.calls: list[str] = []

    def fail_next(self, operation: str, code: int) -> None:
        """Let the next call of ``operation`` (a method's name) raise OSError with this errno."""
        self._failures[operation] = OSError(code, os.strerror(code))

    def _check(self, operation: str) -> None:
        self.calls.append(operation)
        error = self._failures.pop(operation, None)
        if error:
            raise error

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        if "writev" in self._failures and self.short is not None:
            data, self.short = b"".join(bytes(buffer) for buffer in buffers)[: self.short], None
            return super().writev(fd, [data])
        self._check("writev")
        return super().writev(fd, buffers)

    def fdatasync(self, fd: int) -> None:
        self._check("fdatasync")
        super().fdatasync(fd)

    def fsync(self, fd: int) -> None:
        self._check("fsync")
        super().fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        self._check("rename")
        super().rename(source, target)

    def fsync_dir(self, path: Path) -> None:
        self._check("fsync_dir")
        super().fsync_dir(path)

    def truncate(self, fd: int, size: int) -> None:
        self._check("truncate")
        super().truncate(fd, size)
