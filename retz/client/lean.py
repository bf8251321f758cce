"""httpx without its command line.

``import httpx`` also loads a command-line client, and with it rich and pygments, if those happen to be installed: 17 ms
of the terminal window's start for something nobody here can call. httpx itself copes with its absence.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

if "httpx" not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # the documented way to make an import fail

import httpx  # noqa: E402  (after what it must not find)

if sys.modules.get(_COMMAND_LINE) is None:
    sys.modules.pop(_COMMAND_LINE, None)

__all__ = ["httpx"]
