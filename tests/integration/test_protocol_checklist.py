"""What a server must keep to for the Java client, point by point; and every way to sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retz.server.http.protocol.table import ROUTES
from tests.doubles.old_client import (
    STATES,
    TIME,
    OldClient,
    decode,
    documented_signature,
    job,
    now,
    padless,
    signature,
)

from .http_site import ANN, ROOT, Site, running_site
from .test_protocol import client_of, do, refused, running

pytestmark = pytest.mark.anyio

# -- the checklist --------------------------------------------------------------------------------------------------


async def test_checklist_1_routes_bodies_and_codes_without_a_field_too_many(site: Site) -> None:
    old, job_id = await running(site)
    told = {
        ("GET", "/status"): "status",
        ("GET", "/apps"): "list-app",
        ("GET", "/app/t"): "get-app",
        ("GET", f"/job/{job_id}"): "get-job",
        ("GET", f"/job/{job_id}/file?path=stdout&offset=0&length=-1"): "get-file",
        ("GET", f"/job/{job_id}/dir?path=%24MESOS_SANDBOX"): "list-files",
        ("DELETE", f"/job/{job_id}"): "kill",
        ("DELETE", "/app/other"): "unload-app",
    }
    for (method, target), command in told.items():
        answer = await do(old.call, method, target)
        assert (answer["command"], answer["status"], answer["version"]) == (command, "ok", "0.2.1")
    assert (await do(old.list, "QUEUED"))["command"] == "list"
    assert len(ROUTES) == 11


async def test_checklist_2_every_answer_says_which_server_it_is(site: Site) -> None:
    old, job_id = await running(site)
    targets = ("/ping", "/status", f"/job/{job_id}", "/job/nonsense", f"/job/{job_id}/download?path=stdout", "/nowhere")
    for target in targets:
        for headers in ({}, {"Authorization": "nonsense"}):
            reply = await do(old.ask, "GET", target, headers=headers)
            found = re.search(r"\d+\.\d+\.\d+", reply.headers["server"])
            assert found is not None and found[0].startswith("0.5.")


async def test_checklist_3_ping_and_status_are_unsigned(site: Site) -> None:
    reply = await do(client_of(site).ask, "GET", "/ping", headers={"Authorization": None})
    assert (reply.code, reply.body) == (200, b'"OK"')
    reply = await do(client_of(site).ask, "GET", "/status", headers={"Authorization": None})
    assert reply.code == 200 and len(decode(reply.body)) == 3 + 9


async def test_checklist_4_submission_states_times_and_whole_numbers(site: Site) -> None:
    old = client_of(site)
    await do(old.load_app, "t")
    asked = {"command": "schedule", "job": job("true"), "version": "0.2.1"}
    reply = await do(old.ask, "POST", "/job", asked)
    assert reply.code == 201
    accepted = decode(reply.body)["job"]
    assert accepted["state"] in STATES
    assert TIME.fullmatch(accepted["scheduled"])
    assert abs(datetime.fromisoformat(accepted["scheduled"]).timestamp() - time.time()) < 60
    assert all(type(amount) is int for amount in accepted["resources"].values())


async def test_checklist_5_the_signature_covers_decoded_path_and_raw_query(site: Site) -> None:
    old, job_id = await running(site)
    site.engine.files[f"{job_id}.1"]["a dir ε.txt"] = bytearray(b"hello")
    target = f"/job/{job_id}/file?path=a+dir+%CE%B5.txt&offset=0&length=-1"
    assert (await do(old.call, "GET", target))["file"]["data"] == "hello"
    assert (await refused(old.call, "GET", "/app/no%20such/app"))[0] == 404
    date = now()
    wrong = signature(ANN.secret, "GET", "", date, target.partition("?")[0])
    headers = {"Date": date, "Authorization": f"Retz-auth-v1 {ANN.key}:{wrong}"}
    assert (await refused(old.call, "GET", target, headers=headers))[0] == 401


async def test_checklist_6_refusals_reach_the_user_of_the_old_client(site: Site) -> None:
    old = client_of(site)
    old.secret = "wrong"
    without_body = (lambda: old.get_job(1), lambda: old.kill(1), old.apps, lambda: old.list_files(1))
    for call in without_body:
        code, sentence = await refused(call)
        assert code == 401 and "signature does not match" in sentence
    # Java's library drops the answer to a 401 if the request had a body.
    with_body = (lambda: old.list("QUEUED"), lambda: old.schedule(job("true")), lambda: old.load_app("t"))
    for send in with_body:
        code, sentence = await refused(send)
        assert code == 403 and "signature does not match" in sentence
    old.secret = ANN.secret
    assert (await refused(old.get_app, "x")) == (404, "No such application: x")


async def test_checklist_7_files_missing_ended_and_cut_between_characters(site: Site) -> None:
    old, job_id = await running(site)
    assert (await do(old.get_file, job_id, "not-there-yet"))["file"] is None
    data = site.engine.files[f"{job_id}.1"]["stdout"]
    data += "xε".encode()
    assert (await do(old.get_file, job_id, "stdout", 0, 2))["file"] == {"data": "x", "offset": 0}
    assert (await do(old.get_file, job_id, "stdout", 1, 2))["file"] == {"data": "ε", "offset": 1}
    assert (await do(old.get_file, job_id, "stdout", 3, 10))["file"] == {"data": "", "offset": 3}


async def test_checklist_8_listed_paths_end_with_what_was_asked_and_downloads_have_a_length(site: Site) -> None:
    old, job_id = await running(site)
    entries = (await do(old.list_files, job_id))["entries"]
    assert [entry["path"].endswith(name) for entry, name in zip(entries, ("stderr", "stdout"), strict=True)]
    assert all(entry["path"].startswith("/") for entry in entries)
    assert await do(old.whole_file, job_id, "stdout") == ""
    with pytest.raises(FileNotFoundError):
        await do(old.whole_file, job_id, "no-such-file")
    reply = await do(old.download, job_id, "stdout")
    assert (reply.code, reply.headers["content-length"]) == (200, "0")


async def test_checklist_9_no_answer_asks_for_a_repetition_and_a_repeated_post_is_a_job_of_its_own(site: Site) -> None:
    old = client_of(site)
    await do(old.load_app, "t")
    asked = {"command": "schedule", "job": job("true"), "version": "0.2.1"}
    replies = [await do(old.ask, "POST", "/job", asked) for _ in range(3)]
    assert [decode(reply.body)["job"]["id"] for reply in replies] == [1, 2, 3]
    assert (await site.ask("PUT", "/api/v2/queue", ROOT, mode="draining")).status == 200
    unavailable = await do(old.ask, "POST", "/job", asked)
    assert unavailable.code == 503 and "retry-after" not in unavailable.headers


async def test_checklist_10_users_are_looked_after_without_jmx(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.shared-uid": True}) as site:
        made = (await site.ask("POST", "/api/v2/users", ROOT, users=[{"info": "farboom"}])).json["users"][0]
        old = OldClient("127.0.0.1", site.port, made["key"], made["secret"])
        await do(old.load_app, "t")
        assert (await do(old.get_app, "t"))["owner"] == made["key"]
        assert (await site.ask("PATCH", f"/api/v2/users/{made['key']}", ROOT, enabled=False)).status == 200
        assert (await refused(old.apps))[0] == 403


# -- signatures -----------------------------------------------------------------------------------------------------

VECTORS = [
    ("GET", "", "2017-09-26T03:40:15.573+09:00", "/job/11", "jx4SoIGcqMYWhf3Ead03QfdMOfvFCeuTtj2PWA3MzHs"),
    (
        "POST",
        "iMGxJ8OmMoNTI4wtQX1Zlg",
        "2026-11-20T04:51:11.455Z",
        "/jobs",
        "+3DqIjPe1u7lycRtuV49AE45Z+IpzJNTfk0yK7Z2a+o",
    ),
    (
        "GET",
        "",
        "2026-11-20T04:51:11.625Z",
        "/job/11/file?path=a+dir%2Ff%2Bile+%CE%B5.txt&offset=0&length=-1",
        "McWExQBumHz781DemRwh8XBAA6fQoFnZU+nIoKLvWB4",
    ),
    ("GET", "", "2026-11-20T04:51:11.837Z", "/app/no such/app", "wkypxpUy423C236CuU/P4w070PEWdBkx36Q0iCCzdcc"),
]


@pytest.mark.parametrize(("method", "md5", "date", "resource", "made"), VECTORS)
def test_the_old_client_signs_as_the_java_client_does(
    method: str, md5: str, date: str, resource: str, made: str
) -> None:
    assert signature("cafebabe", method, md5, date, resource) == made


def test_the_old_client_takes_the_digest_as_the_java_client_does() -> None:
    body = b'{"command":"list","state":"QUEUED","tag":"tag","version":"0.2.1"}'
    assert padless(hashlib.md5(body).digest()) == "iMGxJ8OmMoNTI4wtQX1Zlg"


def sha1_unpadded(*parts: str) -> str:
    return documented_signature(*parts).rstrip("=")


def sha1_with_newline(secret: str, *parts: str) -> str:
    text = "\n".join(parts) + "\n"
    return padless(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest())


def sha256_padded(*parts: str) -> str:
    return signature(*parts) + "="


@pytest.mark.parametrize("sign", [signature, sha256_padded, documented_signature, sha1_unpadded, sha1_with_newline])
async def test_requests_signed_as_code_or_documents_say(site: Site, sign: Callable[..., str]) -> None:
    old = client_of(site)
    old.sign = sign
    await do(old.load_app, "t")
    job_id = (await do(old.schedule, job("echo ε")))["id"]
    assert (await do(old.get_file, job_id, "a b"))["job"] is not None
    old.secret = "wrong"
    assert (await refused(old.get_job, job_id))[0] == 401


async def test_a_sha256_signature_without_the_final_newline_is_nobodys(site: Site) -> None:
    old = client_of(site)
    old.sign = lambda secret, *parts: padless(
        hmac.new(secret.encode(), "\n".join(parts).encode(), hashlib.sha256).digest()
    )
    assert (await refused(old.apps))[0] == 401


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Authorization": None}, "not signed"),
        ({"Authorization": "Basic YTpi"}, "must be"),
        ({"Authorization": "Retz-auth-v1 ann"}, "must be"),
        ({"Authorization": "Retz-auth-v1  ann:x"}, "must be"),
        ({"Authorization": "Retz-auth-v1 nobody:AAAA"}, "does not match"),
        ({"Date": "2017-09-26T03:40:15.573+09:00"}, "clock"),
        ({"Date": None, "Authorization": "Retz-auth-v1 ann:AAAA"}, "Date header"),
    ],
)
async def test_refusals_of_unsigned_requests_are_plain_sentences(
    site: Site, headers: dict[str, Any], said: str
) -> None:
    reply = await do(client_of(site).ask, "GET", "/apps", headers=headers)
    assert reply.code == 401 and reply.headers["content-type"].startswith("text/plain")
    assert said in reply.body.decode()
    # What was signed, or should have been, is nobody's business.
    assert b"GET\n" not in reply.body and "www-authenticate" not in reply.headers


@pytest.mark.parametrize("minutes", [-9, 9])
async def test_a_clock_that_is_a_little_wrong(site: Site, minutes: int) -> None:
    date = datetime.fromtimestamp(time.time() + 60 * minutes, UTC).isoformat(timespec="milliseconds")
    assert (await do(client_of(site).call, "GET", "/apps", headers={"Date": date}))["applicationList"] == []


@pytest.mark.parametrize("digest", [None, padless(hashlib.md5(b"another").digest())])
async def test_a_body_must_match_its_digest(site: Site, digest: str | None) -> None:
    asked = {"command": "list", "state": "QUEUED"}
    code, sentence = await refused(client_of(site).call, "POST", "/jobs", asked, headers={"Content-MD5": digest})
    assert code == 403 and "Content-MD5" in sentence


async def test_a_padded_digest_is_one_too(site: Site) -> None:
    body = b'{"command":"list","state":"QUEUED"}'
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert digest.endswith("=")
    answer = await do(client_of(site).call, "POST", "/jobs", body=body, headers={"Content-MD5": digest})
    assert answer["jobs"] == []


async def test_without_authentication_the_key_alone_counts(tmp_path: Path) -> None:
    async with running_site(tmp_path, {"retz.authentication": False}) as site:
        old = client_of(site)
        old.sign = lambda *_parts: "all-okay"
        await do(old.load_app, "t")
        assert (await do(old.schedule, job("true")))["id"] == 1
        assert (await do(old.list, "FINISHED"))["jobs"] == []
        assert (await refused(old.call, "GET", "/apps", headers={"Authorization": None}))[0] == 401
        old.key = "nobody"
        assert (await refused(old.apps))[0] == 401
