"""A fuzzer against the old routes: every answer is one that a strict old client can read, and none is our mistake.

``RETZ_FUZZ_EXAMPLES`` and ``RETZ_FUZZ_SEED`` as for the native routes (``test_fuzz.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import SkipTest

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from retz.server.http.openapi import build
from retz.server.http.protocol.table import ROUTES
from tests.doubles.old_client import OldClient, decode, job
from tests.server_process import ServerProcess

from .test_fuzz import EXAMPLES, PATIENCE_S, SEED, SIGNED_LATER, Signature

FUZZED = [replace(route, path=route.path.replace(":.+", "")) for route in ROUTES]
REFUSALS = (400, 403, 404, 405, 409, 413)
OWN_500 = "Can't kill job - due to unknown reason"
"""What Retz itself says with this code, of a job that has finished."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("fuzz") / "home", engine="null")
    try:
        server.start()
        host, _, port = server.uri.removeprefix("http://").partition(":")
        old = OldClient(host, int(port), *server.credentials())
        old.load_app("t")
        assert old.schedule(job("true"))["id"] == 1
        yield server
    finally:
        server.destroy()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", [f"{route.method} {route.path}" for route in FUZZED])
def test_every_answer_can_be_read_by_an_old_client(fuzzed: ServerProcess, label: str, mode: GenerationMode) -> None:
    print(f"RETZ_FUZZ_SEED={SEED}")
    document: Any = schemathesis.openapi.from_dict(build(FUZZED))
    operation = next(found.ok() for found in document.get_all_operations() if found.ok().label == label)
    # Made-up ids and names hardly ever hit anything.
    known = {"id": 1, "name": "t"} if mode is GenerationMode.POSITIVE and "{" in label else None
    if known is not None:
        known = {name: value for name, value in known.items() if f"{{{name}}}" in label}
    signature = Signature(*fuzzed.credentials())

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode, headers=SIGNED_LATER, path_parameters=known))
    def ask(case: Any) -> None:
        if len(str(case.query)) <= 2_000:  # longer ones are not read as HTTP at all
            sent = case.as_transport_kwargs(base_url=fuzzed.uri)
            check(requests.request(**sent, auth=signature, timeout=PATIENCE_S))

    try:
        ask()
    except (SkipTest, Unsatisfiable) as nothing:
        pytest.skip(f"{label}: there is no {mode.value} request to make ({type(nothing).__name__})")


def check(reply: requests.Response) -> None:
    """Fail unless an old client makes sense of it."""
    assert reply.headers["Server"].startswith("retz-server-0.5.0 (") and "Retry-After" not in reply.headers
    kind = reply.headers["Content-Type"].partition(";")[0]
    if reply.status_code in (200, 201):
        assert kind == "application/octet-stream" or decode(reply.content)["status"] == "ok"
    elif reply.status_code == 500:
        assert decode(reply.content)["status"] == OWN_500
    else:
        assert reply.status_code in REFUSALS, reply.text
        assert kind != "application/json" or decode(reply.content)["command"] == "error"
        # An address that is not even below an old one is told of in the native API's words.
        assert kind in ("application/json", "text/plain", "application/problem+json")
