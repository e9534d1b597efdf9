from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from livechat.error import ConfigError
from livechat.media.opening import bind_media
from livechat.media.settings import MediaSettings

HOST = "127.0.0.1"


def free_row(count: int) -> int:
    """Return a port that is free, and with it those that follow."""
    while True:
        with ExitStack() as stack:
            try:
                first = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                first.bind((HOST, 0))
                port: int = first.getsockname()[1]
                for number in range(1, count):
                    stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)).bind((HOST, port + number))
            except (OSError, OverflowError):
                continue
            return port


@pytest.mark.parametrize(("workers", "sockets"), [(0, 1), (1, 1), (3, 3)])
def test_every_worker_has_a_port_and_they_are_in_a_row(workers: int, sockets: int) -> None:
    settings = MediaSettings(workers=workers)
    port = free_row(sockets)
    with bind_media(settings, HOST, port) as bound:
        assert [sock.getsockname()[1] for sock in bound] == list(range(port, port + sockets))
    with bind_media(settings, HOST, 0) as bound:
        assert len({sock.getsockname() for sock in bound}) == sockets
    assert all(sock.fileno() == -1 for sock in bound)


def test_a_port_that_is_taken_is_named_and_the_others_are_free_again() -> None:
    port = free_row(2)
    reason = rf"cannot listen on {HOST}:{port + 1} \(UDP\): address already in use"
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind((HOST, port + 1))
        with (
            pytest.raises(ConfigError, match=reason),
            bind_media(MediaSettings(workers=2), HOST, port),
        ):
            pytest.fail("both ports were had")
        with socket.socket(type=socket.SOCK_DGRAM) as again:
            again.bind((HOST, port))
