"""Where a master is, as people write it."""

from __future__ import annotations

from urllib.parse import urlsplit

DEFAULT_PORT = 5050
ZOOKEEPER = ("zk://", "zoo://")


def parse_master(text: str) -> str:
    """Return ``host:port``, or a ZooKeeper URI as it is. An IPv6 address stands in brackets.

    Raises:
        ValueError: pymesos cannot go there; the text says what would do.
    """
    if text.startswith(ZOOKEEPER):
        parts = urlsplit(text)
        if not parts.netloc or not parts.path.strip("/"):
            raise ValueError(f"retz.mesos.master: {text!r} lacks hosts or path: zk://host:2181,host:2181/mesos")
        return text
    if text.startswith("https://"):
        raise ValueError(
            "retz.mesos.master: pymesos speaks plain HTTP to the scheduler API; for a master that only speaks https "
            "put a TLS tunnel (stunnel, say) on this machine and name its local host:port here (docs/mesos.md)"
        )
    plain = text.removeprefix("http://").rstrip("/")
    address = plain if plain.rpartition(":")[2].isdecimal() else f"{plain}:{DEFAULT_PORT}"
    name, _, number = address.rpartition(":")
    bracketed = name.startswith("[") and name.endswith("]")
    if not name.strip("[]") or "/" in name or (":" in name and not bracketed) or not 0 < int(number) < 65536:
        raise ValueError(f"retz.mesos.master is {text!r}: write host:port or zk://host:2181,host:2181/mesos")
    return address


def host_port(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
