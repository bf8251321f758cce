"""Where news may go: to addresses of the public internet, and to what the operator allows.

A server that calls any URL a user names is a way into the network behind it. So an address is looked at twice: a
literal one when the job is submitted, and the one that is connected to, after each lookup of the name, immediately
before the connection (:mod:`retz.server.notify.sender`). A name that first leads to a public address and then to a
private one is caught by that.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

MAX_URL = 2000
NOT_PUBLIC = "is no public address; an administrator may allow it with retz.notify.allow"

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def target_of(text: str, allowed: tuple[Network, ...]) -> URL:
    """The URL, as far as it can be judged without asking for its host's address.

    Raises:
        ValueError: with what is wrong with it; the text itself is not repeated.
    """
    if len(text) > MAX_URL:
        raise ValueError(f"is longer than {MAX_URL} characters")
    if any(c <= " " or c == "\x7f" for c in text):
        raise ValueError("must not contain spaces or control characters: write them as %20 and so on")
    try:
        url = _url(text)
        port = url.port
    except ValueError:
        raise ValueError("is no URL: write https://HOST/PATH") from None
    if url.scheme not in ("http", "https") or not url.host or not port:
        raise ValueError("must be https://HOST/PATH or http://HOST/PATH")
    address = literal(url.host)
    if address is not None and not permitted(address, allowed):
        raise ValueError(f"{address} {NOT_PUBLIC}")
    return url


def literal(host: str) -> Address | None:
    """The address that a host is, None for a name.

    Raises:
        ValueError: for what the system would take for an address and we cannot read: ``127.1``, ``0177.0.0.1``.
    """
    if ":" not in host and not host.replace(".", "").isdigit():
        return None
    try:
        return ip_address(host)
    except ValueError:
        raise ValueError("has a host that is neither a name nor a whole IP address") from None


def permitted(address: Address, allowed: tuple[Network, ...]) -> bool:
    """Whether the server may connect to this address for a user."""
    if any(address in network for network in allowed):
        return True
    inner = _embedded(address)
    if inner is not None:
        return permitted(inner, allowed)
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@lru_cache(maxsize=4096)
def receiver_of(text: str) -> str:
    """Scheme, host and port: what may be shown of a URL. Never raises: a job must end whatever its record holds."""
    try:
        return str(_url(text).origin()).lower()
    except ValueError:
        return "no URL"


def _url(text: str) -> URL:
    # As it is written: a signature in a query may cover every character.
    try:
        return URL(text, encoded=text.isascii())
    except LookupError:  # what yarl makes of https://[]@
        raise ValueError("is no URL") from None


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end at."""
    if not isinstance(address, IPv6Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
