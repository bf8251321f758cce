"""Amounts of resources: what a job asks for, what an agent has, what an offer holds."""

from __future__ import annotations

from msgspec import Struct

Vector = tuple[int, int, int, int, int]
"""(milli-cpus, memory MiB, disk MiB, gpus, ports): integers, so that sums of fractions stay exact."""

RESOURCE_NAMES = ("cpus", "mem", "disk", "gpus", "ports")


class Resources(Struct, frozen=True, omit_defaults=True, gc=False):
    """An amount of each resource.

    Attributes:
        cpus: Processors, may be fractional; kept to a thousandth.
        mem: Memory in MiB.
        disk: Disk space in MiB.
        gpus: Whole GPUs.
        ports: Number of TCP ports.
    """

    cpus: float = 0.0
    mem: int = 0
    disk: int = 0
    gpus: int = 0
    ports: int = 0

    @property
    def vector(self) -> Vector:
        """The same amounts as integers, cpus in thousandths."""
        return (round(self.cpus * 1000), self.mem, self.disk, self.gpus, self.ports)


def from_vector(vector: Vector) -> Resources:
    """The inverse of :attr:`Resources.vector`."""
    return Resources(vector[0] / 1000, *vector[1:])


def add(a: Vector, b: Vector) -> Vector:
    """Component-wise sum."""
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4])


def subtract(a: Vector, b: Vector) -> Vector:
    """Component-wise difference; the caller checks for negative components."""
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4])


def times(a: Vector, count: int) -> Vector:
    """So many times the same."""
    return (a[0] * count, a[1] * count, a[2] * count, a[3] * count, a[4] * count)


def least(a: Vector, b: Vector) -> Vector:
    """Component-wise minimum."""
    return (min(a[0], b[0]), min(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]), min(a[4], b[4]))


def fits(need: Vector, room: Vector) -> bool:
    """Whether every component of ``need`` is at most that of ``room``."""
    return (
        need[0] <= room[0] and need[1] <= room[1] and need[2] <= room[2] and need[3] <= room[3] and need[4] <= room[4]
    )
