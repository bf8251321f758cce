"""Keeps web pages out: a browser on this machine can reach what listens on loopback, and any page can ask it to."""

from __future__ import annotations

import re
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from .replies import Forbidden, refused

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^][:@/\s]+)(:[0-9]*)?")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address, without brackets, means this machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def guard(bind: str) -> Middleware:
    """Refuses requests that a web page of somebody else has made.

    If the service is bound to loopback, it answers to no other name: a page whose host's name was made to mean
    127.0.0.1 (DNS rebinding) comes with its own. And what a browser says was asked for by a page (``Origin``) must
    come from a page of this very host. Programs such as curl send no ``Origin``.
    """
    local = is_loopback(bind)

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        if local and not all(_is_local(host) for host in hosts):
            return refused(Forbidden(f"this service is for this machine only: ask it as {bind} or as localhost"))
        if not all(_same(origin, hosts) for origin in request.headers.getall("Origin", [])):
            return refused(Forbidden("pages of other hosts may not use this service"))
        return await handler(request)

    return around


def _is_local(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback(found[1].strip("[]"))


def _same(origin: str, hosts: list[str]) -> bool:
    return len(hosts) == 1 and origin.lower() in (f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https"))
