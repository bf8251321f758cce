"""What the observer makes of the master's, the agents' and the exporters' words; the bytes are those of real ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.engine.mesos import measuring
from retz.engine.mesos.agent_book import FORGET_S, AgentBook
from retz.engine.mesos.operator_api import amounts, decode_agents, decode_event
from retz.engine.mesos.operator_stream import Records
from retz.engine.mesos.wire import ITEMS, Agents, AgentsGone, SeenAgent, SeenGpu
from tests.conformance.recording import Kind, load

S0 = "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-S0"
S1 = "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-S1"
OURS = "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-0001"
NOTHING = (0, 0, 0, 0, 0)


def body(recording: str, title: str) -> bytes:
    """The body of a recorded answer."""
    (entry,) = (e for e in load(recording).entries if e.kind is Kind.RESPONSE and e.title == title)
    return entry.raw.split(b"\r\n\r\n", 1)[1]


def records(recording: str) -> list[bytes]:
    """The events of a recorded stream, without the framing of HTTP."""
    found: list[bytes] = []
    cutter = Records()
    for entry in load(recording).entries:
        if entry.kind is Kind.CHUNK:
            found += cutter.feed(entry.raw.split(b"\r\n", 1)[1].removesuffix(b"\r\n"))
    return found


# -- RecordIO ------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 30), min_size=1))
def test_records_come_whole_however_the_bytes_come(sent: list[bytes], pieces: list[int]) -> None:
    data = b"".join(b"%d\n%s" % (len(record), record) for record in sent)
    cutter, received, at = Records(), [], 0
    while at < len(data):
        size = pieces[at % len(pieces)]
        received += cutter.feed(data[at : at + size])
        at += size
    assert received == sent


@pytest.mark.parametrize("data", [b"x\n", b"-1\n", b"9999999999\n", b"1" * 21, b"<html>no such page here</html>\n"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Records().feed(data)


# -- agents ----------------------------------------------------------------------------------------------------------


def resources(**named: float) -> list[dict[str, Any]]:
    return [{"name": name, "scalar": {"value": value}} for name, value in named.items()]


def agent(agent_id: str, *, port: int = 5051, **more: Any) -> dict[str, Any]:
    info = {"hostname": "n1", "id": {"value": agent_id}}
    total = resources(cpus=8.0, mem=4096.0, gpus=2.0)
    return {"agent_info": info, "active": True, "pid": f"slave(1)@10.0.0.1:{port}", "total_resources": total, **more}


def listed(*agents: dict[str, Any], recovered: tuple[dict[str, Any], ...] = ()) -> Any:
    answer = {"get_agents": {"agents": agents, "recovered_agents": recovered}}
    return decode_agents(msgspec.json.encode(answer)).get_agents


def task(name: str, agent_id: str, framework: str = "us", cpus: float = 1.0, state: str = "TASK_RUNNING") -> Any:
    return {
        "task_id": {"value": name},
        "framework_id": {"value": framework},
        "agent_id": {"value": agent_id},
        "state": state,
        "resources": resources(cpus=cpus),
    }


def event(book: AgentBook, kind: str, now: float = 0.0, **content: Any) -> bool:
    return book.event(decode_event(msgspec.json.encode({"type": kind.upper(), kind: content})), now)


def ended(book: AgentBook, name: str, agent_id: str, state: str, framework: str = "us") -> None:
    status = {"task_id": {"value": name}, "agent_id": {"value": agent_id}, "state": state}
    event(book, "task_updated", framework_id={"value": framework}, status=status, state=state)


def begun(*agents: dict[str, Any], tasks: tuple[Any, ...] = (), roles: tuple[str, ...] = ("team",)) -> AgentBook:
    """A book after a subscription, everything told."""
    framework = {"framework_info": {"id": {"value": "us"}, "roles": roles}}
    state = {
        "get_agents": {"agents": agents},
        "get_tasks": {"tasks": tasks},
        "get_frameworks": {"frameworks": [framework]},
    }
    record = msgspec.json.encode({"type": "SUBSCRIBED", "subscribed": {"get_state": state}})
    book, subscribed = AgentBook(), decode_event(record).subscribed
    assert subscribed is not None
    book.subscribed(subscribed.get_state, "us", 0.0)
    book.news()
    return book


def told(book: AgentBook) -> dict[str, SeenAgent]:
    """The agents that are news."""
    messages = [message for message in book.news() if isinstance(message, Agents)]
    return {seen.id: seen for message in messages for seen in message.agents}


def test_agents_of_a_real_master() -> None:
    first, second = decode_agents(body("15", "GET_AGENTS")).get_agents.agents
    assert (first.agent_info.id.value, first.url, first.state) == (S1, "http://127.0.0.1:5052/slave(1)", "active")
    assert amounts(second.total_resources, None) == (2000, 2048, 4096, 2, 101)
    assert amounts(second.allocated_resources, None) == (100, 32, 0, 0, 0)
    assert amounts(second.offered_resources, None) == (1900, 2016, 4096, 2, 101)


def test_the_events_of_a_real_master() -> None:
    book, held = AgentBook(), []
    for record in records("15b"):
        news = decode_event(record)
        if news.subscribed is not None:
            book.subscribed(news.subscribed.get_state, OURS, 0.0)
            (message,) = book.news()
            assert isinstance(message, Agents) and message.anew
            first, second = message.agents
            assert (first.id, first.url, first.attributes) == (
                S1, "http://127.0.0.1:5052/slave(1)", {"rack": "r2", "level": 3.0},
            )  # fmt: skip
            assert (second.total, second.held) == ((2000, 2048, 4096, 2, 101), NOTHING)
        else:
            book.event(news, 0.0)
            held += [(seen.id, seen.held, seen.ours) for seen in told(book).values()]
    assert held == [(S0, (100, 32, 0, 0, 0), (100, 32, 0, 0, 0)), (S0, NOTHING, NOTHING)]


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({}, "active"),
        ({"active": False}, "unreachable"),
        ({"active": False, "deactivated": True}, "deactivated"),
        ({"active": False, "deactivated": True, "drain_info": {"state": "DRAINING"}}, "draining"),
        ({"active": False, "deactivated": True, "drain_info": {"state": "DRAINED"}}, "deactivated"),
    ],
)
def test_states(more: dict[str, Any], state: str) -> None:
    book = begun()
    book.polled(listed(agent("a", **more)), 0.0)
    assert told(book)["a"].state == state


def test_what_tasks_hold_and_whose_they_are() -> None:
    tasks = (task("1", "a"), task("2", "a", "them", 2.0), task("3", "a", "them", 4.0, "TASK_LOST"))
    book = begun(agent("a", allocated_resources=resources(cpus=3.0)), tasks=tasks)
    event(book, "task_added", task=task("4", "a", cpus=0.5))
    assert (told(book)["a"].held[0], told(book)) == (3500, {}), "news are told once"
    ended(book, "4", "a", "TASK_RUNNING")
    assert told(book) == {}
    ended(book, "4", "a", "TASK_FAILED")
    ended(book, "4", "a", "TASK_FAILED")
    event(book, "framework_removed", framework_info={"id": {"value": "them"}})
    seen = told(book)["a"]
    assert (seen.held[0], seen.ours[0]) == (1000, 1000)


def test_executors_hold_too() -> None:
    allocated = resources(cpus=1.5)
    book = begun(agent("a", allocated_resources=allocated), tasks=(task("1", "a"),))
    event(book, "task_added", task=task("2", "a"))
    seen = told(book)["a"]
    assert (seen.held[0], seen.ours[0]) == (2500, 2000)


def test_a_task_between_poll_and_event_is_not_counted_twice() -> None:
    book = begun(agent("a"))
    book.polled(listed(agent("a", allocated_resources=resources(cpus=1.0))), 1.0)
    event(book, "task_added", task=task("1", "a"))
    assert told(book)["a"].held[0] == 1000
    more = listed(agent("a", allocated_resources=resources(cpus=3.0)))
    book.polled(more, 2.0)
    book.polled(more, 3.0)
    assert told(book)["a"].held[0] == 3000, "said twice: somebody does hold it"


def test_what_is_reserved_for_others_is_not_ours() -> None:
    total = [
        *resources(cpus=4.0),
        {"name": "cpus", "scalar": {"value": 2.0}, "reservations": [{"role": "team"}]},
        {"name": "cpus", "scalar": {"value": 1.0}, "role": "team"},
        {"name": "cpus", "scalar": {"value": 16.0}, "reservations": [{"role": "team"}, {"role": "team/other"}]},
        {"name": "cpus", "scalar": {"value": 32.0}, "role": "other"},
        {"name": "cpus", "scalar": {"value": 64.0}, "revocable": {}},
        {"name": "disk", "scalar": {"value": 100.0}, "disk": {"source": {"type": "MOUNT"}}},
        {"name": "ports", "ranges": {"range": [{"begin": 1, "end": 10}, {"begin": 20, "end": 20}]}},
        {"name": "network_bandwidth", "scalar": {"value": 9.0}},
    ]
    book = begun(roles=("team/mine", "team"))
    book.polled(listed(agent("a", total_resources=total)), 0.0)
    assert told(book)["a"].total == (7000, 0, 0, 0, 11)


def test_new_roles_need_a_new_subscription() -> None:
    book = begun(roles=("team",))
    framework = {"framework_info": {"id": {"value": "us"}, "roles": ["team"]}}
    assert event(book, "framework_updated", framework=framework)
    framework["framework_info"]["roles"] = ["team", "more"]
    assert not event(book, "framework_updated", framework=framework)
    other = {"framework_info": {"id": {"value": "them"}, "roles": ["else"]}}
    assert event(book, "framework_added", framework=other)


# -- agents that go and come ----------------------------------------------------------------------------------------


def test_an_agent_that_vanishes_stays_as_unreachable_and_comes_back() -> None:
    book = begun(agent("a", offered_resources=resources(cpus=1.0)), tasks=(task("1", "a"),))
    event(book, "agent_removed", agent_id={"value": "a"})
    seen = told(book)["a"]
    assert (seen.state, seen.held, seen.offered, seen.host) == ("unreachable", NOTHING, NOTHING, "n1")
    assert book.forgotten
    event(book, "task_added", task=task("1", "a"))  # may come before its agent
    event(book, "agent_added", agent=agent("a"))
    seen = told(book)["a"]
    assert (seen.state, seen.ours[0], book.forgotten) == ("active", 1000, False)


def test_one_that_nobody_waits_for_is_gone() -> None:
    book = begun(agent("a"), agent("b", port=5052))
    event(book, "agent_removed", agent_id={"value": "a"})
    book.news()
    book.none_unreachable()
    assert book.news() == [AgentsGone(["a"])]
    book.polled(listed(), 1.0)
    assert told(book)["b"].state == "unreachable"
    book.polled(listed(), 1.0 + FORGET_S)
    assert book.news() == []
    book.polled(listed(), 2.0 + FORGET_S)
    assert book.news() == [AgentsGone(["b"])]


def test_one_that_an_operator_marks_gone_is_gone() -> None:
    book = begun(agent("a"), tasks=(task("1", "a"), task("2", "a")))
    ended(book, "1", "a", "TASK_GONE_BY_OPERATOR")
    event(book, "agent_removed", agent_id={"value": "a"})
    assert book.news() == [AgentsGone(["a"])]
    ended(book, "2", "a", "TASK_GONE_BY_OPERATOR")
    assert book.news() == []


def test_a_new_agent_at_the_address_of_a_vanished_one_takes_its_place() -> None:
    book = begun(agent("a"))
    event(book, "agent_removed", agent_id={"value": "a"})
    event(book, "agent_added", agent=agent("b"))
    gone, added = book.news()
    assert gone == AgentsGone(["a"])
    assert isinstance(added, Agents) and [seen.id for seen in added.agents] == ["b"]


def test_agents_that_a_new_master_waits_for() -> None:
    book = begun(agent("a"))
    book.polled(
        listed(recovered=({"hostname": "n1", "id": {"value": "a"}}, {"hostname": "n2", "id": {"value": "b"}})), 1.0
    )
    seen = told(book)
    assert {name: (each.state, each.host) for name, each in seen.items()} == {
        "a": ("unreachable", "n1"),
        "b": ("unreachable", "n2"),
    }
    assert seen["a"].total == (8000, 4096, 0, 2, 0), "what it had is remembered"


def test_a_poll_does_not_undo_what_happened_meanwhile() -> None:
    book = begun(agent("a"))
    book.polling()
    event(book, "agent_removed", agent_id={"value": "a"})
    event(book, "agent_added", agent=agent("b", port=5052))
    book.polled(listed(agent("a")), 1.0)
    assert {name: seen.state for name, seen in told(book).items()} == {"a": "unreachable", "b": "active"}


def test_a_large_cluster_comes_in_small_messages() -> None:
    book = begun()
    many = [agent(f"a{number}", port=number) for number in range(2 * ITEMS + 1)]
    book.polled(listed(*many), 0.0)
    messages = [message for message in book.news() if isinstance(message, Agents)]
    assert [(len(message.agents), message.anew) for message in messages] == [(ITEMS, False), (ITEMS, False), (1, False)]


def test_a_whole_list_says_where_it_begins_and_ends() -> None:
    book = begun()
    for count, marks in ((0, [(0, True, False)]), (ITEMS + 1, [(ITEMS, True, True), (1, False, False)])):
        agents = [agent(f"a{number}", port=number) for number in range(count)]
        record = msgspec.json.encode({"subscribed": {"get_state": {"get_agents": {"agents": agents}}}})
        subscribed = decode_event(record).subscribed
        assert subscribed is not None
        book.subscribed(subscribed.get_state, "us", 0.0)
        messages = [message for message in book.news() if isinstance(message, Agents)]
        assert [(len(message.agents), message.anew, message.more) for message in messages] == marks


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["task", "end", "agent", "lost", "poll", "gone", "poll nothing", "forget", "framework"]),
            st.integers(0, 3),
            st.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_whatever_happens_the_server_knows_what_the_observer_knows(steps: list[tuple[str, int, int]]) -> None:
    book = begun()
    known: dict[str, SeenAgent] = {}
    for what, number, where in steps:
        name, place = str(number), f"a{where}"
        if what == "task":
            event(book, "task_added", task=task(name, place, "us" if number % 2 else "them"))
        elif what == "end":
            ended(book, name, place, "TASK_KILLED", "us" if number % 2 else "them")
        elif what == "agent":
            event(book, "agent_added", agent=agent(place, port=where))
        elif what == "lost":
            event(book, "agent_removed", agent_id={"value": place})
        elif what == "gone":
            ended(book, name, place, "TASK_GONE_BY_OPERATOR")
        elif what == "poll":
            book.polling()
            book.polled(listed(agent(place, port=where)), 1.0)
        elif what == "poll nothing":
            book.polled(listed(), 2.0)
        elif what == "forget":
            book.none_unreachable()
        else:
            event(book, "framework_removed", framework_info={"id": {"value": "them"}})
        for message in book.news():
            if isinstance(message, AgentsGone):
                for gone in message.agents:
                    del known[gone]
            elif isinstance(message, Agents):
                known.update((seen.id, seen) for seen in message.agents)
        for seen in known.values():
            assert min(seen.held) >= 0
            assert all(ours <= held for ours, held in zip(seen.ours, seen.held, strict=True))
    final = {agent_id: each.seen(agent_id) for agent_id, each in book._agents.items()}
    assert known == final


# -- what is measured ------------------------------------------------------------------------------------------------


def test_usage_as_a_real_agent_measures_it() -> None:
    (sample,) = measuring.samples(body("16", "GET /containers"), "4c95f3e0-7e50-4a8d-9a42-30a41fe9e001-0002", 7.0)
    assert (sample.task, sample.at) == ("t-sb", 1795151360.882714)
    assert (round(sample.cpu_s, 3), round(sample.rss_mb, 1)) == (0.21, 411.6)
    assert measuring.samples(body("16", "GET /containers"), "another", 7.0) == []


def test_containers_that_tell_little() -> None:
    def container(name: str, **statistics: float) -> dict[str, Any]:
        return {"executor_id": name, "framework_id": "us", "statistics": statistics}

    found = measuring.samples(
        msgspec.json.encode(
            [
                container("1.1", cpus_user_time_secs=2),
                container("2.1", mem_rss_bytes=1 << 20, timestamp=5.0),
                container("3.1", mem_limit_bytes=3),
                {"executor_id": "4.1", "framework_id": "us"},
                {"container_id": "stand-alone"},
            ]
        ),
        "us",
        7.0,
    )
    assert [(s.task, s.at, s.cpu_s, s.rss_mb) for s in found] == [("1.1", 7.0, 2.0, 0.0), ("2.1", 5.0, 0.0, 1.0)]


EXPORTED = b"""# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-aa",device="nvidia0",modelName="NVIDIA H200",Hostname="n1"} 45
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-bb",device="nvidia1",modelName="NVIDIA H200",Hostname="n1"} 0
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-aa",modelName="NVIDIA H200"} 1024
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-aa",modelName="NVIDIA H200"} 141312
DCGM_FI_DEV_FB_RESERVED{gpu="0",UUID="GPU-aa",modelName="NVIDIA H200"} 64
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-aa",modelName="NVIDIA H200"} 41
DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-aa",modelName="NVIDIA H200"} 118.5 1795151360000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-bb"} NaN
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-bb",GPU_I_PROFILE="1g.18gb",GPU_I_ID="7"} 99
DCGM_FI_DEV_GPU_UTIL{gpu="x"} 1
DCGM_FI_DEV_GPU_UTIL{gpu="2"
DCGM_FI_DEV_SM_CLOCK{gpu="0"} 1980
\xff\xfe garbage
"""


def test_gpus_of_an_exporter() -> None:
    assert measuring.gpus(EXPORTED) == [
        SeenGpu(0, "GPU-aa", "NVIDIA H200", 142_400, 1024, 45.0, 41.0, 118.5),
        SeenGpu(1, "GPU-bb", "NVIDIA H200", None, None, 0.0, None, None),
    ]


@given(st.binary(max_size=300), st.integers(0, len(EXPORTED)))
def test_no_text_of_an_exporter_is_too_odd(garbage: bytes, at: int) -> None:
    found = measuring.gpus(EXPORTED[:at] + garbage + EXPORTED[at:])
    assert len(found) <= measuring.MAX_GPUS


def test_an_exporter_cannot_fill_the_memory() -> None:
    lines = (b'DCGM_FI_DEV_GPU_UTIL{gpu="%d",UUID="%s"} 1\n' % (number, b"u" * 1000) for number in range(5000))
    found = measuring.gpus(b"".join(lines))
    assert len(found) == measuring.MAX_GPUS
    assert all(len(gpu.uuid) == 100 for gpu in found)
