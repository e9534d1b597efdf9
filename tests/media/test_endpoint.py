from __future__ import annotations

import pytest

from livechat.media.endpoint import endpoint_of, reachable_from
from livechat.protocol.types import Address


@pytest.mark.parametrize(
    ("bound", "advertise_host", "local_host", "told"),
    [
        ("192.0.2.1", None, "127.0.0.1", "192.0.2.1"),
        ("0.0.0.0", None, "192.0.2.7", "192.0.2.7"),
        ("::", None, "2001:db8::1", "2001:db8::1"),
        ("::", None, "::ffff:192.0.2.7", "192.0.2.7"),
        ("0.0.0.0", "voice.example", "192.0.2.7", "voice.example"),
    ],
)
def test_clients_are_told_where_they_can_reach_the_socket(
    bound: str, advertise_host: str | None, local_host: str, told: str
) -> None:
    assert endpoint_of((bound, 10_001), advertise_host, local_host) == (told, 10_001)


@pytest.mark.parametrize(
    ("bound", "host", "reached"),
    [
        ("127.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "2001:db8::1", None),
        ("::", "192.0.2.1", "::ffff:192.0.2.1"),
        ("::", "2001:db8:0::1", "2001:db8::1"),
        ("::1", "192.0.2.1", None),
    ],
)
def test_an_address_is_put_as_the_socket_sends_to_it(bound: str, host: str, reached: str | None) -> None:
    expected: Address | None = None if reached is None else (reached, 9)
    assert reachable_from(bound, (host, 9)) == expected
