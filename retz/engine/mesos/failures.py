"""What a failed connection is called, for people."""

from __future__ import annotations

import os


def words_of(error: BaseException) -> str:
    """The system's own word for it (``Connection refused``), or else the error's, or else its name; never empty."""
    cause = getattr(error, "os_error", error)  # aiohttp wraps it in a sentence about sockets and TLS
    number = cause.errno if isinstance(cause, OSError) else None
    if number is not None and number > 0:
        return os.strerror(number)
    return str(cause) or type(error).__name__
