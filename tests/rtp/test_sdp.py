from __future__ import annotations

import pytest

from livechat.rtp.sdp import AudioSession, Crypto

KEY = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
"""From the example of RFC 4568 section 6.1."""
SRTP = Crypto("AES_CM_128_HMAC_SHA1_80", KEY)


def test_a_player_is_told_where_what_and_under_which_key() -> None:
    session = AudioSession("livechat lobby", ("192.0.2.7", 40_000), SRTP, session_id=77, version=3)
    assert session.serialize() == (
        "v=0\r\n"
        "o=- 77 3 IN IP4 192.0.2.7\r\n"
        "s=livechat lobby\r\n"
        "c=IN IP4 192.0.2.7\r\n"
        "t=0 0\r\n"
        "m=audio 40000 RTP/SAVP 111\r\n"
        "a=rtpmap:111 opus/48000/2\r\n"
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
        "a=rtcp-mux\r\n"
        "a=recvonly\r\n"
    )


def test_without_a_key_the_stream_comes_in_the_clear() -> None:
    text = AudioSession("x", ("127.0.0.1", 40_000), None).serialize()
    assert "m=audio 40000 RTP/AVP 111\r\n" in text
    assert "crypto" not in text


def test_an_ipv6_address_is_said_to_be_one() -> None:
    text = AudioSession("x", ("2001:db8::1", 40_000), SRTP).serialize()
    assert "o=- 0 1 IN IP6 2001:db8::1\r\n" in text
    assert "c=IN IP6 2001:db8::1\r\n" in text


@pytest.mark.parametrize(("name", "shown"), [("a\r\nm=video 1 x 1", "a m=video 1 x 1"), (" \n", "-"), ("", "-")])
def test_a_name_is_one_line_and_never_empty(name: str, shown: str) -> None:
    lines = AudioSession(name, ("127.0.0.1", 40_000), SRTP).serialize().split("\r\n")
    assert f"s={shown}" in lines
    assert sum(line.startswith("m=") for line in lines) == 1


def test_the_key_shows_in_no_repr() -> None:
    assert KEY not in repr(AudioSession("x", ("127.0.0.1", 40_000), SRTP))
