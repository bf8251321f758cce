"""What each recording needs beside its requests: what happens to the cluster meanwhile, and what was running before."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

from tests.conformance import wire
from tests.conformance.framework import Framework
from tests.conformance.recording import Kind, Recording
from tests.conformance.replay import PATIENCE, Action, Replay, Scenario
from tests.conformance.target import Cluster

MASTER, AGENT = 5050, 5051
"""Where master and first agent listened when the recordings were made."""


def _cluster(replay: Replay) -> Cluster:
    target = replay.target
    assert isinstance(target, Cluster)
    return target


async def _kill_agent(replay: Replay) -> None:
    await _cluster(replay).kill_agent()


async def _start_agent(replay: Replay) -> None:
    await _cluster(replay).start_agent()


async def _stop_agent(replay: Replay) -> None:
    await _cluster(replay).stop_agent()


async def _kill_master(replay: Replay) -> None:
    await _cluster(replay).kill_master()


async def _start_master(replay: Replay) -> None:
    await _cluster(replay).start_master()


async def _recovered(replay: Replay) -> None:
    await _cluster(replay).recovered()


async def _agent_1_back(replay: Replay) -> None:
    await _cluster(replay).agent_back(1)


async def _agent_2_back(replay: Replay) -> None:
    await _cluster(replay).agent_back(2)


async def _kill_leader(replay: Replay) -> None:
    await _cluster(replay).kill_leader()


async def _elect(replay: Replay) -> None:
    await _cluster(replay).elect()


async def _lose_leader(replay: Replay) -> None:
    await _cluster(replay).lose_leader()


async def _authenticates(replay: Replay) -> None:
    await _cluster(replay).authenticates()


async def _rescinds(replay: Replay) -> None:
    await _cluster(replay).rescinds()


async def _half_close(replay: Replay) -> None:
    replay.streams["S"][-1].writer.write_eof()


async def _call_on_stream(replay: Replay) -> None:
    """A call on the stream's own connection is executed, and its answer lands in the middle of the stream."""
    stream = replay.streams["S"][-1]
    entry = next(each for each in replay.recording.entries if each.title == "on the stream connection")
    stream.writer.write(replay.outgoing(entry))
    await replay.ended(stream)
    if "HTTP/1.1 202 Accepted" not in str(stream.end):
        replay.problem(f"the stream ended so: {stream.end}")


# What was running before an operator asked


async def _three_tasks(replay: Replay) -> None:
    """One task runs, one failed, one finished, in this order ([15])."""
    labels = {"labels": {"labels": [{"key": "k", "value": "v"}]}}
    framework = await _framework(replay, "op", failover_timeout=60.0, webui_url="http://127.0.0.1:9/", **labels)
    tasks = {"t-op-run": "echo running; sleep 1000", "t-op-bad": "exit 3", "t-op-ok": "true"}
    states = {"t-op-run": "TASK_RUNNING", "t-op-bad": "TASK_FAILED", "t-op-ok": "TASK_FINISHED"}
    for name, command in tasks.items():
        more = labels if name == "t-op-run" else {}
        await framework.launch("r1", [{"name": name, "command": command, **more}])
        await framework.reached(name, states[name])
    _bind(replay, framework, "0000")


SANDBOX = (
    "echo hi; echo err 1>&2; seq 0 299 | sed 's/^/line /'; printf '%s' '\\xff\\xfe caf\\xc3\\xa9 end'; "
    "env | sort > env.txt; mkdir sub; echo x > sub/f; ln -s /etc/passwd link; sleep 1000"
)


async def _sandbox(replay: Replay) -> None:
    """A task with files in its sandbox runs ([16])."""
    framework = await _framework(replay, "ag")
    await framework.launch("r1", [{"name": "t-sb", "command": SANDBOX}])
    await framework.reached("t-sb", "TASK_RUNNING")
    directory = await _directory(replay, "t-sb")
    await _until(replay, f"/files/read?path={directory}/link", lambda answer: answer.status == 400)
    _bind_path(replay, directory)
    _bind(replay, framework, "0002")


async def _end_sandbox(replay: Replay) -> None:
    framework = replay.beside[0]
    await framework.call("KILL", kill={"task_id": {"value": "t-sb"}})
    await framework.reached("t-sb", "TASK_KILLED")
    await framework.close()
    await _until(replay, "/containers", lambda answer: answer.body == b"[]")


async def _framework(replay: Replay, name: str, **info: object) -> Framework:
    framework = await Framework.subscribe(replay.target.address(MASTER), name, **info)
    replay.beside.append(framework)
    return framework


def _bind(replay: Replay, framework: Framework, suffix: str) -> None:
    """Bind the ids of a framework and of the agent it ran on to those in the recording."""
    for entry in replay.recording.entries:
        for token in re.findall(rb"[0-9a-f]{8}-[0-9a-f-]{27}-(?:S0|" + suffix.encode() + rb")\b", entry.raw):
            recorded = token.decode()
            live = framework.agent if recorded.endswith("-S0") else framework.id
            if (problem := replay.bindings.bind(recorded, live)) is not None:
                replay.problem(problem)


def _bind_path(replay: Replay, directory: str) -> None:
    recorded = next(e.title for e in replay.recording.entries if e.title.startswith("sandbox directory"))
    problem = replay.bindings.match(recorded.rpartition(" ")[2], directory)
    if problem is not None:
        replay.problem(problem)


async def _get(replay: Replay, path: str) -> wire.Message:
    host, port = replay.target.address(AGENT)
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    return await wire.call((host, port), request.encode(), PATIENCE)


async def _directory(replay: Replay, task: str) -> str:
    """The sandbox of a task, from the agent's /state."""
    state = json.loads((await _get(replay, "/state")).body)
    for framework in state["frameworks"]:
        for executor in framework["executors"]:
            if executor["id"] == task:
                return str(executor["directory"])
    raise RuntimeError(f"the agent does not know {task}")


async def _until(replay: Replay, path: str, done: Callable[[wire.Message], bool]) -> None:
    """Ask the agent until its answer is the right one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if done(await _get(replay, path)):
                return
            await asyncio.sleep(0.02)


async def _run_beside(replay: Replay) -> None:
    """A framework comes and runs a task to its end, while an operator watches ([15b])."""
    framework = await _framework(replay, "ev")
    await framework.launch("r1", [{"name": "t-ev", "command": f"sleep {replay.target.scale}"}])


async def _see_end(replay: Replay) -> None:
    framework = replay.beside[0]
    await framework.reached("t-ev", "TASK_FINISHED")


async def _leave(replay: Replay) -> None:
    await replay.beside[0].close()


async def _learn_split(replay: Replay) -> None:
    """Two roles share two agents, one each, but which gets which is chance ([09])."""
    split = await replay.first_offers("S")
    if split["r2"] == "eng":
        swap = {b"eng": b"ops", b"ops": b"eng"}
        replay.rewrite(lambda raw: re.sub(rb"\b(?:eng|ops)\b", lambda match: swap[match[0]], raw))


async def _end_framework(replay: Replay) -> None:
    """The last subscribed framework is torn down ([09])."""
    stream = replay.streams["S"][-1]
    subscribed = next(event.data for event in stream.events if event.data["type"] == "SUBSCRIBED")
    id = subscribed["subscribed"]["framework_id"]["value"]
    await Framework(replay.target.address(MASTER), stream, id).call("TEARDOWN")


async def _big(replay: Replay) -> None:
    """A task wrote 3 MB and goes on writing lines ([21b])."""
    framework = await _framework(replay, "big")
    lines = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.02; done"
    await framework.launch("r1", [{"name": "t-big", "command": f"head -c 3000000 /dev/zero | tr '\\0' x; {lines}"}])
    await framework.reached("t-big", "TASK_RUNNING")
    directory = await _directory(replay, "t-big")
    await _until(replay, f"/files/read?path={directory}/stdout", lambda answer: _size(answer) > 3000100)
    first = next(entry for entry in replay.recording.entries if entry.kind is Kind.REQUEST)
    recorded = re.search(r"path=(\S+?)%2Fstdout", first.title)
    assert recorded is not None
    if (problem := replay.bindings.match(recorded[1].replace("%2F", "/"), directory)) is not None:
        replay.problem(problem)
    await _pages(replay, directory)


def _size(answer: wire.Message) -> int:
    return int(json.loads(answer.body)["offset"]) if answer.status == 200 else 0


async def _pages(replay: Replay, directory: str) -> None:
    """However much is asked for, 64 KiB come."""
    for entry in replay.recording.entries:
        if found := re.match(r"GET /files/read (\S+) -> 200, body (\d+) bytes, data (\d+) bytes", entry.title):
            answer = await _get(replay, f"/files/read?path={directory}/stdout&{found[1]}")
            sizes = [len(answer.body), len(json.loads(answer.body)["data"])]
            if sizes != [int(found[2]), int(found[3])]:
                replay.problem(f"{found[0]}: got {sizes}")


async def _refused(replay: Replay) -> None:
    """Nobody listens while the master is down."""
    try:
        await wire.call(replay.target.address(MASTER), b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 1)
    except ConnectionError:
        return
    replay.problem("the master answers")


async def _held_back(replay: Replay) -> None:
    """What was refused for some seconds did not come back before ([07])."""
    refused = {"DECLINE refuse 3 s": 3.0, "DECLINE without filters": 5.0, "ACCEPT without operations, refuse 2": 2.0}
    titles = [e.title for e in replay.recording.entries if e.kind is Kind.REQUEST]
    offers = [e.at for e in replay.streams["S"][0].events if e.data["type"] == "OFFERS"]
    for title, seconds in refused.items():
        assert title in titles
        sent = replay.sent[title]
        waited = min(at for at in offers if at > sent) - sent
        if waited < seconds * replay.target.scale:
            replay.problem(f"{title}: an offer came back after {waited / replay.target.scale:.2f} s")


_AGENT_KILLED: tuple[tuple[str, Action], ...] = (
    (r" S chunk RESCIND", _kill_agent),
    (r"note agent 1 started again", _start_agent),
)

SCENARIOS: dict[str, Scenario] = {
    "03": Scenario(free_offers=True),
    "07": Scenario(patience=8.0, steps=((r"request TEARDOWN", _held_back),)),
    "09": Scenario(
        steps=((r"S chunk OFFERS", _learn_split), (r"^11\.876", _end_framework), (r"^14\.005", _end_framework))
    ),
    "12": Scenario(edits=(("sleep 3", "sleep 3.8"),)),
    "12b": Scenario(patience=8.0),
    "13": Scenario(free_offers=True),
    "11": Scenario(history=True),
    "15": Scenario(history=True, steps=((r"GET /health", _three_tasks),), skip=r"request (?:HEAD /state|GET /help)"),
    "15b": Scenario(steps=((r"FRAMEWORK_ADDED", _run_beside), (r"^2\.386", _see_end), (r"FRAMEWORK_REMOVED", _leave))),
    "16": Scenario(
        history=True,
        steps=((r"GET /health", _sandbox), (r"the task is terminal", _end_sandbox)),
        shaped=r"read stderr|environment of the task",
    ),
    "17": Scenario(steps=_AGENT_KILLED, patience=60, edits=(("sleep 4;", "sleep 6;"),)),
    "17b": Scenario(steps=_AGENT_KILLED, patience=60, edits=(("sleep 4;", "sleep 6;"),)),
    "17c": Scenario(steps=_AGENT_KILLED, patience=60, edits=(("sleep 4;", "sleep 6;"),)),
    "17d": Scenario(steps=_AGENT_KILLED, patience=60, edits=(("sleep 4;", "sleep 6;"),)),
    "18": Scenario(steps=_AGENT_KILLED, patience=60, edits=(("sleep 3;", "sleep 4.5;"),)),
    "18b": Scenario(steps=_AGENT_KILLED, patience=60, edits=(("sleep 3;", "sleep 4.5;"),)),
    "18c": Scenario(steps=((r"^1\.230 ", _stop_agent), (r"started again", _start_agent))),
    "19": Scenario(
        patience=60,
        steps=(
            (r"S1 broken", _kill_master),
            (r"call while the master is down", _refused),
            (r"master started again", _start_master),
            (r"request a call with the old stream id", _recovered),
            (r"^22\.772", _agent_1_back),
        ),
    ),
    "19b": Scenario(
        patience=60,
        steps=(
            (r"master SIGKILLed", _kill_master),
            (r"note call while the master is down", _refused),
            (r"master started again", _start_master),
            (r"^4\.400 S2 request", _recovered),
            (r"^4\.786", _agent_1_back),
            (r"^5\.758", _agent_2_back),
        ),
    ),
    "19c": Scenario(
        patience=60,
        steps=(
            (r"master SIGKILLed", _kill_master),
            (r"note call while the master is down", _refused),
            (r"master started again", _start_master),
            (r"^4\.414 S2 request", _recovered),
            (r"^4\.446", _agent_2_back),
            (r"^4\.583", _agent_1_back),
        ),
    ),
    "21": Scenario(
        edits=(("file:///var/lib/mesos-x/run/fetchme.txt", "file:///etc/hosts"), ("cat fetchme.txt", "cat hosts")),
        shaped="std(?:out|err) of t-env|stderr of",
    ),
    "24": Scenario(free_offers=True, steps=((r"SUBSCRIBE without credentials", _authenticates),)),
    "25": Scenario(
        crumbs=True,
        edits=(
            ("echo hi", "sleep .3; echo hi"),
            ("exit 3", "sleep .3; exit 3"),
            ("sleep 100", "trap 'sleep .3; trap - TERM; kill $$' TERM; sleep 100 & wait"),
        ),
    ),
    "26b": Scenario(steps=((r"GET /redirect on 5070", _lose_leader),)),
    "27": Scenario(
        steps=(
            (r"request on the stream connection", _call_on_stream),
            (r"^16\.033", _half_close),
        ),
        skip=r"request on the stream connection$|x-protobuf",
    ),
    "23": Scenario(steps=((r"S request SUBSCRIBE", _rescinds),)),
    "28": Scenario(missing="the DEFAULT executor, which runs groups of tasks"),
    "21b": Scenario(growing=r"stdout&offset=", steps=((r"GET /files/read", _big),)),
    "26": Scenario(
        patience=60,
        edits=(("sleep 6", "sleep 9"),),
        steps=(
            (r"leader 5050 SIGKILLed", _kill_leader),
            (r"^12\.544", _elect),
            (r"^12\.621", _recovered),
            (r"^13\.087", _agent_2_back),
            (r"^13\.107", _agent_1_back),
        ),
    ),
}
"""By the recording's name; those not here need nothing."""


def of(recording: Recording) -> Scenario:
    """The scenario of a recording."""
    return SCENARIOS.get(recording.name, Scenario())
