"""What of this machine is free: amounts, GPUs and ports, exact to the last unit."""

from __future__ import annotations

from collections.abc import Sequence

from retz.engine.base import Assignment
from retz.model.resources import Resources, Vector, add, fits, subtract

from .ports import PortPool


class Account:
    """Amounts held by tasks. What known tasks hold may exceed a total that was configured smaller since."""

    def __init__(self, total: Vector, gpus: Sequence[str], ports: PortPool) -> None:
        self._free = total
        self._gpus = dict.fromkeys(gpus)  # free ones, in order
        self._order = {uuid: index for index, uuid in enumerate(gpus)}
        self._ports = ports
        self._held: dict[str, tuple[Vector, Assignment]] = {}
        self._promised: dict[str, list[Assignment]] = {}  # by offer: chosen, and not launched yet

    @property
    def free(self) -> Vector:
        """What no task holds; negative where adopted tasks hold more than there is."""
        return self._free

    def take(self, task: str, need: Vector, assignment: Assignment, *, force: bool = False) -> bool:
        """Book a task; False, and nothing booked, if there is no room and it is not ``force``d."""
        if not force and not fits(need, self._free):
            return False
        self._free = subtract(self._free, need)
        self._held[task] = need, assignment
        for uuid in assignment.gpus:
            self._gpus.pop(uuid, None)
        if assignment.ports:
            self._ports.held.update(assignment.ports)
        return True

    def give_back(self, task: str) -> None:
        """Book a task out; twice is harmless."""
        held = self._held.pop(task, None)
        if held is None:
            return
        need, assignment = held
        self._free = add(self._free, need)
        if assignment.gpus:
            free = [*self._gpus, *(uuid for uuid in assignment.gpus if uuid in self._order)]
            self._gpus = dict.fromkeys(sorted(free, key=self._order.__getitem__))
        if assignment.ports:
            self._ports.held.difference_update(assignment.ports)

    def assign(self, offer: str, resources: Resources, taken: Assignment) -> Assignment | None:
        """Choose GPUs and ports that are free, not ``taken`` and not promised; None if there are too few.

        They are promised to ``offer`` until :meth:`unpromise`.
        """
        if not resources.gpus and not resources.ports:
            return Assignment()
        spoken_for = [taken, *(chosen for choices in self._promised.values() for chosen in choices)]
        gpus_gone = {uuid for chosen in spoken_for for uuid in chosen.gpus}
        gpus = [uuid for uuid in self._gpus if uuid not in gpus_gone][: resources.gpus]
        if len(gpus) < resources.gpus:
            return None
        ports = self._ports.choose(resources.ports, {port for chosen in spoken_for for port in chosen.ports})
        if ports is None:
            return None
        chosen = Assignment(tuple(gpus), ports)
        self._promised.setdefault(offer, []).append(chosen)
        return chosen

    def unpromise(self, offers: Sequence[str]) -> None:
        """What was chosen for these offers is held by tasks now, or free again."""
        for offer in offers:
            self._promised.pop(offer, None)
