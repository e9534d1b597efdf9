from __future__ import annotations

import pytest

from livechat.client.link import Target, dial, masked
from livechat.client.runner import Way


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("ws://example.org", Target("example.org", 80, "/", False), "example.org"),
        ("wss://example.org/ws", Target("example.org", 443, "/ws", True), "example.org"),
        ("ws://example.org:443/ws", Target("example.org", 443, "/ws", False), "example.org:443"),
        ("ws://[::1]:8080/ws?a=b&c", Target("::1", 8080, "/ws?a=b&c", False), "[::1]:8080"),
        ("wss://[::1]/", Target("::1", 443, "/", True), "[::1]"),
    ],
)
def test_a_url_says_where_to(url: str, target: Target, host_header: str) -> None:
    assert Target.parse(url) == target
    assert target.host_header == host_header


@pytest.mark.parametrize("url", ["", "example.org", "http://example.org", "ws://", "ws:///ws", "ws://host:port/"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url: expected"):
        Target.parse(url)


def test_a_token_shows_neither_in_a_url_that_is_refused_nor_in_a_repr() -> None:
    with pytest.raises(ValueError, match="url: expected") as caught:
        Target.parse("http://example.org/ws?token=hunter2")
    assert "hunter2" not in str(caught.value)
    target = Target.parse("ws://example.org/ws?token=hunter2")
    assert "hunter2" not in repr(target)
    assert "hunter2" not in repr(Way(target, "hunter2", dial, None, None))


def test_secrets_are_masked_wherever_they_are() -> None:
    media = {"client_key": "k", "server_key": "k", "ssrc": 5}
    hidden = {"client_key": "***", "server_key": "***", "ssrc": 5}
    packet = {"op": 200, "d": {"token": "t", "data": [{"media": media}], "text": "token"}}
    assert masked(packet) == {"op": 200, "d": {"token": "***", "data": [{"media": hidden}], "text": "token"}}
    assert masked(None) is None
