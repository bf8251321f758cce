"""Requests to the leading master's operator API."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import aiohttp
from yarl import URL

REDIRECTS = 4
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class Refused(Exception):
    """The master, or an agent, does not want to answer; the text is for the operator.

    Attributes:
        lasting: It will not change by itself.
    """

    def __init__(self, text: str, *, lasting: bool) -> None:
        super().__init__(text)
        self.lasting = lasting


class MasterHttp:
    """Finds the leading master from any master.

    Args:
        address: ``host:port`` of a master, the leading one if possible.
        headers: Sent with every request: our credentials.
    """

    def __init__(self, session: aiohttp.ClientSession, address: str, headers: Mapping[str, str]) -> None:
        self._session = session
        self._first = self._leader = URL(f"http://{address}")
        self._headers = {**_JSON, **headers}

    @property
    def address(self) -> str:
        """``host:port`` of the master that is asked now."""
        return self._leader.authority

    async def call(self, body: bytes, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """``POST /api/v1``. The caller closes the response.

        Raises:
            Refused: any status but 200.
            aiohttp.ClientError, OSError, TimeoutError: there is no such master.
        """
        return await self._ask("POST", "/api/v1", body, timeout)

    async def get(self, path: str, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """``GET`` something; otherwise as :meth:`call`."""
        return await self._ask("GET", path, None, timeout)

    async def _ask(
        self, method: str, path: str, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        url = self._leader.with_path(path)
        for _ in range(REDIRECTS):
            response = await self._once(method, url, body, timeout)
            if response.status == 200:
                return response
            location = response.headers.get("Location")
            if response.status not in (302, 307) or location is None:
                raise await refusal(f"the Mesos master {self.address}", response)
            response.close()
            url = url.join(URL(location))  # "//10.0.0.1:5050/master/api/v1": without a scheme
            self._leader = url.origin()
        raise Refused("the Mesos masters send us from one to the other and back", lasting=False)

    async def _once(
        self, method: str, url: URL, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(
                method, url, data=body, headers=self._headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, TimeoutError):
            # For ten seconds after its end the others send everybody to a dead leader: ask afresh who leads.
            self._leader = self._first
            raise


def credentials(principal: str | None, secret: str | None) -> dict[str, str]:
    """The headers of basic authentication; none without a principal."""
    if not principal:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(f"{principal}:{secret or ''}".encode()).decode()}


async def refusal(who: str, response: aiohttp.ClientResponse) -> Refused:
    """What to say about a response that is none; closes it."""
    async with response:
        status = response.status
        text = (await response.content.read(200)).decode("utf-8", "replace").strip()
    if status == 401:
        return Refused(
            f"{who} does not know us (401): set retz.mesos.principal and retz.mesos.secret-file", lasting=True
        )
    if status == 403:
        return Refused(f"{who} does not let us look (403): allow it to our principal in its ACLs", lasting=True)
    if status == 503:
        return Refused(f"{who} is not ready yet (503: {text})", lasting=False)
    return Refused(f"{who} answers {status}: {text}", lasting=400 <= status < 500)
