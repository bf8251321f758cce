"""pymesos made importable: the one place that knows what is odd about it.

pymesos 0.3.15 needs the package http-parser, a C extension that no longer compiles on the Pythons we support. That is
why pymesos is not among our requirements, why ``retz-server setup-mesos`` installs it without its dependencies, and why
:class:`HttpParser` stands in for the one class of that package which pymesos uses. It stands on httptools, Node's
parser in C.

pymesos also takes SIGINT over and adds a log handler when it is imported; :func:`load_pymesos` undoes both.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import signal
import sys
import threading
from types import ModuleType

from retz.engine.base import EngineError

PYMESOS = "pymesos==0.3.15"
NEEDS = ("six", "addict", "kazoo", "httptools")
"""What pymesos and our stand-in import; the extra ``mesos`` in ``pyproject.toml``."""


class HttpParser:
    """Parses one HTTP response as it comes; what follows it on the connection is ignored.

    Names and meanings are http-parser's, as far as pymesos uses them.
    """

    def __init__(self) -> None:
        from httptools import HttpResponseParser

        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._status = 0
        self._headers_complete = False
        self._complete = False
        self._failed = False

    def execute(self, data: bytes, length: int) -> int:
        """Parse the first ``length`` bytes of ``data``. Returns how many were taken: fewer means it is not HTTP."""
        from httptools import HttpParserError

        if self._complete:
            return length
        if self._failed:
            return 0
        try:
            self._parser.feed_data(data if len(data) == length else data[:length])
        except HttpParserError:
            # After its end a response may be followed by anything; before it, the parser does not say how far it got.
            self._failed = not self._complete
            return 0 if self._failed else length
        return length

    def get_errno(self) -> int:
        """0 while all that came was HTTP."""
        return int(self._failed)

    def is_headers_complete(self) -> bool:
        """Whether status and headers are known."""
        return self._headers_complete

    def get_status_code(self) -> int:
        """The status; 0 before :meth:`is_headers_complete`."""
        return self._status

    def get_headers(self) -> dict[str, str]:
        """Headers by name as sent; several of one name are joined with commas."""
        return self._headers

    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return any(
            name.lower() == "transfer-encoding" and value.lower().endswith("chunked")
            for name, value in self._headers.items()
        )

    def is_partial_body(self) -> bool:
        """Whether :meth:`recv_body` would return something."""
        return bool(self._body)

    def recv_body(self) -> bytes:
        """What came of the body since the last call, chunks joined."""
        body = bytes(self._body)
        self._body.clear()
        return body

    def is_message_complete(self) -> bool:
        """Whether the response ended. One whose end is the end of the connection never does."""
        return self._complete

    # -- called by httptools -----------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, put together from however many segments."""
        if not self._complete:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """The empty line."""
        if not self._complete:
            self._status = self._parser.get_status_code()
            self._headers_complete = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._complete:
            self._body += body

    def on_message_complete(self) -> None:
        """The last chunk, or as many bytes as announced."""
        self._complete = True


def require_pymesos() -> None:
    """See whether everything is installed, importing nothing.

    Raises:
        EngineError: what is missing, and the command that installs it.
    """
    missing = [name for name in ("pymesos", *NEEDS) if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineError(
            f"the Mesos engine needs {', '.join(missing)}, which this Python does not have; "
            "'retz-server setup-mesos' installs all it needs"
        )


def load_pymesos() -> ModuleType:
    """Import pymesos with our parser in the place of http-parser's.

    Raises:
        EngineError: it is not installed.
    """
    require_pymesos()
    if "pymesos" not in sys.modules:
        package, module = ModuleType("http_parser"), ModuleType("http_parser.http")
        vars(module)["HttpParser"] = HttpParser
        vars(package)["http"] = module
        sys.modules |= {"http_parser": package, "http_parser.http": module}
        _import_keeping_sigint()
        log = logging.getLogger("pymesos")
        log.handlers.clear()
        log.setLevel(logging.CRITICAL)  # it logs every attempt; our driver tells what changes
    return sys.modules["pymesos"]


def _import_keeping_sigint() -> None:
    """Import pymesos; what SIGINT does stays as it is.

    Raises:
        EngineError: this is not the main thread, where alone Python sets signal handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        raise EngineError("pymesos can be imported in the main thread only")
    handler = signal.getsignal(signal.SIGINT)
    try:
        importlib.import_module("pymesos")
    finally:
        signal.signal(signal.SIGINT, handler)
