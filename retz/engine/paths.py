"""Paths that users give inside a sandbox."""

from __future__ import annotations

from .base import FileRefused


def parts_of(path: str) -> list[str]:
    """Split a path relative to a sandbox into names; none for the sandbox itself.

    Raises:
        FileRefused: it is absolute, leads out of the sandbox, or holds a zero byte.
    """
    if "\0" in path:
        raise FileRefused("a path holds no zero bytes")
    if path.startswith("/"):
        raise FileRefused(f"{path} is absolute; give a path inside the sandbox, such as 'stdout'")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise FileRefused(f"{path} leaves the sandbox; '..' is not allowed")
    return parts
