"""Owns how the media side of a server comes to be: in the gateway's own process, or in workers.

It must not relay, nor know what is on a server besides.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Protocol

from livechat.error import ConfigError
from livechat.handlers.node import MediaPlane
from livechat.media import udp
from livechat.media.making import make_hub, make_relay
from livechat.media.plane import UdpMediaPlane
from livechat.media.settings import MediaSettings, SpeakingSettings
from livechat.media.workers.messages import Begin, report_interval_s
from livechat.media.workers.plane import WorkerMediaPlane
from livechat.protocol.types import Address


class OpenedMediaPlane(MediaPlane, Protocol):
    """A media plane, and what its owner has to do with it."""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where media is received: one address, or one a worker."""
        ...

    async def run(self) -> None:
        """Relay until cancelled; peers can be closed afterwards, and the others are still told."""
        ...


@contextmanager
def bind_media(settings: MediaSettings, host: str, port: int) -> Iterator[list[socket.socket]]:
    """Bind the UDP sockets that the settings ask for, on ports in a row; leaving closes them.

    Args:
        host: an IP literal.
        port: of the first; 0: each gets any free one.

    Raises:
        ConfigError: a port is taken.
    """
    with ExitStack() as stack:
        sockets = []
        for number in range(max(1, settings.workers)):
            wanted = port + number if port else 0
            try:
                sockets.append(stack.enter_context(udp.open_media_socket(host, wanted)))
            except OSError as exc:
                reason = (exc.strerror or str(exc)).lower()
                raise ConfigError(f"cannot listen on {host}:{wanted} (UDP): {reason}") from exc
        yield sockets


@asynccontextmanager
async def open_media(
    settings: MediaSettings,
    speaking: SpeakingSettings,
    sockets: list[socket.socket],
    advertise_host: str | None,
    give_way: udp.GiveWay,
) -> AsyncGenerator[OpenedMediaPlane]:
    """Open the media plane; leaving ends what it started.

    Args:
        sockets: as from `bind_media`.
        give_way: lets the store work while this process relays; see `udp.run`.
    """
    if not settings.workers:
        relay = make_relay(settings, speaking)
        yield UdpMediaPlane(make_hub(settings), relay, sockets[0], advertise_host, give_way)
        return
    interval_s = report_interval_s(settings)
    plane = WorkerMediaPlane(
        make_hub(settings, seen_late_s=interval_s), sockets, Begin(settings, speaking), advertise_host
    )
    try:
        yield plane
    finally:
        await plane.stop()
