"""One call of a webhook, with receivers that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from retz.server.notify.sender import MOST_LOOKUPS, Down, Refused, Sender

pytestmark = pytest.mark.anyio

HERE = (ip_network("127.0.0.1/32"),)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server on one address that does whatever ``talk`` says after the request has come."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.port = 0


@asynccontextmanager
async def peer(
    talk: Talk, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[Peer]:
    here = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            here.requests.append(head + await reader.readexactly(length))
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, host, port, ssl=context)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()


def says(answer: bytes) -> Talk:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return talk


def forever(head: bytes, piece: bytes) -> Talk:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()

    return talk


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


FINE = says(b"HTTP/1.1 204 No Content\r\n\r\n")


def names(*answers: str | OSError) -> tuple[Callable[[str, int], list[Any]], list[str]]:
    """A name service that gives one answer after another (addresses with commas between), and whom it was asked for."""
    asked: list[str] = []
    left = list(answers)

    def lookup(host: str, port: int) -> list[Any]:
        asked.append(host)
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, OSError):
            raise answer
        return [info for address in answer.split(",") for info in socket.getaddrinfo(address, port, type=1)]

    return lookup, asked


@asynccontextmanager
async def sending(lookup: Any = None, timeout_s: float = 15.0) -> AsyncIterator[Sender]:
    options = {} if lookup is None else {"lookup": lookup}
    sender = Sender(HERE, timeout_s=timeout_s, **options)
    try:
        yield sender
    finally:
        await sender.close()


async def refused(sender: Sender, url: str) -> str:
    with pytest.raises(Refused) as error:
        await sender.send(url, b"{}", {})
    return str(error.value)


async def down(sender: Sender, url: str) -> str:
    with pytest.raises(Down) as error:
        await sender.send(url, b"{}", {})
    return str(error.value)


async def test_a_call_is_a_post_with_our_headers_and_nothing_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with peer(FINE) as here, sending() as sender:
        await sender.send(f"http://127.0.0.1:{here.port}/a%20b?x=%2F#frag", b'{"a":1}', {"Retz-Event": "ended"})
        (request,) = here.requests
    assert request.startswith(b"POST /a%20b?x=%2F HTTP/1.1\r\n") and request.endswith(b'\r\n\r\n{"a":1}')
    assert b"Retz-Event: ended" in request and b"Cookie" not in request


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with peer(FINE) as inside, sending() as sender:
        answer = f"HTTP/1.1 {status} Go\r\nLocation: http://127.0.0.1:{inside.port}/\r\nContent-Length: 0\r\n\r\n"
        async with peer(says(answer.encode())) as outside:
            text = await refused(sender, f"http://127.0.0.1:{outside.port}/secret")
        assert inside.requests == []
    assert f"answered {status}" in text and "secret" not in text and str(inside.port) not in text


@pytest.mark.parametrize(("status", "kind"), [(400, Refused), (404, Refused), (410, Refused), (429, Down), (500, Down)])
async def test_what_the_receiver_answers_decides_who_waits(status: int, kind: type[Exception]) -> None:
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: 13\r\n\r\ninternal data".encode()
    async with peer(says(answer)) as here, sending() as sender:
        with pytest.raises(kind) as error:
            await sender.send(f"http://127.0.0.1:{here.port}/", b"{}", {})
    assert str(error.value) == f"it answered {status}", "a body may be anything: it is shown to nobody"


async def test_a_receiver_that_hangs_is_left() -> None:
    async with peer(hang) as here, sending(timeout_s=1.0) as sender:
        assert await down(sender, f"http://127.0.0.1:{here.port}/") == "no answer within 1 s"
        assert len(here.requests) == 1


async def test_an_endless_body_is_not_read() -> None:
    async with peer(forever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as here, sending() as sender:
        await sender.send(f"http://127.0.0.1:{here.port}/", b"{}", {})


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Many: more\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65536),
        (b"", b"garbage\r\n" * 1000),
    ],
)
async def test_endless_headers_and_garbage_are_left(head: bytes, piece: bytes) -> None:
    async with peer(forever(head, piece)) as here, sending() as sender:
        assert (await down(sender, f"http://127.0.0.1:{here.port}/")).startswith("no proper answer")


async def test_endless_interim_answers_are_left_in_time() -> None:
    async with peer(forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n")) as here, sending(timeout_s=0.2) as sender:
        await down(sender, f"http://127.0.0.1:{here.port}/")


async def test_nobody_there_and_no_such_name() -> None:
    async with peer(FINE) as here:
        port = here.port
    async with sending() as sender:
        assert await down(sender, f"http://127.0.0.1:{port}/") == "no connection: Connection refused"
    lookup, _ = names(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    async with sending(lookup) as sender:
        assert await down(sender, "http://nowhere.test/") == "nowhere.test has no address: Name or service not known"


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "é" + "b" * 63, "xn--", "a..b", "a_b<c>", "%41%00"])
async def test_hosts_that_are_none_are_nobody(host: str) -> None:
    def lookup(name: str, _port: int) -> list[Any]:
        name.encode("idna")  # as the real one does first
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with sending(lookup) as sender:
        with pytest.raises((Down, Refused)):
            await sender.send(f"http://{host}/", b"{}", {})


async def test_a_name_that_leads_inside_is_refused() -> None:
    lookup, _ = names("127.0.0.2")
    async with peer(FINE, "127.0.0.2") as inside, sending(lookup) as sender:
        text = await refused(sender, f"http://hook.test:{inside.port}/")
        assert text.startswith("hook.test is no public address") and "127" not in text
        assert inside.requests == []


async def test_a_name_with_one_address_inside_is_refused() -> None:
    lookup, _ = names("127.0.0.1,10.0.0.1")
    async with peer(FINE) as here, sending(lookup) as sender:
        await refused(sender, f"http://hook.test:{here.port}/")
        assert here.requests == []


async def test_a_name_that_turns_inside_is_caught_and_each_call_looks_up_once() -> None:
    lookup, asked = names("127.0.0.1", "127.0.0.2")
    async with peer(FINE) as outside, peer(FINE, "127.0.0.2", outside.port) as inside, sending(lookup) as sender:
        url = f"http://hook.test:{outside.port}/"
        await sender.send(url, b"{}", {})
        assert asked == ["hook.test"], "what was checked is what was connected to"
        await refused(sender, url)
        assert (len(outside.requests), inside.requests, len(asked)) == (1, [], 2)
        assert b"Host: hook.test" in outside.requests[0]


@pytest.mark.parametrize("host", ["0x7f.0.0.2", "0x7f000002", "localhost2.test"])
async def test_odd_ways_to_write_an_address_are_seen_through(host: str) -> None:
    lookup, _ = names("127.0.0.2")
    async with sending(lookup) as sender:
        await refused(sender, f"http://{host}:1/")


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """Of a server whose certificate nobody signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made.split(), *subject], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


async def test_a_certificate_that_nobody_trusts_is_no_receiver(own_certificate: ssl.SSLContext) -> None:
    async with peer(FINE, context=own_certificate) as here, sending() as sender:
        assert await down(sender, f"https://127.0.0.1:{here.port}/") == "its certificate is not trusted"
        assert here.requests == []


async def test_a_name_service_that_hangs_takes_a_bounded_number_of_threads() -> None:
    release = threading.Event()

    def stuck(_host: str, _port: int) -> list[Any]:
        release.wait(30)
        raise OSError("late")

    async with sending(stuck, timeout_s=0.3) as sender:
        before = threading.active_count()
        texts = await asyncio.gather(*(down(sender, f"http://h{n}.test/") for n in range(MOST_LOOKUPS + 5)))
        assert threading.active_count() - before <= MOST_LOOKUPS
        assert sum(text == "the name service does not answer" for text in texts) == 5
        release.set()
        async with asyncio.timeout(30):
            while not (await down(sender, "http://h.test/")).startswith("h.test has no address"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)  # the threads end one by one
