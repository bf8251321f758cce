"""What a ResourceManager's log has told so far of applications that have not ended, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd

import numpy as np

from ..errors import ParseError
from ..model import ResourceSkyline
from ..skyline import Skyline

MAX_APPLICATIONS = 100_000
MAX_CONTAINERS = 1_000_000
"""Beyond so many at once the application that was submitted first is forgotten; a container takes some 300 bytes."""

Size = tuple[int, int, int]
"""Memory MB, vcores, gpus."""

RESOURCES = ("memory", "vcores", "gpus")
_NO_SIZE_SEEN: Size = (1024, 1, 0)
_MASTER = b"_000001"


@dataclass(slots=True)
class _Container:
    start: int | None = None
    size: Size | None = None


@dataclass(slots=True)
class Application:
    """One application. Times are seconds since the epoch.

    Attributes:
        running: Containers by id: allocated and not released, or so far only their size is known.
        released: (start, end, size) of the others; None for a size that the log did not tell.
        size: Of containers of which the log tells none: that of the application master, if it is known.
    """

    submitted: int
    running: dict[bytes, _Container] = field(default_factory=dict)
    released: list[tuple[int, int, Size | None]] = field(default_factory=list)
    size: Size | None = None

    @property
    def held(self) -> int:
        """Number of containers that are remembered."""
        return len(self.running) + len(self.released)

    def record(self, job_id: str, finished: int) -> ResourceSkyline:
        """What it held. Containers that were not released by now are left out, as in Hadoop.

        Raises:
            ValueError: the amounts are beyond all measure.
        """
        default = self.size or _NO_SIZE_SEEN
        sizes = [size or default for _, _, size in self.released]
        starts = [start - self.submitted for start, _, _ in self.released]
        ends = [end - self.submitted for _, end, _ in self.released]
        count = len(RESOURCES) if any(size[2] for size in sizes) else len(RESOURCES) - 1
        amounts = np.array(sizes, dtype=np.float64).reshape(-1, len(RESOURCES))[:, :count]
        skyline = Skyline.from_intervals(starts, ends, amounts, RESOURCES[:count])
        unit = [float(gcd(*column)) for column in zip(*(sizes or [default]), strict=True)]
        container = dict(zip(RESOURCES[:count], unit, strict=False))  # one more where there are no gpus
        return ResourceSkyline(job_id, skyline, self.submitted * 1000, finished * 1000, container)


class Applications:
    """Applications by id. What is told of one whose submission is not known is passed over.

    Attributes:
        forgotten: How many were dropped because there were too many.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Application] = {}
        self._held = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._known)

    def submit(self, name: bytes, time: int) -> None:
        """It was submitted; a second submission begins anew."""
        self.end(name)
        self._known[name] = Application(time)
        self._bound()

    def fail(self, name: bytes, time: int) -> None:
        """An attempt failed: what it held so far is not what a good run needs, so it begins anew."""
        if name in self._known:
            self.submit(name, time)

    def allocate(self, name: bytes, container: bytes, time: int) -> None:
        """It got a container; a second time replaces the first."""
        if (application := self._known.get(name)) is not None:
            self._container(application, container).start = time

    def release(self, name: bytes, container: bytes, time: int) -> None:
        """It gave a container back.

        Raises:
            ParseError: before it was allocated; the container is left out.
        """
        application = self._known.get(name)
        if application is None or (running := application.running.pop(container, None)) is None:
            return
        self._held -= 1
        if running.start is None:
            return
        if time < running.start:
            raise ParseError(f"a container is released {running.start - time} s before it was allocated: left out")
        application.released.append((running.start, time, running.size))
        self._held += 1

    def resize(self, name: bytes, container: bytes | None, size: Size) -> None:
        """The log tells the size of a container, or, without its id, of the application master."""
        if (application := self._known.get(name)) is None:
            return
        if container is None or container.endswith(_MASTER) or application.size is None:
            application.size = size
        if container is not None:
            self._container(application, container).size = size

    def end(self, name: bytes) -> Application | None:
        """It ended: forget it; None if its submission is not known."""
        application = self._known.pop(name, None)
        self._held -= application.held if application else 0
        return application

    def _container(self, application: Application, container: bytes) -> _Container:
        if container not in application.running:
            application.running[container] = _Container()
            self._held += 1
            self._bound()
        return application.running[container]

    def _bound(self) -> None:
        while len(self._known) > MAX_APPLICATIONS or self._held > MAX_CONTAINERS:
            self.end(next(iter(self._known)))
            self.forgotten += 1
