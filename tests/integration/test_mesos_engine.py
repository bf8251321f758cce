"""A server on Mesos: what becomes of jobs, and what the cluster is told, when things go well and when they do not."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from retz.model.application import Application
from retz.model.container import Container
from retz.store.database import Change
from tests.doubles.disk import Disk
from tests.doubles.mesos.cluster import AgentSpec
from tests.doubles.mesos.model import Json

from .http_site import ANN
from .mesos_site import MesosSite, cluster_of, mesos, quick, server

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0


def calls(site: MesosSite, kind: str) -> int:
    """How often the master was called so."""
    return len(site.cluster.bodies(kind))


def declined(site: MesosSite) -> int:
    """How many offers we gave back unused."""
    return sum(len(body["decline"]["offer_ids"]) for body in site.cluster.bodies("DECLINE"))


def free(site: MesosSite) -> bool:
    """Whether we hold no offer: all that is not used could go to others."""
    return not any(record.offers for record in site.cluster.master.agents.values())


def status_event(task: str, agent: str, state: str, reason: str, message: str) -> bytes:
    """An UPDATE of the master's own, as it comes through the stream."""
    status = {
        "task_id": {"value": task},
        "agent_id": {"value": agent},
        "state": state,
        "source": "SOURCE_MASTER",
        "reason": reason,
        "message": message,
        "timestamp": 1795151367.5,
    }
    return json.dumps({"type": "UPDATE", "update": {"status": status}}).encode()


def free_of(site: MesosSite, agent: str) -> bool:
    """Whether we hold no offer of this agent, as far as the master is concerned."""
    return not site.cluster.master.agents[agent].offers


async def register(site: MesosSite, name: str, **fields: Any) -> None:
    """An application of ann's, who may use the Unix user that it names."""
    if "user" in fields:
        await site.core.db.apply([Change("users", ANN.key, replace(ANN, unix_user=fields["user"]))])
    application = Application(name=name, owner=ANN.key, updated=1.0, **fields)
    await site.core.db.apply([Change("applications", f"{ANN.key}/{name}", application)])


# -- offers ------------------------------------------------------------------------------------------------------


async def test_an_idle_server_wants_no_offers_and_new_work_asks_for_them(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        await site.until(lambda: calls(site, "SUPPRESS") and free(site))
        before = calls(site, "REVIVE")
        assert (await site.done()).state == "FINISHED"
        assert calls(site, "REVIVE") == before + 1
        suppressed = calls(site, "SUPPRESS")
        await site.until(lambda: calls(site, "SUPPRESS") > suppressed and free(site))


async def test_what_nobody_can_use_is_left_to_others_until_a_job_of_another_kind_comes(tmp_path: Path) -> None:
    async with mesos(tmp_path, 2) as site:
        stuck = await site.submit(attributes="ssd")
        await site.until(
            lambda: declined(site) == 2 * (1 + calls(site, "REVIVE")) and len(site.cluster.unoffered()) == 2
        )
        assert await site.why(stuck) == "needs ssd: no agent has it"
        revived = calls(site, "REVIVE")
        assert (await site.done()).state == "FINISHED"
        assert calls(site, "REVIVE") > revived
        await site.until(lambda: free(site))
        assert site.job(stuck).state == "QUEUED"
        site.cluster.check_accounts()


async def test_when_as_many_run_as_may_the_rest_is_left_to_others(tmp_path: Path) -> None:
    async with mesos(tmp_path, max_running=1) as site:
        first = await site.running()
        second = await site.submit()
        await site.until(lambda: free(site))
        assert site.job(second).state == "QUEUED"
        await site.kill(first)
        assert (await site.ended(second)).state == "FINISHED"


async def test_a_paused_queue_holds_no_offers(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        await site.core.dispatcher.set_mode("paused")
        job_id = await site.submit()
        await site.until(lambda: calls(site, "SUPPRESS") and free(site))
        assert site.job(job_id).state == "QUEUED"
        await site.core.dispatcher.set_mode("open")
        assert (await site.ended(job_id)).state == "FINISHED"


async def test_agents_with_gpus_are_kept_for_jobs_that_need_them(tmp_path: Path) -> None:
    agents = [AgentSpec(gpus=2), AgentSpec(gpus=2), AgentSpec()]
    async with mesos(tmp_path, agents) as site:
        plain = site.cluster.agents[2].id
        assert [(await site.done()).attempts[0].agent for _ in range(3)] == [plain] * 3
        with_gpus = await site.submit("wait", resources={"cpus": 1, "gpus": 2})
        held = (await site.started(with_gpus)).attempts[0]
        assert held.agent != plain
        assert held.gpus == (f"{held.agent}/gpu0", f"{held.agent}/gpu1")
        full = await site.submit("wait", resources={"cpus": 2})
        assert (await site.started(full)).attempts[0].agent == plain
        other = (await site.started(await site.submit("wait", resources={"cpus": 2}))).attempts[0].agent
        assert other not in (plain, held.agent)  # where there is no choice they are used


async def test_a_job_gets_the_room_that_several_small_ones_left(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        small = [await site.running(resources={"cpus": 0.5}) for _ in range(4)]
        big = await site.submit(resources={"cpus": 2})
        for job_id in small:
            assert site.job(big).state == "QUEUED"
            await site.kill(job_id)
            await site.ended(job_id)
        assert (await site.ended(big)).state == "FINISHED"


class Mixed(AgentSpec):
    """Half of its cpus and memory are reserved for the role ``eng``."""

    def resources(self) -> list[Json]:
        found = []
        for each in super().resources():
            if each["name"] in ("cpus", "mem"):
                half = each["scalar"]["value"] / 2
                found += [{**each, "scalar": {"value": half}, "role": role} for role in ("eng", "*")]
            else:
                found.append(each)
        return found


async def test_reserved_and_unreserved_resources_serve_one_job(tmp_path: Path) -> None:
    async with mesos(tmp_path, [Mixed()], roles=("eng",)) as site:
        job_id = await site.running(resources={"cpus": 1.5, "mem": 1500})
        used = [
            (each["name"], each.get("role", "*"), each["scalar"]["value"])
            for each in site.info(f"{job_id}.1")["resources"]
            if each["name"] in ("cpus", "mem")
        ]
        assert sorted(used) == [("cpus", "*", 0.5), ("cpus", "eng", 1.0), ("mem", "*", 476.0), ("mem", "eng", 1024.0)]
        await site.until(lambda: free(site))
        site.cluster.check_accounts()


async def test_attributes_choose_the_agent(tmp_path: Path) -> None:
    agents = [AgentSpec(attributes={"rack": f"r{number}", "level": float(number)}) for number in range(3)]
    async with mesos(tmp_path, agents) as site:
        for wanted, chosen in (("rack=r1", 1), ("level>=2", 2), ("rack=r0", 0)):
            assert (await site.done(attributes=wanted)).attempts[0].agent == site.cluster.agents[chosen].id


async def test_ports_are_the_jobs_own(tmp_path: Path) -> None:
    async with mesos(tmp_path, [AgentSpec(ports=(31000, 31004))]) as site:
        jobs = [await site.running(resources={"cpus": 0.5, "ports": 2}) for _ in range(2)]
        ports = [port for job_id in jobs for port in site.job(job_id).attempts[0].ports]
        assert len(set(ports)) == 4
        given = site.info(f"{jobs[1]}.1")["command"]["environment"]["variables"]
        assert {"name": "PORT0", "value": str(ports[2])} in given
        third = await site.submit(resources={"cpus": 0.5, "ports": 2})
        await site.until(lambda: free(site))
        assert "port" in await site.why(third)
        await site.kill(jobs[0])
        assert (await site.ended(third)).state == "FINISHED"


async def test_a_disk_that_fails_lets_go_of_all_offers(tmp_path: Path) -> None:
    disk = Disk()
    async with mesos(tmp_path, files=disk) as site:
        runs = await site.running()
        disk.broken = True
        reply = await site.http.ask("POST", "/api/v2/jobs", jobs=[{"command": "true"}])
        assert reply.status == 503
        await site.until(lambda: free(site))
        assert (site.live(), (await site.status())["read_only"] is not None) == ([f"{runs}.1"], True)


async def test_a_disk_that_fails_under_a_launch_launches_nothing(tmp_path: Path) -> None:
    disk = Disk()
    async with mesos(tmp_path, files=disk) as site:
        await site.until(lambda: free(site))
        site.cluster.stall()
        await site.submit()
        disk.broken = True
        site.cluster.resume()
        await site.until(lambda: site.core.read_only)
        await site.until(lambda: free(site))
        assert (site.live(), calls(site, "ACCEPT")) == ([], 0)
        site.cluster.check_accounts()


async def test_an_offer_that_is_void_before_the_launch_is_durable_costs_no_retry(tmp_path: Path) -> None:
    disk = Disk()
    async with mesos(tmp_path, 2, files=disk) as site:
        await site.until(lambda: free(site))
        disk.open.clear()
        submitted = asyncio.ensure_future(site.submit("wait", resources={"cpus": 2}))
        await site.until(lambda: (job := site.core.find(1)) is not None and job.state == "STARTING")
        job_id = 1
        first = next(agent for agent in site.cluster.agents if agent.id == site.job(job_id).attempts[0].agent)
        first.crash()
        await site.until(lambda: free_of(site, first.id))
        disk.open.set()
        assert await submitted == job_id
        job = await site.started(job_id)
        assert (job.losses, job.attempts[-1].agent != first.id) == (0, True)


# -- what a job gets ---------------------------------------------------------------------------------------------


async def test_an_application_reaches_the_agent(tmp_path: Path) -> None:
    async with mesos(tmp_path, [AgentSpec(images=True)]) as site:
        await register(
            site,
            "app",
            files=("http://files/a.txt",),
            large_files=("http://files/b.tgz",),
            user="carol",
            container=Container(type="docker", image="ubuntu:24.04"),
            grace_period_s=7.0,
        )
        job = await site.done(application="app")
        assert job.state == "FINISHED"
        info = site.info(f"{job.id}.1")
        assert info["command"]["user"] == "carol"
        assert [(uri["value"], uri["cache"], uri["extract"]) for uri in info["command"]["uris"]] == [
            ("http://files/a.txt", False, True),
            ("http://files/b.tgz", True, True),
        ]
        assert info["container"]["mesos"]["image"]["docker"]["name"] == "ubuntu:24.04"
        assert info["kill_policy"]["grace_period"]["nanoseconds"] == 7_000_000_000


async def test_an_image_where_agents_take_none_is_the_end_of_the_job(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        await register(site, "app", container=Container(type="docker", image="ubuntu:24.04"))
        job = await site.done(application="app")
        assert (job.state, job.reason, len(job.attempts)) == ("FAILED", "image", 1)
        assert "--image_providers" in (job.message or "")


async def test_an_unknown_user_is_the_end_of_the_job(tmp_path: Path) -> None:
    cluster = cluster_of(1, work_dir=tmp_path / "agents")
    async with mesos(tmp_path / "data", cluster) as site:
        await register(site, "app", user="nosuchuser")
        job = await site.done(application="app")
        assert (job.state, job.reason, len(job.attempts)) == ("FAILED", "start", 1)
        assert job.message == "there is no user 'nosuchuser' on agent 127.0.0.1"


@pytest.mark.parametrize(
    ("command", "fields", "state", "reason", "code", "signal"),
    [
        ("true", {}, "FINISHED", None, 0, None),
        ("exit 3", {}, "FAILED", "exit", 3, None),
        ("signal 9", {}, "FAILED", "signal", None, 9),
        ("signal 11", {}, "FAILED", "signal", None, 11),
        ("wait", {"timeout_s": 0.05}, "FAILED", "timeout", None, 15),
    ],
)
async def test_ends(
    tmp_path: Path, command: str, fields: Json, state: str, reason: str | None, code: int | None, signal: int | None
) -> None:
    async with mesos(tmp_path) as site:
        job = await site.done(command, **fields)
        assert (job.state, job.reason, job.exit_code, job.signal) == (state, reason, code, signal)
        assert len(job.attempts) == 1
        await site.until(lambda: not site.cluster.unacknowledged())


async def test_updates_that_come_twice_late_and_out_of_order(tmp_path: Path) -> None:
    async with mesos(tmp_path, 4) as site:
        site.cluster.disturb_updates(duplicate=0.5, delay=(0.0, 0.05), seed=7)
        commands = ["true", "exit 3", "signal 9"] * 10
        jobs = [await site.submit(command, resources={"cpus": 0.25}) for command in commands]
        for job_id, command in zip(jobs, commands, strict=True):
            job = await site.ended(job_id)
            result = {"true": (0, None), "exit 3": (3, None), "signal 9": (None, 9)}[command]
            assert (job.exit_code, job.signal, len(job.attempts), job.losses) == (*result, 1, 0)
        await site.until(lambda: not site.cluster.unacknowledged())
        site.cluster.check_accounts()


# -- kills -------------------------------------------------------------------------------------------------------


async def test_kill_of_a_queued_job(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.submit(attributes="ssd")
        await site.kill(job_id)
        assert (site.job(job_id).state, calls(site, "KILL")) == ("KILLED", 0)


async def test_kill_of_a_job_that_is_being_started(tmp_path: Path) -> None:
    cluster = cluster_of(1, timing=quick(executor_start=0.3))
    async with mesos(tmp_path, cluster) as site:
        job_id = await site.submit("wait")
        await site.until(lambda: calls(site, "ACCEPT"))
        assert site.job(job_id).state == "STARTING"
        await site.kill(job_id)
        job = await site.ended(job_id)
        assert (job.state, len(job.attempts)) == ("KILLED", 1)
        await site.until(lambda: not site.live())


async def test_kill_of_a_running_job(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running()
        await site.kill(job_id)
        job = await site.ended(job_id)
        assert (job.state, job.reason, job.signal) == ("KILLED", "user", 15)
        await site.until(lambda: not site.live())


async def test_kill_of_a_job_that_just_finished_is_no_kill_without_end(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running("brief")
        site.cluster.disturb_updates(delay=(0.3, 0.3))
        await site.until(lambda: not site.live())
        await site.kill(job_id)
        assert (await site.ended(job_id)).ended is not None
        await site.until(lambda: not site.cluster.unacknowledged())


async def test_kill_while_the_master_is_away_is_durable_and_shown_until_it_is_done(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running()
        site.cluster.stall()
        site.cluster.drop_streams()
        await site.until(lambda: site.core.engine_failure)
        await site.kill(job_id)
        shown = (await site.http.get(f"/jobs/{job_id}")).json
        assert (shown["state"], shown["kill_requested"] is not None) == ("STARTED", True)
        assert (await site.why(job_id)).startswith("being killed on")
        assert site.live() == [f"{job_id}.1"]
        site.cluster.resume()
        assert (await site.ended(job_id)).state == "KILLED"
        await site.until(lambda: not site.live())


async def test_a_kill_is_not_forgotten_by_a_restart_while_the_master_is_away(tmp_path: Path) -> None:
    async with cluster_of() as cluster:
        async with server(tmp_path, cluster) as site:
            job_id = await site.running()
            cluster.stall()
            cluster.drop_streams()
            await site.until(lambda: site.core.engine_failure)
            await site.kill(job_id)
        async with server(tmp_path, cluster) as site:
            assert (await site.why(job_id)).startswith("being killed on")
            assert site.live() == [f"{job_id}.1"]
            cluster.resume()
            assert (await site.ended(job_id)).state == "KILLED"
            await site.until(lambda: not site.live())


# -- the master --------------------------------------------------------------------------------------------------


async def test_a_master_that_is_not_there_yet(tmp_path: Path) -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        port = hole.getsockname()[1]
    cluster = cluster_of(1, port=port)
    async with server(tmp_path, cluster, master=f"127.0.0.1:{port}") as site:
        assert (await site.http.ask("GET", "/status", None)).json["master"] is None
        await site.until(lambda: site.core.engine_failure)
        health = await site.http.ask("GET", "/healthz", None)
        assert (health.status, health.json["status"]) == (503, "engine-failure")
        assert f"127.0.0.1:{port}" in (await site.status())["engine_failure"]
        job_id = await site.submit()
        assert (await site.why(job_id)).startswith("nothing can be started now: not connected to Mesos")
        async with cluster:
            assert (await site.ended(job_id)).state == "FINISHED"
            assert (await site.http.ask("GET", "/healthz", None)).status == 200
            assert (await site.status())["engine_failure"] is None
            assert (await site.http.ask("GET", "/status", None)).json["master"] == f"127.0.0.1:{port}"


async def test_a_master_that_is_away_for_a_while(tmp_path: Path) -> None:
    async with mesos(tmp_path, 2) as site:
        runs = await site.running()
        brief = await site.running("brief")
        away = asyncio.ensure_future(site.cluster.fail_over(1.0))
        await site.until(lambda: site.core.engine_failure)
        waits = await site.submit()
        assert [site.job(each).state for each in (runs, brief, waits)] == ["STARTED", "STARTED", "QUEUED"]
        await away
        assert (await site.ended(waits)).state == "FINISHED"
        assert (await site.ended(brief)).state == "FINISHED"
        assert site.job(runs).state == "STARTED"
        assert [len(site.job(each).attempts) for each in (runs, brief, waits)] == [1, 1, 1]
        assert site.cluster.teardowns == 0


async def test_another_master_leads(tmp_path: Path) -> None:
    cluster = cluster_of(1, masters=2)
    async with cluster, server(tmp_path, cluster, master=cluster.addresses[1]) as site:
        await site.connected()
        runs = await site.running()
        await cluster.fail_over_to(1, election=0.3)
        await site.connected()
        await site.kill(runs)
        assert (await site.ended(runs)).state == "KILLED"
        assert (await site.done()).state == "FINISHED"
        assert cluster.teardowns == 0


async def test_a_framework_that_was_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with mesos(tmp_path) as site:
        before = site.cluster.framework().id
        runs, once = await site.running(), await site.running(max_retries=0)
        assert site.cluster.master.teardown(before)
        await site.until(lambda: len(site.job(runs).attempts) == 2)
        await site.started(runs)
        lost = site.job(runs).attempts[0]
        assert lost.reason == "lost" and f"Mesos has removed framework {before}" in (lost.message or "")
        ended = await site.ended(once)
        assert (ended.state, ended.reason) == ("FAILED", "lost") and "has removed framework" in (ended.message or "")
        after = json.loads((tmp_path / "mesos/framework.json").read_bytes())
        assert after["id"] != before and before in after["earlier"]
        assert [record.levelno for record in caplog.records if "has removed framework" in record.message] == [
            logging.CRITICAL
        ]
        await site.connected()
        await site.until(lambda: site.live() == [f"{runs}.2"])


async def test_a_framework_that_was_removed_while_the_server_was_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster_of() as cluster:
        async with server(tmp_path, cluster) as site:
            runs, killed = await site.running(), await site.running()
            before = cluster.framework().id
        assert cluster.master.teardown(before)
        async with server(tmp_path, cluster) as site:
            await site.kill(killed)
            assert (await site.ended(killed)).state == "KILLED"
            await site.until(lambda: len(site.job(runs).attempts) == 2)
            await site.started(runs)
            assert before in (site.job(runs).attempts[0].message or "")
            await site.until(lambda: site.live() == [f"{runs}.2"])
        assert logging.CRITICAL in [record.levelno for record in caplog.records]
        async with server(tmp_path, cluster) as site:
            await site.connected()
            assert (await site.done()).state == "FINISHED"
            assert (site.job(runs).state, len(site.job(runs).attempts)) == ("STARTED", 2)


def driver_of_ours() -> psutil.Process:
    """The driver child of the engine in this process; dead children of other tests may still be listed."""
    alive = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return next(child for child in alive if "retz.engine.mesos.driver" in child.cmdline())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_driver_that_dies_or_hangs(tmp_path: Path, number: signal.Signals) -> None:
    async with mesos(tmp_path) as site:
        runs = await site.running()
        driver = driver_of_ours()
        driver.send_signal(number)
        job_id = await site.submit()
        if number is signal.SIGSTOP:
            assert (await site.status())["mode"] == "open"
            driver.send_signal(signal.SIGCONT)
        else:
            text: str = await site.until(lambda: site.core.engine_failure)
            assert "the driver process is started again (it ended with signal 9)" in text
        assert (await site.ended(job_id)).state == "FINISHED"
        assert (site.job(runs).state, site.cluster.teardowns) == ("STARTED", 0)


async def test_two_servers_with_one_framework_id(tmp_path: Path) -> None:
    async with mesos(tmp_path / "one") as site:
        runs = await site.running()
        (tmp_path / "two").mkdir()
        (tmp_path / "two/mesos").mkdir()
        (tmp_path / "two/mesos/framework.json").write_bytes((tmp_path / "one/mesos/framework.json").read_bytes())
        async with server(tmp_path / "two", site.cluster) as copy:
            await site.until(lambda: "another server has subscribed" in (site.core.engine_failure or ""))
            await copy.connected()
            assert "stop one of them" in (await site.status())["engine_failure"]
            assert calls(site, "SUBSCRIBE") == 2  # they do not throw each other out for ever
            assert copy.connections() == 1
            assert site.job(runs).state == "STARTED"


async def test_a_secret_that_the_master_does_not_take(tmp_path: Path) -> None:
    cluster = cluster_of(1, credentials={"retz": "secret"})
    async with cluster:
        async with server(tmp_path, cluster, principal="retz", secret="wrong") as site:
            text: str = await site.until(lambda: site.core.engine_failure)
            assert "401" in text and "retz.mesos.secret-file" in text
            job_id = await site.submit()
        async with server(tmp_path, cluster, principal="retz", secret="secret") as site:
            assert (await site.ended(job_id)).state == "FINISHED"
            assert (await site.status())["engine_failure"] is None


async def test_events_that_nobody_understands_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with mesos(tmp_path) as site:
        for event in (
            b'{"type":"SOMETHING_NEW","something_new":{"a":1}}',
            b'{"type":"UPDATE","update":{"status":{"task_id":7}}}',
            b'{"type":"OFFERS","offers":{"offers":[{"id":{"value":"x"}}]}}',
            b'{"type":"UPDATE","update":{"status":{"task_id":{"value":"not-ours"},"state":"TASK_RUNNING"}}}',
            b"[]",
            b"{",
            b"\xff\xfe",
        ):
            site.cluster.send_raw_event(event)
        assert (await site.done()).state == "FINISHED"
        assert (calls(site, "SUBSCRIBE"), site.core.engine_failure) == (1, None)
        assert any("is ignored" in record.message for record in caplog.records)


async def test_the_error_of_a_second_launch_does_not_end_the_first(tmp_path: Path) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running()
        task, agent = f"{job_id}.1", site.cluster.agents[0].id
        words = f"Task has duplicate ID: {task}"
        site.cluster.send_raw_event(status_event(task, agent, "TASK_ERROR", "REASON_TASK_INVALID", words))
        assert (await site.done()).state == "FINISHED"  # so that event was read
        assert site.job(job_id).state == "STARTED"
        await site.kill(job_id)
        assert (await site.ended(job_id)).state == "KILLED"


# -- agents ------------------------------------------------------------------------------------------------------


async def test_an_agent_that_is_away_too_long_and_comes_back(tmp_path: Path) -> None:
    async with mesos(tmp_path, 2) as site:
        job_id = await site.running(resources={"cpus": 2})
        first = next(agent for agent in site.cluster.agents if agent.id == site.job(job_id).attempts[0].agent)
        first.lose()
        await site.until(lambda: site.cluster.states()["TASK_UNREACHABLE"])
        await site.until(lambda: len(site.job(job_id).attempts) == 2)
        job = await site.started(job_id)
        assert job.attempts[1].agent != first.id
        assert (job.attempts[0].reason, "could not be reached" in (job.attempts[0].message or "")) == ("lost", True)
        assert site.live() == [f"{job_id}.1", f"{job_id}.2"]
        first.find()
        await site.until(lambda: site.live() == [f"{job_id}.2"])
        assert site.job(job_id).state == "STARTED"


async def test_an_agent_that_comes_back_in_time_costs_nothing(tmp_path: Path) -> None:
    async with mesos(tmp_path, 2, unreachable_wait_s=60.0) as site:
        job_id = await site.running()
        first = next(agent for agent in site.cluster.agents if agent.id == site.job(job_id).attempts[0].agent)
        first.lose()
        await site.until(lambda: site.cluster.states()["TASK_UNREACHABLE"])
        assert (await site.done()).state == "FINISHED"
        first.find()
        await site.kill(job_id)
        job = await site.ended(job_id)
        assert (job.state, len(job.attempts), job.losses) == ("KILLED", 1, 0)


async def test_a_result_that_was_lost_with_its_agent_is_tried_again(tmp_path: Path) -> None:
    cluster = cluster_of(1, timing=quick(agent_ping_timeout=60.0))
    async with mesos(tmp_path, cluster) as site:
        agent = cluster.agents[0]
        job_id = await site.running("brief")
        agent.crash()
        await site.until(lambda: not agent.runs or not site.live())
        await asyncio.sleep(2 * cluster.timing.executor_linger)  # the executor itself is seen nowhere
        agent.restart()
        job = await site.ended(job_id)
        assert (job.state, len(job.attempts), job.losses) == ("FINISHED", 2, 1)
        assert "Executor terminated" in (job.attempts[0].message or "")


@pytest.mark.parametrize("accident", ["shutdown_gracefully", "wipe"])
async def test_agents_that_are_lost_with_their_jobs(tmp_path: Path, accident: str) -> None:
    async with mesos(tmp_path, 2) as site:
        job_id = await site.running(resources={"cpus": 2})
        first = next(agent for agent in site.cluster.agents if agent.id == site.job(job_id).attempts[0].agent)
        getattr(first, accident)()
        await site.until(lambda: len(site.job(job_id).attempts) == 2)
        job = await site.started(job_id)
        assert (job.attempts[0].reason, job.losses) == ("lost", 1)
        await site.until(lambda: site.live() == [f"{job_id}.2"])


@pytest.mark.parametrize("order", ["drain", "mark_gone"])
async def test_agents_that_an_operator_takes_away(tmp_path: Path, order: str) -> None:
    async with mesos(tmp_path, 2) as site:
        job_id = await site.running(resources={"cpus": 2})
        first = site.job(job_id).attempts[0].agent
        master = site.cluster.master
        assert master.drain(first, {}) if order == "drain" else master.mark_gone(first)
        await site.until(lambda: len(site.job(job_id).attempts) == 2)
        job = await site.started(job_id)
        assert (job.attempts[0].reason, job.losses, job.attempts[1].agent != first) == ("lost", 1, True)
        await site.until(lambda: site.live() == [f"{job_id}.2"])
        waits = await site.submit(resources={"cpus": 2})
        await site.until(lambda: all(agent.state != "active" for agent in site.engine.agents() if agent.id == first))
        assert "2 cpus" in await site.why(waits)


async def test_agents_that_take_ages_to_answer_slow_down_nobody(tmp_path: Path) -> None:
    cluster = cluster_of(2, work_dir=tmp_path / "agents")
    async with mesos(tmp_path / "data", cluster) as site:
        job_id = await site.running("sleep 60")
        for agent in cluster.agents:
            agent.slow(4.0)
        files = [
            asyncio.ensure_future(site.http.get(f"/jobs/{job_id}/file?path={name}")) for name in ("stdout", "stderr")
        ]
        try:
            assert (await site.done()).state == "FINISHED"
            assert (await site.status())["engine_failure"] is None
            assert len((await site.http.get("/agents")).json["agents"]) == 2
            await site.kill(job_id)
            await site.ended(job_id)
            assert not any(file.done() for file in files)  # all this while the agents were still being waited for
        finally:
            for file in files:
                file.cancel()
            await asyncio.gather(*files, return_exceptions=True)


async def test_files_are_read_through_the_agent(tmp_path: Path) -> None:
    cluster = cluster_of(1, work_dir=tmp_path / "agents")
    async with mesos(tmp_path / "data", cluster) as site:
        job = await site.done("printf '%s' hello; printf '\\377\\0' > bytes")
        place = f"/jobs/{job.id}/file"
        assert (await site.http.get(f"{place}?path=stdout")).body == b"hello"
        assert (await site.http.get(f"{place}?path=bytes")).body == b"\xff\0"
        assert [each["path"] for each in (await site.http.get(f"{place}s")).json["entries"]] == [
            "bytes",
            "stderr",
            "stdout",
        ]
        cluster.agents[0].crash()
        await site.until(lambda: not cluster.agents[0].connected)
        gone = await site.http.get(f"{place}?path=stdout")
        assert (gone.status, "127.0.0.1" in gone.json["detail"]) == (503, True)


# -- time and restarts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clock", "wall"), [(0.0, DAY_S), (0.0, -DAY_S), (DAY_S, DAY_S)])
async def test_clocks_that_jump_lose_no_job(tmp_path: Path, clock: float, wall: float) -> None:
    async with mesos(tmp_path) as site:
        job_id = await site.running()
        site.clock.ahead, site.wall.ahead = clock, wall
        after = await site.done()
        assert (after.state, len(after.attempts)) == ("FINISHED", 1)
        assert after.ended is not None and after.ended >= after.submitted
        assert site.job(job_id).state == "STARTED"
        await site.kill(job_id)
        assert (await site.ended(job_id)).state == "KILLED"


async def test_a_server_that_is_stopped_and_started_again_takes_up_its_jobs(tmp_path: Path) -> None:
    async with cluster_of(2) as cluster:
        async with server(tmp_path, cluster) as site:
            runs, brief, killed = await site.running(), await site.running("brief"), await site.running()
            waits = await site.submit(attributes="ssd")
        await site.until(lambda: f"{brief}.1" not in site.live())
        async with server(tmp_path, cluster) as site:
            await site.kill(killed)
            assert (await site.ended(brief)).state == "FINISHED"
            assert (await site.ended(killed)).state == "KILLED"
            assert (await site.done()).state == "FINISHED"
            assert [site.job(each).state for each in (runs, waits)] == ["STARTED", "QUEUED"]
            assert [len(site.job(each).attempts) for each in (runs, brief, killed)] == [1, 1, 1]
            assert (cluster.teardowns, len(cluster.master.frameworks)) == (0, 1)
            await site.until(lambda: site.live() == [f"{runs}.1"])


async def test_a_task_that_nobody_knows_is_killed(tmp_path: Path) -> None:
    async with cluster_of() as cluster:
        async with server(tmp_path / "one", cluster) as site:
            await site.running()
        (tmp_path / "two/mesos").mkdir(parents=True)
        (tmp_path / "two/mesos/framework.json").write_bytes((tmp_path / "one/mesos/framework.json").read_bytes())
        async with server(tmp_path / "two", cluster) as site:
            await site.until(lambda: not site.live())
