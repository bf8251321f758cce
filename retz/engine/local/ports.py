"""TCP ports that are really free on this machine."""

from __future__ import annotations

import socket
from collections.abc import Set


def is_free(port: int) -> bool:
    """Whether a program could listen on ``port`` now, on every address, IPv4 and IPv6."""
    return _can_bind(socket.AF_INET, "0.0.0.0", port) and _can_bind(socket.AF_INET6, "::", port)


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        probe = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return True  # no IPv6 on this machine: nobody can hold the port there
    with probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno == 99  # EADDRNOTAVAIL: IPv6 compiled in but switched off
    return True


class PortPool:
    """Ports of a range, handed out in turn so that one just given back rests for a while."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._count = first, last - first
        self._next = 0
        self.held: set[int] = set()

    @property
    def size(self) -> int:
        """How many ports there are in all; the end of the range is not one of them."""
        return self._count

    def choose(self, count: int, taken: Set[int]) -> tuple[int, ...] | None:
        """Return ``count`` free ports that are neither held nor ``taken``; None if there are too few."""
        if not count:
            return ()
        chosen: list[int] = []
        for step in range(self._count):
            offset = (self._next + step) % self._count
            port = self._first + offset
            if port not in self.held and port not in taken and is_free(port):
                chosen.append(port)
                if len(chosen) == count:
                    self._next = (offset + 1) % self._count
                    return tuple(chosen)
        return None
