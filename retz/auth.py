"""Request signatures, ``Retz-auth-v1``: made by clients, checked by the server. Standard library only.

The scheme is the one of docs/api.md: an HMAC over method, Content-MD5, Date and resource. SHA-256 is what we
sign with, as Retz's code does; SHA-1 over a text without the last line's end is what Retz's documents describe.
"""

from __future__ import annotations

import hmac
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import md5
from urllib.parse import unquote

SCHEME = "Retz-auth-v1"
MAX_SKEW_S = 600.0
NO_OP_SIGNATURE = "all-okay"
"""What a client sends in place of a signature when authentication is switched off on both sides."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORMS_BY_LENGTH = {43: (("sha256", "\n"),), 27: (("sha1", ""), ("sha1", "\n"))}
_DUMMY_SECRET = "no such user, but the time it takes must not tell"
_BAD_HEADER = f"the Authorization header must be '{SCHEME} <access-key>:<signature>'"
_WRONG = "the signature does not match: check retz.access.key and retz.access.secret"


class AuthError(Exception):
    """A request that is refused: ``status`` is 401 or 403, ``detail`` says what to do and holds no secret."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def _unpadded(digest: bytes) -> str:
    return b2a_base64(digest, newline=False).rstrip(b"=").decode("ascii")


def content_md5(body: bytes) -> str:
    """Return the Content-MD5 header of a body: unpadded base64; empty text for an empty body."""
    return _unpadded(md5(body, usedforsecurity=False).digest()) if body else ""


def resource_of(target: str) -> str:
    """Return what is signed of a target (as on the wire): the decoded path, ``?`` and the raw query."""
    path, mark, query = target.partition("?")
    return (unquote(path) if "%" in path else path) + mark + query


def sign(
    secret: str, method: str, content_md5: str, date: str, resource: str, algorithm: str = "sha256", end: str = "\n"
) -> str:
    """Return the signature: unpadded base64 of the HMAC.

    Args:
        content_md5: The header of that name, empty text without one.
        date: The raw Date header.
        resource: See :func:`resource_of`.
        algorithm: ``sha256`` or ``sha1``.
        end: What follows the resource: a newline, but in the form that Retz's documents describe nothing.
    """
    text = f"{method}\n{content_md5}\n{date}\n{resource}{end}"
    # surrogateescape: a server hands over undecodable header bytes that way; they must fail, not crash.
    return _unpadded(hmac.digest(secret.encode(), text.encode("utf-8", "surrogateescape"), algorithm))


def authorization(key: str, secret: str | None, method: str, target: str, body: bytes, now: float) -> dict[str, str]:
    """Return the headers that sign a request: Date, Authorization and, with a body, Content-MD5.

    Args:
        secret: None where the server checks no signatures (``retz.authentication = false``).
        target: Percent-encoded path plus ``?query``, exactly as sent.
        now: Seconds since the epoch.
    """
    stamp = datetime.fromtimestamp(now, UTC)
    date = stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03}Z"
    digest = content_md5(body)
    headers = {"Content-MD5": digest} if digest else {}
    signature = NO_OP_SIGNATURE if secret is None else sign(secret, method, digest, date, resource_of(target))
    return headers | {"Date": date, "Authorization": f"{SCHEME} {key}:{signature}"}


@lru_cache(maxsize=1024)
def parse_date(text: str) -> float | None:
    """Return a Date header (ISO-8601 with an offset, or RFC 7231) in seconds since the epoch; else None."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return _parse_http_date(text)
    return None if when.tzinfo is None else (when - _EPOCH) / timedelta(seconds=1)


def _parse_http_date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # the rare form: not worth its import time in every client

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError, TypeError):
        return None
    return None if when.tzinfo is None else (when - _EPOCH) / timedelta(seconds=1)


class Verifier:
    """Checks requests against the users there are.

    Args:
        lookup: Access key -> (secret, enabled), None if there is no such user.
        now: The clock, seconds since the epoch.
        authentication: False accepts any signature of a known, enabled key, as Retz does.
    """

    def __init__(
        self,
        lookup: Callable[[str], tuple[str, bool] | None],
        now: Callable[[], float],
        authentication: bool = True,
    ) -> None:
        self._lookup = lookup
        self._now = now
        self._authentication = authentication

    def check(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        body_md5: str | None = None,
    ) -> str:
        """Return the access key of the user who signed the request.

        Args:
            target: As on the wire.
            headers: In any case if the mapping ignores case, else as docs/api.md writes them.
            body_md5: :func:`content_md5` of the body where the caller has it; ``body`` is then not read.

        Raises:
            AuthError: 401, or 403 for a disabled user whose signature is right. An unknown key is answered
                exactly as a wrong signature.
        """
        key, signature = _credentials(headers.get("Authorization"))
        digest = headers.get("Content-MD5", "")
        user = self._lookup(key)
        if self._authentication:
            date = headers.get("Date", "")
            self._check_date(date)
            self._check_signature(user, signature, (method, digest, date, resource_of(target)))
            _check_body(digest, content_md5(body) if body_md5 is None else body_md5)
        elif user is None:
            raise AuthError(401, _WRONG)
        if user is not None and not user[1]:
            raise AuthError(403, "this user is disabled: ask an administrator to enable it")
        return key

    def _check_date(self, date: str) -> None:
        when = parse_date(date) if date else None
        if when is None:
            raise AuthError(401, "a Date header is needed: ISO-8601 with an offset, as 2026-11-20T06:27:17.123Z")
        skew = when - self._now()
        if not -MAX_SKEW_S <= skew <= MAX_SKEW_S:
            side = "ahead of" if skew > 0 else "behind"
            detail = f"the Date header is {abs(skew):.0f} s {side} the server's clock: set your clock"
            raise AuthError(401, detail)

    def _check_signature(
        self, user: tuple[str, bool] | None, signature: str, signed: tuple[str, str, str, str]
    ) -> None:
        secret = _DUMMY_SECRET if user is None else user[0]
        given = signature.encode("utf-8", "surrogateescape")
        forms = _FORMS_BY_LENGTH.get(len(signature), _FORMS_BY_LENGTH[43])
        # A list: all are compared, whichever is right.
        same = [hmac.compare_digest(sign(secret, *signed, *form).encode(), given) for form in forms]
        if not any(same) or user is None:
            raise AuthError(401, _WRONG)


def _credentials(header: str | None) -> tuple[str, str]:
    if not header:
        raise AuthError(401, f"this request is not signed: {_BAD_HEADER}")
    scheme, _, rest = header.partition(" ")
    key, colon, signature = rest.partition(":")
    if scheme != SCHEME or not key or not colon or not signature or ":" in signature or " " in rest:
        raise AuthError(401, _BAD_HEADER)
    return key, signature.rstrip("=")


def _check_body(header: str, actual: str) -> None:
    header = header.rstrip("=")
    if header == actual:
        return
    if not header:
        raise AuthError(401, "a body needs a Content-MD5 header, so that it is signed too")
    if actual or header != _EMPTY_MD5:
        raise AuthError(401, "the body does not match its Content-MD5 header")


_EMPTY_MD5 = _unpadded(md5(b"", usedforsecurity=False).digest())
