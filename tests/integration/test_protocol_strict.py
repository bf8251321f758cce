"""Nothing but the documented fields, for whatever the native API can make: old clients refuse what they do not know."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retz.model.application import Application
from retz.model.job import Job
from retz.server.housekeeping import Housekeeping
from retz.server.http.protocol import messages, translate
from retz.server.http.protocol.translate import application_message, as_accepted, job_message
from tests.doubles.old_client import OldClient, decode

from .http_site import ANN, Site

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(0, 2**40),
    float: st.floats(0, 4e9),
    bool: st.booleans(),
    type(None): st.none(),
}


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that records are made of, all fields of its Structs included."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is Annotated:
        return anything(inner[0])
    if origin in (Union, types.UnionType):
        return st.one_of([anything(each) for each in inner])
    if origin is dict:
        return st.dictionaries(anything(inner[0]), anything(inner[1]), max_size=2)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(anything(inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(anything, inner))
    fields = get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: anything(fields[name]) for name in kind.__struct_fields__})


JOBS = st.builds(
    lambda job, **changed: msgspec.structs.replace(job, **changed),
    anything(Job),
    id=st.integers(1, 2**31 - 1),
    priority=st.integers(-20, 19),
    losses=st.integers(0, 1000),
)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(JOBS)
def test_any_job_record_is_a_message_that_old_clients_can_read(job: Job) -> None:
    for shown in (job, as_accepted(job)):
        message = decode(msgspec.json.encode(messages.GetJobAnswer(job_message(shown, "http://h:1"))))
        assert message["job"]["state"] == ("KILLED" if shown.state == "FAILED" else shown.state)
        assert (message["job"]["result"] == 0) == (shown.state == "FINISHED")
        assert message["job"]["reason"] is None or message["job"]["state"] == "KILLED"


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC0", "2017-09-25T18:40:15.573Z"),
        ("JST-9", "2017-09-26T03:40:15.573+09:00"),
        ("NST3:30", "2017-09-25T15:10:15.573-03:30"),
    ],
)
def test_times_are_in_the_servers_zone(zone: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    translate._second.cache_clear()
    try:
        assert translate.old_time(1506364815.573) == text
    finally:
        monkeypatch.undo()
        time.tzset()
        translate._second.cache_clear()


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(anything(Application))
def test_any_application_record_is_a_message_that_old_clients_can_read(application: Application) -> None:
    decode(msgspec.json.encode(messages.GetAppAnswer(application_message(application))))


SPECS: list[dict[str, Any]] = [
    {"command": "true"},
    {"command": ["python", "-c", "print('ε')"]},
    {"command": "true", "name": "n" * 200, "tags": ["a", "b"], "priority": -20},
    {"command": "true", "resources": {"cpus": 0.25, "mem": "0.5m", "disk": "1g", "gpus": 1, "ports": 3}},
    {"command": "true", "environment": {"A": "b", "MY_SECRET": "c"}, "directory": "/"},
    {"command": "true", "timeout_s": 60.5, "kill_grace_s": 0, "max_retries": 0},
    {"command": "true", "pipeline": "p"},
    {"command": "true", "pipeline": "p", "run": "r"},
    {"command": "true", "held": True},
    {"command": "true", "after": [1]},
    {"command": "true", "after": ["1:any"], "start_at": 4e9},
    {"command": "true", "group": "g", "max_fails": 2},
    {"command": "true", "array": "1-5%2"},
    {"command": "true", "array": "0-9:3", "max_fails": 1},
    {"command": "true", "attributes": "rack=r1"},
]


def read_everything(old: OldClient) -> Iterator[dict[str, Any]]:
    """All jobs, by every way there is to see one."""
    for state in ("CREATED", "QUEUED", "STARTING", "STARTED", "FINISHED", "KILLED"):
        for listed in old.list(state)["jobs"]:
            assert listed["state"] == state
            single = old.get_job(listed["id"])
            assert single is not None
            assert old.get_file(listed["id"], "stdout")["job"] is not None
            assert old.list_files(listed["id"])["job"] is not None
            yield single


@pytest.mark.anyio
async def test_every_kind_of_job_that_the_native_api_makes_is_read_by_old_clients(site: Site) -> None:
    old = OldClient("127.0.0.1", site.port, ANN.key, ANN.secret)
    ids = [await site.submit(**spec) for spec in SPECS]
    seen: set[int] = set()
    for code in (0, 1, 0):
        shown = await asyncio.to_thread(lambda: list(read_everything(old)))
        seen |= {each["id"] for each in shown}
        for task in list(site.engine.held):
            site.engine.ended(task, code)
        await site.core.settled()
    assert set(ids) <= seen
    assert (await site.ask("POST", "/api/v2/jobs/kill", filter={"state": ["LIVE"]})).status == 200
    for task in list(site.engine.held):
        site.engine.ended(task, 143)
    await site.core.settled()
    before = await asyncio.to_thread(lambda: list(read_everything(old)))
    await Housekeeping(site.core).archive_ended()
    after = await asyncio.to_thread(lambda: list(read_everything(old)))
    assert before == after and set(ids) <= {each["id"] for each in after}
    assert {each["state"] for each in after} == {"FINISHED", "KILLED"}


@pytest.mark.anyio
async def test_secrets_of_jobs_are_masked_here_too(site: Site) -> None:
    old = OldClient("127.0.0.1", site.port, ANN.key, ANN.secret)
    names = [f"some_{word}_string" for word in ("secret", "password", "token", "SECRET", "Password", "TOKEN")]
    job_id = await site.submit(environment={**dict.fromkeys(names, "x"), "some_other_string": "x"})
    found = await asyncio.to_thread(old.get_job, job_id)
    assert found is not None
    assert found["props"] == {**dict.fromkeys(names, "<masked>"), "some_other_string": "x"}
