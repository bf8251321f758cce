"""What the launcher asks of the operating system once, and the files by which others find it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time

from .processes import TICK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PROTOCOL = 3
SOCKET, LOCK, AGENT, LOG = "launcher.sock", "launcher.lock", "agent", "launcher.log"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def complain(text: str) -> None:
    """Write a line to the launcher's log, if it takes one: with a full disk the launcher, and all jobs, go on."""
    try:
        os.write(2, f"{time.time():.3f} {text}\n".encode(errors="replace"))
    except OSError:
        return  # nobody is left to tell


def ticks_now() -> int:
    """Return the clock that /proc counts start times with, in its ticks."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) / TICK)


def boot_id() -> str:
    """Return what tells one boot of this machine from another."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def open_children() -> int | None:
    """Open the kernel's list of our children; None where it has none."""
    pid = os.getpid()
    try:
        return os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY)
    except FileNotFoundError:
        return None


def open_signalfd(numbers: Iterable[signal.Signals]) -> int:
    """Block these signals and return a descriptor to read them from: no handler, no interrupted call."""
    import ctypes  # here, because the server imports this module too, for its constants

    numbers = set(numbers)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    mask = (ctypes.c_ulong * 16)()
    for number in numbers:
        mask[0] |= 1 << (number - 1)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd


def become_subreaper() -> None:
    """Make what loses its parent below us our child."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end_with(parent: int) -> None:
    """Be killed when the parent ends, which it may have already; 0 takes that back. A change of user does, too."""
    import ctypes

    number = signal.SIGKILL if parent else 0
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if parent and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def lock() -> bool:
    """Become the one launcher of this directory; False if there is another."""
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    os.pwrite(fd, b"%-10d\n" % os.getpid(), 0)  # of one length, so that nobody ever reads half of it
    return True


def listen() -> socket.socket:
    """Listen on the socket in the current directory, which keeps the path shorter than any limit."""
    if os.path.lexists(SOCKET):
        os.unlink(SOCKET)  # noqa: PTH108 -- pathlib costs the launcher milliseconds
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    listener.bind(SOCKET)
    os.umask(before)
    listener.listen(8)
    return listener
