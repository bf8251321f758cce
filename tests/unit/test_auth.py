"""Signatures: Retz's own vectors, round trips, and every way to be refused."""

from __future__ import annotations

import hmac
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.auth import AuthError, Verifier, authorization, content_md5, parse_date, resource_of, sign

KEY, SECRET = "deadbeef", "cafebabe"
NOW = 1_795_149_000.0
USERS = {KEY: (SECRET, True), "sleeper": ("quiet", False)}

LIST_BODY = b'{"command":"list","state":"QUEUED","tag":"tag","version":"0.2.1"}'
VECTORS = [
    ("GET", b"", "2017-09-26T03:40:15.573+09:00", "/job/11", "jx4SoIGcqMYWhf3Ead03QfdMOfvFCeuTtj2PWA3MzHs"),
    ("POST", LIST_BODY, "2026-11-20T04:51:11.455Z", "/jobs", "+3DqIjPe1u7lycRtuV49AE45Z+IpzJNTfk0yK7Z2a+o"),
    (
        "GET",
        b"",
        "2026-11-20T04:51:11.625Z",
        "/job/11/file?path=a+dir%2Ff%2Bile+%CE%B5.txt&offset=0&length=-1",
        "McWExQBumHz781DemRwh8XBAA6fQoFnZU+nIoKLvWB4",
    ),
    ("GET", b"", "2026-11-20T04:51:11.837Z", "/app/no%20such/app", "wkypxpUy423C236CuU/P4w070PEWdBkx36Q0iCCzdcc"),
]


def verifier(now: float = NOW, authentication: bool = True) -> Verifier:
    return Verifier(USERS.get, lambda: now, authentication)


def refused(status: int, *arguments: Any, check: Verifier | None = None) -> str:
    with pytest.raises(AuthError) as caught:
        (check or verifier()).check(*arguments)
    assert caught.value.status == status
    assert SECRET not in caught.value.detail
    return caught.value.detail


@pytest.mark.parametrize(("method", "body", "date", "target", "signature"), VECTORS)
def test_vectors_of_retz(method: str, body: bytes, date: str, target: str, signature: str) -> None:
    assert sign(SECRET, method, content_md5(body), date, resource_of(target)) == signature
    headers = {"Date": date, "Authorization": f"Retz-auth-v1 {KEY}:{signature}"}
    if body:
        headers["Content-MD5"] = "iMGxJ8OmMoNTI4wtQX1Zlg"
    then = parse_date(date)
    assert then is not None
    assert verifier(then).check(method, target, headers, body) == KEY


texts = st.text(st.characters(codec="utf-8", exclude_characters=":\n "), min_size=1, max_size=30)
targets = st.from_regex(r"/[a-z0-9%/]{0,20}(\?[a-z=&%0-9]{0,20})?", fullmatch=True)


@given(texts, st.text(min_size=1, max_size=40).filter(lambda s: s.isprintable()), targets, st.binary(max_size=50))
def test_what_is_signed_verifies_and_another_secret_does_not(key: str, secret: str, target: str, body: bytes) -> None:
    headers = authorization(key, secret, "POST", target, body, NOW)
    mine = Verifier(lambda k: (secret, True) if k == key else None, lambda: NOW)
    assert mine.check("POST", target, headers, body) == key
    other = Verifier(lambda k: (secret + "x", True), lambda: NOW)
    refused(401, "POST", target, headers, body, check=other)


@given(st.sampled_from(["method", "target", "date", "digest", "body", "signature"]), st.integers(0, 5))
def test_any_change_after_signing_is_refused(part: str, offset: int) -> None:
    headers = authorization(KEY, SECRET, "POST", "/api/v2/jobs?a=1", b"body", NOW)
    method, target, body = "POST", "/api/v2/jobs?a=1", b"body"
    if part == "method":
        method = "PUT"
    elif part == "target":
        target += str(offset)
    elif part == "date":
        headers["Date"] = headers["Date"].replace("Z", "+00:00")
    elif part == "digest":
        headers["Content-MD5"] = content_md5(b"other")
    elif part == "body":
        body += bytes([offset])
    else:
        scheme, _, value = headers["Authorization"].rpartition(":")
        headers["Authorization"] = f"{scheme}:{'A' if value[0] != 'A' else 'B'}{value[1:]}"
    refused(401, method, target, headers, body)


def test_sha1_is_accepted_and_padding_too() -> None:
    date = "2026-11-20T06:27:17.123Z"
    signature = sign(SECRET, "GET", "", date, "/job/1", "sha1")
    now = parse_date(date)
    assert now is not None and len(signature) == 27
    for text in (signature, signature + "="):
        headers = {"Date": date, "Authorization": f"Retz-auth-v1 {KEY}:{text}"}
        assert verifier(now).check("GET", "/job/1", headers) == KEY


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    real = hmac.compare_digest

    def spy(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    verifier().check("GET", "/x", authorization(KEY, SECRET, "GET", "/x", b"", NOW))
    assert len(compared) == 1


@pytest.mark.parametrize("skew", [-599.0, 0.0, 599.0])
@pytest.mark.parametrize("form", ["iso", "offset", "rfc"])
def test_dates_within_ten_minutes(skew: float, form: str) -> None:
    when = NOW + skew
    date = {
        "iso": authorization(KEY, SECRET, "GET", "/", b"", when)["Date"],
        "rfc": formatdate(when, usegmt=True),
        "offset": "2026-11-20T13:30:00.000+09:00",
    }[form]
    at = parse_date(date)
    assert at is not None
    signature = sign(SECRET, "GET", "", date, "/")
    headers = {"Date": date, "Authorization": f"Retz-auth-v1 {KEY}:{signature}"}
    assert verifier(at - skew).check("GET", "/", headers) == KEY


@pytest.mark.parametrize(("skew", "word"), [(-601.0, "behind"), (601.0, "ahead")])
def test_old_and_future_dates_tell_to_set_the_clock(skew: float, word: str) -> None:
    detail = refused(401, "GET", "/", authorization(KEY, SECRET, "GET", "/", b"", NOW + skew))
    assert word in detail and "set your clock" in detail


@pytest.mark.parametrize("date", [None, "", "yesterday", "2026-11-20T06:27:17", "20 Nov", "\ud800", "9" * 400])
def test_a_date_that_is_none(date: str | None) -> None:
    headers = authorization(KEY, SECRET, "GET", "/", b"", NOW)
    headers.pop("Date")
    if date is not None:
        headers["Date"] = date
    assert "Date header" in refused(401, "GET", "/", headers)


@given(st.text(max_size=60))
def test_any_text_as_date_gives_a_number_or_none(text: str) -> None:
    assert parse_date(text) is None or isinstance(parse_date(text), float)


@pytest.mark.parametrize(
    "header",
    [None, "", "Retz-auth-v1", "Retz-auth-v1 key", "Retz-auth-v1 :sig", "Retz-auth-v1 key:", "Retz-auth-v1  key:sig",
     "Retz-auth-v1 key:a:b", "Basic a2V5OnNlY3JldA==", "retz key:sig"],
)  # fmt: skip
def test_malformed_authorization_is_explained_and_not_echoed(header: str | None) -> None:
    headers = authorization(KEY, SECRET, "GET", "/", b"", NOW)
    headers.pop("Authorization")
    if header is not None:
        headers["Authorization"] = header
    detail = refused(401, "GET", "/", headers)
    assert "Retz-auth-v1 <access-key>:<signature>" in detail and "a2V5" not in detail


def test_an_unknown_key_is_answered_as_a_wrong_signature() -> None:
    unknown = authorization("nobody", SECRET, "GET", "/", b"", NOW)
    wrong = authorization(KEY, "wrong", "GET", "/", b"", NOW)
    assert refused(401, "GET", "/", unknown) == refused(401, "GET", "/", wrong)


def test_disabled_is_told_only_to_who_signs_correctly() -> None:
    assert "disabled" in refused(403, "GET", "/", authorization("sleeper", "quiet", "GET", "/", b"", NOW))
    assert "disabled" not in refused(401, "GET", "/", authorization("sleeper", "guess", "GET", "/", b"", NOW))


def test_bodies_and_digests() -> None:
    unsigned_body = authorization(KEY, SECRET, "POST", "/", b"", NOW)
    assert "needs a Content-MD5" in refused(401, "POST", "/", unsigned_body, b"x")
    signed = authorization(KEY, SECRET, "POST", "/", b"x", NOW)
    assert "does not match" in refused(401, "POST", "/", signed, b"")
    assert verifier().check("POST", "/", signed, body_md5=content_md5(b"x")) == KEY
    # Retz's Java client sends an empty Content-md5 header with its downloads.
    assert verifier().check("POST", "/", {**unsigned_body, "Content-MD5": ""}, b"") == KEY


def test_the_digest_of_nothing_may_be_sent_with_nothing() -> None:
    digest = "1B2M2Y8AsgTpgAmY7PhCfg"
    date = authorization(KEY, SECRET, "GET", "/", b"", NOW)["Date"]
    signature = sign(SECRET, "GET", digest, date, "/")
    headers = {"Date": date, "Content-MD5": digest, "Authorization": f"Retz-auth-v1 {KEY}:{signature}"}
    assert verifier().check("GET", "/", headers) == KEY


def test_header_bytes_that_are_no_text_fail_politely() -> None:
    headers = authorization(KEY, SECRET, "GET", "/", b"", NOW)
    refused(401, "GET", "/\udcff", headers)
    refused(401, "GET", "/", {**headers, "Authorization": f"Retz-auth-v1 {KEY}:\udcff"})
    refused(401, "GET", "/", {**headers, "Authorization": f"Retz-auth-v1 \udcff:{'A' * 43}"})


def test_without_authentication_the_key_must_still_exist() -> None:
    open_door = verifier(authentication=False)
    headers = authorization(KEY, None, "POST", "/", b"x", 0.0)
    assert headers["Authorization"].endswith(":all-okay")
    assert open_door.check("POST", "/", headers, b"x") == KEY
    refused(401, "GET", "/", authorization("nobody", None, "GET", "/", b"", NOW), check=open_door)
    refused(403, "GET", "/", authorization("sleeper", None, "GET", "/", b"", NOW), check=open_door)
