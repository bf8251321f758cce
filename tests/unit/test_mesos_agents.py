"""The server's table of agents: what the observer tells, what offers tell, and the GPUs."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from retz.engine.mesos.agents import BY_INDEX, NO_TELEMETRY, AgentTable, slot
from retz.engine.mesos.wire import Agents, AgentsGone, Entry, MesosOffer, SeenAgent, SeenGpu, Telemetry
from retz.model.resources import Resources, Vector

NOTHING: Vector = (0, 0, 0, 0, 0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def slots_of(table: AgentTable, agent_id: str) -> tuple[str, ...]:
    agent = table.get(agent_id)
    assert agent is not None
    return tuple(gpu.uuid for gpu in agent.gpus)


def seen(agent_id: str = "a", **more: Any) -> SeenAgent:
    fields: dict[str, Any] = {
        "id": agent_id, "host": f"{agent_id}.lan", "url": f"http://{agent_id}:5051/slave(1)",
        "total": (8000, 4096, 0, 2, 10), "held": NOTHING, "ours": NOTHING, "offered": NOTHING,
        "state": "active", "attributes": {"rack": "r1"}, **more,
    }  # fmt: skip
    return SeenAgent(**fields)


def offer(agent_id: str = "a", number: int = 1, **amounts: float) -> MesosOffer:
    entries = tuple(Entry(name, amount) for name, amount in amounts.items())
    return MesosOffer(f"o{number}", agent_id, "a.lan", "http://a:5051/slave(1)", "*", entries, {"rack": "r1"})


def test_an_agent_as_the_observer_sees_it() -> None:
    table = AgentTable()
    held, ours, offered = (3000, 1024, 0, 1, 2), (1000, 2048, 0, 1, 0), (500, 64, 0, 0, 0)
    assert table.apply(Agents([seen(held=held, ours=ours, offered=offered, state="draining")], anew=True))
    (agent,) = table.agents()
    assert (agent.id, agent.host, agent.state, agent.attributes) == ("a", "a.lan", "draining", {"rack": "r1"})
    assert (agent.total, agent.offered) == (Resources(8.0, 4096, 0, 2, 10), Resources(0.5, 64))
    assert agent.others == Resources(2.0, 0, 0, 0, 2), "never less than nothing"
    assert (table.get("a"), table.url("a")) == (agent, "http://a:5051/slave(1)")
    assert (table.get("b"), table.url("b")) == (None, None)


def test_only_what_changes_is_news() -> None:
    table = AgentTable()
    assert table.apply(Agents([seen("a"), seen("b")], anew=True))
    before = table.agents()
    assert not table.apply(Agents([seen("a")]))
    assert table.agents() is before
    assert table.apply(Agents([seen("a", state="unreachable")]))
    first, second = table.agents()
    assert (first.state, second is before[1]) == ("unreachable", True)
    assert table.apply(AgentsGone(["a", "never there"]))
    assert not table.apply(AgentsGone(["a"]))
    assert [agent.id for agent in table.agents()] == ["b"]
    assert table.url("a") is None


def test_a_new_list_replaces_the_old_one() -> None:
    table = AgentTable()
    table.apply(Agents([seen("a"), seen("b")], anew=True))
    assert not table.apply(Agents([seen("b")], anew=True, more=True))
    assert [agent.id for agent in table.agents()] == ["a", "b"], "the list goes on"
    assert table.apply(Agents([seen("c")]))
    assert [agent.id for agent in table.agents()] == ["b", "c"]


def test_states_of_later_versions_take_no_jobs() -> None:
    table = AgentTable()
    table.apply(Agents([seen(state="hibernating")]))
    assert table.agents()[0].state == "unreachable"


def test_offers_tell_of_agents_that_the_observer_has_not_seen() -> None:
    table = AgentTable()
    assert table.offered(offer(cpus=2.0, mem=512.0, gpus=2.0))
    assert not table.offered(offer(cpus=1.0, mem=64.0)), "a smaller offer is no news"
    assert table.offered(offer(cpus=1.0, mem=1024.0, ports=3))
    (agent,) = table.agents()
    assert agent.total == Resources(2.0, 1024, 0, 2, 3) and agent.guessed
    assert (slots_of(table, "a"), table.url("a")) == (("a/gpu0", "a/gpu1"), "http://a:5051/slave(1)")
    table.apply(Agents([seen()]))
    assert not table.offered(offer(cpus=64.0)), "the observer knows better"
    assert table.agents()[0].total.cpus == 8.0 and not table.agents()[0].guessed
    table.apply(AgentsGone(["a"]))
    assert table.offered(offer(cpus=1.0))


def test_an_agent_that_speaks_https_goes_on_doing_so() -> None:
    table = AgentTable()
    table.apply(Agents([seen()]))
    secure = structs.replace(offer(cpus=1.0), url="https://a.lan:5051/slave(1)")
    assert not table.offered(secure)
    table.apply(Agents([seen(state="draining")]))
    assert table.url("a") == "https://a.lan:5051/slave(1)"
    table.apply(Agents([seen(url="http://a:5055/slave(1)")]))
    assert table.url("a") == "http://a:5055/slave(1)", "it was started anew, elsewhere"


def test_gpus_are_counted_and_named_by_us() -> None:
    table = AgentTable()
    table.apply(Agents([seen()]))
    assert slots_of(table, "a") == (slot("a", 0), slot("a", 1)) == ("a/gpu0", "a/gpu1")
    assert [(gpu.index, gpu.note) for gpu in table.agents()[0].gpus] == [(0, NO_TELEMETRY), (1, NO_TELEMETRY)]


def test_telemetry_goes_to_the_slot_of_the_same_number() -> None:
    clock = Clock()
    table = AgentTable(telemetry=True, clock=clock)
    table.apply(Agents([seen()]))
    assert "yet" in table.agents()[0].gpus[0].note
    busy, idle = SeenGpu(0, "GPU-x", "H200", 1000, 10, 50.0, 40.0, 90.0), SeenGpu(1, "GPU-y", "H200", util=0.0)
    assert table.apply(Telemetry("a", [busy, idle, SeenGpu(5, "GPU-z")]))
    first, second = table.agents()[0].gpus
    assert (first.uuid, first.model, first.mem_mb, first.mem_used_mb) == ("a/gpu0", "H200", 1000, 10)
    assert (first.util, first.temperature_c, first.power_w, first.note) == (50.0, 40.0, 90.0, BY_INDEX)
    assert (first.idle_since, second.idle_since) == (None, 1000.0)
    clock.now = 1005.0
    assert not table.apply(Telemetry("a", [busy, idle])), "it has been idle ever since"
    assert table.apply(Telemetry("a", [SeenGpu(1, "GPU-y", "H200", util=3.0)]))
    first, second = table.agents()[0].gpus
    assert (first.util, first.note) == (None, "the GPU exporter tells nothing of this GPU")
    assert second.idle_since is None
    table.apply(Telemetry("a", [], "it does not answer"))
    assert {gpu.note for gpu in table.agents()[0].gpus} == {"it does not answer"}


def test_telemetry_outlives_a_new_list_and_may_come_first() -> None:
    table = AgentTable(telemetry=True)
    assert not table.apply(Telemetry("a", [SeenGpu(0, "GPU-x", util=5.0)]))
    table.apply(Agents([seen()], anew=True))
    assert table.agents()[0].gpus[0].util == 5.0
    table.apply(Agents([seen(total=(8000, 4096, 0, 1, 10))], anew=True))
    assert [gpu.util for gpu in table.agents()[0].gpus] == [5.0]
