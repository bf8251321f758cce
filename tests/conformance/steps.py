"""Steps beside the requests of a recording: what happens to the cluster, what ran before, what took how long."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

from tests.conformance import wire
from tests.conformance.framework import Framework
from tests.conformance.recording import Kind
from tests.conformance.replay import PATIENCE, Replay
from tests.conformance.target import Cluster

MASTER, AGENT = 5050, 5051
"""Where master and first agent listened when the recordings were made."""


def _cluster(replay: Replay) -> Cluster:
    target = replay.target
    assert isinstance(target, Cluster)
    return target


async def kill_agent(replay: Replay) -> None:
    """SIGKILL to agent 1."""
    await _cluster(replay).kill_agent()


async def start_agent(replay: Replay) -> None:
    """Agent 1 is started again."""
    await _cluster(replay).start_agent()


async def stop_agent(replay: Replay) -> None:
    """SIGUSR1 to agent 1."""
    await _cluster(replay).stop_agent()


async def kill_master(replay: Replay) -> None:
    """SIGKILL to the master."""
    await _cluster(replay).kill_master()


async def start_master(replay: Replay) -> None:
    """The master is started again."""
    await _cluster(replay).start_master()


async def recovered(replay: Replay) -> None:
    """The new master has recovered its registry."""
    await _cluster(replay).recovered()


async def agent_1_back(replay: Replay) -> None:
    """Agent 1 finds the new master."""
    await _cluster(replay).agent_back(1)


async def agent_2_back(replay: Replay) -> None:
    """Agent 2 finds the new master."""
    await _cluster(replay).agent_back(2)


async def kill_leader(replay: Replay) -> None:
    """SIGKILL to the leading one of three masters."""
    await _cluster(replay).kill_leader()


async def elect(replay: Replay) -> None:
    """Another master leads."""
    await _cluster(replay).elect()


async def lose_leader(replay: Replay) -> None:
    """ZooKeeper is lost."""
    await _cluster(replay).lose_leader()


async def authenticates(replay: Replay) -> None:
    """The master asks for credentials ([24])."""
    await _cluster(replay).authenticates()


async def rescinds(replay: Replay) -> None:
    """The master takes offers back ([23])."""
    await _cluster(replay).rescinds()


async def half_close(replay: Replay) -> None:
    """The scheduler closes its side of the stream ([27])."""
    replay.streams["S"][-1].writer.write_eof()


async def call_on_stream(replay: Replay) -> None:
    """A call on the stream's own connection is executed, and its answer lands in the middle of the stream."""
    stream = replay.streams["S"][-1]
    entry = next(each for each in replay.recording.entries if each.title == "on the stream connection")
    stream.writer.write(replay.outgoing(entry))
    await replay.ended(stream)
    if "HTTP/1.1 202 Accepted" not in str(stream.end):
        replay.problem(f"the stream ended so: {stream.end}")


# What was running before an operator asked


async def three_tasks(replay: Replay) -> None:
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


async def sandbox(replay: Replay) -> None:
    """A task with files in its sandbox runs ([16])."""
    framework = await _framework(replay, "ag")
    await framework.launch("r1", [{"name": "t-sb", "command": SANDBOX}])
    await framework.reached("t-sb", "TASK_RUNNING")
    directory = await _directory(replay, "t-sb")
    await _until(replay, f"/files/read?path={directory}/link", lambda answer: answer.status == 400)
    _bind_path(replay, directory)
    _bind(replay, framework, "0002")


async def end_sandbox(replay: Replay) -> None:
    """The task of [16] is killed, its framework ends."""
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


async def run_beside(replay: Replay) -> None:
    """A framework comes and runs a task to its end, while an operator watches ([15b])."""
    framework = await _framework(replay, "ev")
    await framework.launch("r1", [{"name": "t-ev", "command": f"sleep {replay.target.scale}"}])


async def see_end(replay: Replay) -> None:
    """The task of [15b] has finished."""
    framework = replay.beside[0]
    await framework.reached("t-ev", "TASK_FINISHED")


async def leave(replay: Replay) -> None:
    """The framework of [15b] ends."""
    await replay.beside[0].close()


async def learn_split(replay: Replay) -> None:
    """Two roles share two agents, one each, but which gets which is chance ([09])."""
    split = await replay.first_offers("S")
    if split["r2"] == "eng":
        swap = {b"eng": b"ops", b"ops": b"eng"}
        replay.rewrite(lambda raw: re.sub(rb"\b(?:eng|ops)\b", lambda match: swap[match[0]], raw))


async def end_framework(replay: Replay) -> None:
    """The last subscribed framework is torn down ([09])."""
    stream = replay.streams["S"][-1]
    subscribed = next(event.data for event in stream.events if event.data["type"] == "SUBSCRIBED")
    id = subscribed["subscribed"]["framework_id"]["value"]
    await Framework(replay.target.address(MASTER), stream, id).call("TEARDOWN")


async def big(replay: Replay) -> None:
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


async def refused(replay: Replay) -> None:
    """Nobody listens while the master is down."""
    try:
        await wire.call(replay.target.address(MASTER), b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", 1)
    except ConnectionError:
        return
    replay.problem("the master answers")


# What took how long: only that nothing came too early, as a busy machine may take longer


async def held_back(replay: Replay) -> None:
    """What was refused for some seconds did not come back before ([07])."""
    refused = {"DECLINE refuse 3 s": 3.0, "DECLINE without filters": 5.0, "ACCEPT without operations, refuse 2": 2.0}
    offers = [event.at for event in _events(replay, "OFFERS")]
    for title, seconds in refused.items():
        sent = replay.sent[title]
        _not_before(replay, title, seconds * replay.target.scale, min(at for at in offers if at > sent) - sent)


async def grace(replay: Replay) -> None:
    """A task that does not heed SIGTERM lives on for three seconds ([04])."""
    statuses = {event.at: event.data["update"]["status"] for event in _events(replay, "UPDATE")}
    killed = next(at for at, s in statuses.items() if (s["task_id"]["value"], s["state"]) == ("t-k2", "TASK_KILLED"))
    _not_before(replay, "TASK_KILLED", 3 * replay.target.scale, killed - replay.sent["KILL t-k2"])


async def heartbeats(replay: Replay) -> None:
    """They come as far apart as SUBSCRIBED tells ([01])."""
    beats = await replay.wait(lambda: found if len(found := _events(replay, "HEARTBEAT")) >= 4 else None)
    if beats is None:
        replay.problem("fewer than four heartbeats")
        return
    interval = _events(replay, "SUBSCRIBED")[0].data["subscribed"]["heartbeat_interval_seconds"]
    _not_before(replay, "three heartbeats", 3 * interval * SLACK, beats[3].at - beats[0].at)


async def retries(replay: Replay) -> None:
    """An update that is not acknowledged comes again after 10 s, and after 20 s more ([02b])."""
    first, second, third = (event.at for event in _events(replay, "UPDATE")[:3])
    scale = replay.target.scale * SLACK
    _not_before(replay, "the first retry", 10 * scale, second - first)
    _not_before(replay, "the second retry", 20 * scale, third - second)


async def rescinded(replay: Replay) -> None:
    """Offers are taken back three seconds after they were made ([23])."""
    made, taken = _events(replay, "OFFERS")[0].at, _events(replay, "RESCIND")[0].at
    _not_before(replay, "RESCIND", 3 * replay.target.scale * SLACK, taken - made)


SLACK = 0.7
"""Between two events of which the first may have been read late."""


def _events(replay: Replay, kind: str) -> list[wire.LiveEvent]:
    return [event for event in replay.streams["S"][0].events if event.data["type"] == kind]


def _not_before(replay: Replay, what: str, seconds: float, waited: float) -> None:
    if waited < seconds:
        replay.problem(f"{what} came after {waited:.3f} s, expected after {seconds:.3f} s at the earliest")
