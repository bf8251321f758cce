"""Which addresses of files this machine can fetch. Standard library only: jobs-to-be import it, too."""

from __future__ import annotations

from urllib.parse import urlsplit

CAN = "this server fetches http://, https://, file:// and absolute paths"


def unfetchable(uri: str) -> str | None:
    """Return why a URI cannot be fetched, seen from its form alone; None if it may be."""
    if uri.startswith("/"):
        return None
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        return f"this is no address: {error}"
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        return f"file:// takes a path of this machine, not of {parts.netloc!r}: file:///path"
    if parts.scheme in ("http", "https") and not parts.netloc:
        return f"{parts.scheme}:// needs a host"
    return None if parts.scheme in ("file", "http", "https") else CAN
