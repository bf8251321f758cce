"""Which URLs and addresses the server may call for a user."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retz.server.notify.targets import MAX_URL, permitted, receiver_of, target_of

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "0.1.2.3",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1", "2002:a00:1::",
    "2001:0:7f00:1::1", "100::1", "64:ff9b:1::1", "fec0::1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_behind_the_server_are_not_called(address: str) -> None:
    assert not permitted(ip_address(address), ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address: str) -> None:
    assert permitted(ip_address(address), ())


def test_what_the_operator_names_is_allowed_and_nothing_beside_it() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert permitted(ip_address("10.1.2.3"), allowed) and permitted(ip_address("fd00::7"), allowed)
    assert permitted(ip_address("::ffff:10.1.2.3"), allowed), "the same machine, written otherwise"
    assert not permitted(ip_address("10.2.0.1"), allowed) and not permitted(ip_address("127.0.0.1"), allowed)


@pytest.mark.parametrize(
    "text",
    [
        "", "hello", "ftp://example.org/", "file:///etc/passwd", "//example.org/", "http://", "https:///path", "http://:80/",
        "http://example.org:99999/", "http://example.org:0/", "http://example.org:x/", "http://exa mple.org/",
        "http://example.org/\r\nHost: other", "http://example.org/\x00", "http://[::1", "javascript:alert(1)",
        "http://127.0.0.1/", "http://[::1]:8080/", "http://169.254.169.254/latest/meta-data", "http://user:pw@10.0.0.1/",
        "http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.1./", "http://[::ffff:127.0.0.1]/",
        "http://[fe80::1%25eth0]/", "http://１２７.0.0.1/", "http://" + "a" * MAX_URL,
    ],
)  # fmt: skip
def test_what_is_no_url_for_the_server_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        target_of(text, ())
    assert len(text) < 8 or text not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "receiver"),
    [
        ("https://hooks.example.org/services/T0/B1/secret", "https://hooks.example.org"),
        ("http://user:secret@example.org:8080/x?token=secret#frag", "http://example.org:8080"),
        ("https://[2606:4700::1111]/secret", "https://[2606:4700::1111]"),
        ("HTTPS://EXAMPLE.ORG/secret", "https://example.org"),
        ("https://Ann:secret@[2606:4700::1111]:8443/secret", "https://[2606:4700::1111]:8443"),
        ("https://bücher.example/secret", "https://xn--bcher-kva.example"),
    ],
)
def test_of_a_url_that_is_one_only_the_receiver_is_ever_shown(text: str, receiver: str) -> None:
    assert str(target_of(text, ())).startswith("http")
    assert receiver_of(text) == receiver
    assert "secret" not in receiver_of(text) and "user" not in receiver_of(text)


PARTS = st.lists(
    st.sampled_from(["http", "https", "://", ":", "/", "//", "@", "[", "]", "::1", "%", "%25", "a", "é", ".", "..", "?",
                     "#", "1", "127.0.0.1", "xn--", "_", "-", "<", "a" * 64, "\ud800", "\u200b", "８"])
    | st.text(max_size=3),
    max_size=12,
)  # fmt: skip


@given(PARTS.map("".join) | PARTS.map(lambda parts: "https://" + "".join(parts)))
@example("https://" + "a" * 64 + "/")
@example("https://é" + "a" * 63 + "/")
@example("https://xn--/")
@example("https://[]@")
def test_whatever_somebody_writes_is_a_url_or_refused_and_can_be_shown(text: str) -> None:
    shown = receiver_of(text)
    try:
        url = target_of(text, ())
    except ValueError:
        return
    assert url.host and shown.startswith(("http://", "https://")) and shown == receiver_of(shown + "/")
    assert "@" not in shown and shown.count("/") == 2
