"""Which requests the estimator's service takes for those of a web page of somebody else."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from estimator.service.guard import guard, is_loopback


def _status(bind: str, **headers: str) -> int:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def ask() -> int:
        return (await guard(bind)(make_mocked_request("GET", "/", headers=headers), handler)).status

    return asyncio.run(ask())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.255.0.9", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "127.0.0.1.evil.example", "10.1.1.1", "localhost.example"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_who_listens_on_the_network_may_have_any_name() -> None:
    assert _status("0.0.0.0", Host="hadoop.example:9998") == 204
    assert _status("127.0.0.1", Host="hadoop.example:9998") == 403


@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_pages_of_other_hosts_may_not(bind: str) -> None:
    assert _status(bind, Host="localhost:9998", Origin="http://localhost:9998") == 204
    assert _status(bind, Host="localhost:9998", Origin="http://localhost:9999") == 403
    assert _status(bind, Host="localhost:9998", Origin="null") == 403
    assert _status(bind, Origin="http://localhost:9998") == 403


def test_without_a_host_there_is_no_page() -> None:
    assert _status("127.0.0.1") == 204
