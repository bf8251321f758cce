"""What the master told of its agents, kept up to date between two looks at all of them, and what of it is news.

The event stream says at once which agents and tasks come and go. What an agent has on offer, whether it drains, is
deactivated or lost its connection is in no event: a poll now and then brings it, and corrects the sums.
"""

from __future__ import annotations

from collections.abc import Collection

from retz.model.agent import AttributeValue
from retz.model.resources import Vector, add, subtract

from . import wire
from .operator_api import TERMINAL, AgentEntry, AgentInfo, Agents, Event, State, TaskEntry, amounts, attributes
from .wire import ITEMS, Message, SeenAgent

_NOTHING: Vector = (0, 0, 0, 0, 0)
_Key = tuple[str, str]
"""Framework id and task id."""
FORGET_S = 86_400.0
"""An agent that did not come back for so long is not shown any more."""


class _Agent:
    """An agent, with what its tasks hold."""

    __slots__ = (
        "attributes",
        "difference",
        "host",
        "more",
        "offered",
        "ours",
        "since",
        "state",
        "tasks",
        "total",
        "url",
    )

    def __init__(self) -> None:
        self.host = self.url = ""
        self.state = "active"
        self.total = self.offered = _NOTHING
        self.attributes: dict[str, AttributeValue] = {}
        self.tasks = self.ours = _NOTHING
        self.more = self.difference = _NOTHING  # held beyond what tasks hold: by executors, by operations
        self.since: float | None = None  # when the master forgot it

    def seen(self, agent_id: str) -> SeenAgent:
        """As it is told to the server."""
        held = _at_least(self.ours, add(self.tasks, self.more))
        return SeenAgent(
            agent_id,
            self.host,
            self.url,
            self.total,
            held,
            self.ours,
            self.offered,
            self.state,
            self.attributes,
        )


class AgentBook:
    """See the module's text. ``framework`` is ours, empty as long as there is none."""

    def __init__(self) -> None:
        self.framework = ""
        self.roles: tuple[str, ...] | None = None
        self._agents: dict[str, _Agent] = {}
        self._tasks: dict[_Key, tuple[str, Vector]] = {}
        self._keys: dict[str, dict[_Key, None]] = {}  # of an agent's tasks; they may be told before the agent is
        self._changed: dict[str, None] = {}
        self._told: dict[str, SeenAgent] = {}
        self._moved: set[str] = set()  # came or went since a poll began
        self._anew = False

    def with_gpus(self) -> dict[str, str]:
        """Agents (id -> host) that have GPUs and can be reached."""
        return {
            agent_id: agent.host
            for agent_id, agent in self._agents.items()
            if agent.total[3] and agent.state != "unreachable"
        }

    @property
    def forgotten(self) -> bool:
        """Whether agents are kept that the master does not list."""
        return any(agent.since is not None for agent in self._agents.values())

    # -- what the master says

    def subscribed(self, state: State, framework: str, now: float) -> None:
        """A new subscription: this is all there is."""
        self.framework = framework
        mine = [f.roles for f in state.get_frameworks.frameworks if f.framework_info.id.value == framework]
        self.roles = mine[0] if mine else None
        self._tasks.clear()
        self._keys.clear()
        for agent in self._agents.values():
            agent.tasks = agent.ours = agent.more = agent.difference = _NOTHING
        self._list(state.get_agents, now)
        for task in state.get_tasks.tasks:
            self._add_task(task)
        for entry in state.get_agents.agents:
            agent = self._agents[entry.agent_info.id.value]
            agent.more = agent.difference = subtract(amounts(entry.allocated_resources, self.roles), agent.tasks)
        self._anew = True

    def polling(self) -> None:
        """All agents are about to be asked for."""
        self._moved.clear()

    def polled(self, answer: Agents, now: float) -> None:
        """A look at all agents; of those that came or went meanwhile the events know better.

        A difference to what the tasks hold is believed when it was there twice.
        The answer and the events come on two connections: a task that is in one and not yet in the other would make a
        difference that is none.
        """
        self._list(answer, now, self._moved)
        for entry in answer.agents:
            agent = self._agents.get(entry.agent_info.id.value)
            if agent is None or agent.since is not None:
                continue
            difference = subtract(amounts(entry.allocated_resources, self.roles), agent.tasks)
            if difference == agent.difference:
                agent.more = difference
            agent.difference = difference

    def event(self, event: Event, now: float) -> bool:
        """News. False if only a new subscription helps: our roles have changed, and so what counts as ours."""
        if event.task_updated is not None:
            updated = event.task_updated
            self._update_task((updated.framework_id.value, updated.status.task_id.value), updated.state)
            if updated.state == "TASK_GONE_BY_OPERATOR":
                self._gone(updated.status.agent_id.value)
        elif event.task_added is not None:
            self._add_task(event.task_added.task)
        elif event.agent_added is not None:
            self._moved.add(event.agent_added.agent.agent_info.id.value)
            self._note(event.agent_added.agent)
        elif event.agent_removed is not None:
            self._moved.add(event.agent_removed.agent_id.value)
            self._vanished(event.agent_removed.agent_id.value, now)
        elif event.framework_removed is not None:
            self._remove_framework(event.framework_removed.framework_info.id.value)
        changed = event.framework_added or event.framework_updated
        if changed is not None and changed.framework.framework_info.id.value == self.framework:
            return changed.framework.roles == self.roles
        return True

    def none_unreachable(self) -> None:
        """The master knows of no unreachable agent: those it does not list have left for good."""
        for agent_id in [agent_id for agent_id, agent in self._agents.items() if agent.since is not None]:
            self._gone(agent_id)

    # -- agents

    def _list(self, answer: Agents, now: float, moved: Collection[str] = ()) -> None:
        """These agents there are, and no others; nothing is said about those in ``moved``."""
        listed = set(moved)
        for entry in answer.agents:
            if entry.agent_info.id.value not in moved:
                self._note(entry)
            listed.add(entry.agent_info.id.value)
        for info in answer.recovered_agents:
            if info.id.value not in listed:
                self._note_recovered(info)
            listed.add(info.id.value)
        for agent_id in [agent_id for agent_id in self._agents if agent_id not in listed]:
            self._vanished(agent_id, now)

    def _note(self, entry: AgentEntry) -> None:
        info = entry.agent_info
        agent_id = info.id.value
        if not agent_id:
            return
        agent = self._agents.get(agent_id)
        if agent is None or agent.since is not None:
            self._replace_forgotten(entry.url, agent_id)
        if agent is None:
            agent = self._agents[agent_id] = _Agent()
            self._count_tasks(agent_id, agent)
        agent.since = None
        agent.host, agent.url, agent.state = info.hostname, entry.url, entry.state
        agent.total = amounts(entry.total_resources or info.resources, self.roles)
        agent.offered = amounts(entry.offered_resources, self.roles)
        agent.attributes = attributes(info)
        self._changed[agent_id] = None

    def _note_recovered(self, info: AgentInfo) -> None:
        agent = self._agents.get(info.id.value)
        if agent is None:
            agent = self._agents[info.id.value] = _Agent()
            agent.host, agent.attributes = info.hostname, attributes(info)
            agent.total = amounts(info.resources, self.roles)
        agent.since = None
        agent.state, agent.offered = "unreachable", _NOTHING
        self._changed[info.id.value] = None

    def _vanished(self, agent_id: str, now: float) -> None:
        """The master lists it no more. It does not say why: it stays as unreachable, unless we know better."""
        agent = self._agents.get(agent_id)
        if agent is None:
            return
        if agent.since is None:
            agent.since = now
        if now - agent.since > FORGET_S:
            self._gone(agent_id)
            return
        for key in self._keys.pop(agent_id, ()):
            del self._tasks[key]
        agent.state = "unreachable"
        agent.offered = agent.tasks = agent.ours = agent.more = agent.difference = _NOTHING
        self._changed[agent_id] = None

    def _gone(self, agent_id: str) -> None:
        for key in self._keys.pop(agent_id, ()):
            del self._tasks[key]
        if self._agents.pop(agent_id, None) is not None:
            self._changed[agent_id] = None

    def _replace_forgotten(self, url: str, agent_id: str) -> None:
        """An agent at the address of one that vanished: it has lost its old id for ever."""
        for other in [key for key, agent in self._agents.items() if agent.since is not None and agent.url == url]:
            if other != agent_id:
                self._gone(other)

    # -- tasks

    def _add_task(self, task: TaskEntry) -> None:
        key = (task.framework_id.value, task.task_id.value)
        self._update_task(key, "TASK_LOST")  # an agent that came back brings its tasks a second time
        if task.state in TERMINAL:
            return
        vector = amounts(task.resources, self.roles)
        self._tasks[key] = (task.agent_id.value, vector)
        self._keys.setdefault(task.agent_id.value, {})[key] = None
        self._hold(key[0], task.agent_id.value, vector)

    def _update_task(self, key: _Key, state: str) -> None:
        if state not in TERMINAL:
            return
        held = self._tasks.pop(key, None)
        if held is not None:
            self._keys[held[0]].pop(key)
            self._hold(key[0], held[0], subtract(_NOTHING, held[1]))

    def _hold(self, framework: str, agent_id: str, vector: Vector) -> None:
        agent = self._agents.get(agent_id)
        if agent is None:
            return
        agent.tasks = add(agent.tasks, vector)
        if framework == self.framework:
            agent.ours = add(agent.ours, vector)
        self._changed[agent_id] = None

    def _count_tasks(self, agent_id: str, agent: _Agent) -> None:
        """The tasks of an agent may be told before the agent."""
        for key in self._keys.get(agent_id, ()):
            vector = self._tasks[key][1]
            agent.tasks = add(agent.tasks, vector)
            if key[0] == self.framework:
                agent.ours = add(agent.ours, vector)

    def _remove_framework(self, framework: str) -> None:
        for key in [key for key in self._tasks if key[0] == framework]:
            self._update_task(key, "TASK_LOST")

    # -- news

    def news(self) -> list[Message]:
        """What the server does not know yet, in messages of bounded length; then it does."""
        if self._anew:
            self._anew = False
            self._changed.clear()
            self._told = {agent_id: agent.seen(agent_id) for agent_id, agent in self._agents.items()}
            parts = _parts(list(self._told.values())) or [[]]
            last = len(parts) - 1
            return [wire.Agents(part, anew=number == 0, more=number < last) for number, part in enumerate(parts)]
        gone = [agent_id for agent_id in self._changed if agent_id not in self._agents and agent_id in self._told]
        for agent_id in gone:
            del self._told[agent_id]
        changed: list[SeenAgent] = []
        for agent_id in self._changed:
            agent = self._agents.get(agent_id)
            if agent is not None and (seen_now := agent.seen(agent_id)) != self._told.get(agent_id):
                self._told[agent_id] = seen_now
                changed.append(seen_now)
        self._changed.clear()
        return [*([wire.AgentsGone(gone)] if gone else []), *map(wire.Agents, _parts(changed))]


def _parts(seen: list[SeenAgent]) -> list[list[SeenAgent]]:
    return [seen[start : start + ITEMS] for start in range(0, len(seen), ITEMS)]


def _at_least(low: Vector, vector: Vector) -> Vector:
    cpus, mem, disk, gpus, ports = map(max, low, vector)
    return (cpus, mem, disk, gpus, ports)
