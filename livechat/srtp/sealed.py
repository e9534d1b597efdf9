"""Owns the shape of what is ready to be sent: sealed packets and their destinations, one by one or in bundles.

It must not seal or send.

A bundle is what one packet becomes for many listeners: packets of one length back to back, in the order of
their destinations. It is one object where there would be hundreds: on the way through the relay, into the
system call that sends it, and in the memory of what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from livechat.protocol.types import Address


class Destinations:
    """Where the packets of a bundle go, at least one.

    Args:
        owners: the peer ids of who listens there, in the same order; several may share an address.
    """

    __slots__ = ("addresses", "owners", "packed")

    def __init__(self, addresses: Iterable[Address], owners: Iterable[int] = ()) -> None:
        self.addresses = list(addresses)
        assert self.addresses
        self.owners = list(owners)
        self.packed: bytes | None = None
        """The addresses as the system takes them, back to back; kept here by who sends, for the next time."""

    def __len__(self) -> int:
        return len(self.addresses)


Sealed = list[tuple[bytes, Address | Destinations]]
"""Each (packet, its destination) or (bundle, its destinations)."""


def each_packet(sealed: Sealed) -> Iterator[tuple[bytes, Address]]:
    """Yield every packet with its destination, those of bundles one by one."""
    for data, destination in sealed:
        if isinstance(destination, Destinations):
            size = len(data) // len(destination)
            for position, address in enumerate(destination.addresses):
                yield data[position * size : (position + 1) * size], address
        else:
            yield data, destination


def packet_for(owner: int, sealed: Sealed) -> bytes | None:
    """Return the first packet of a bundle that was sealed for a peer, by its id; None if none was."""
    for data, destination in sealed:
        if isinstance(destination, Destinations) and owner in destination.owners:
            size = len(data) // len(destination)
            position = destination.owners.index(owner)
            return data[position * size : (position + 1) * size]
    return None
