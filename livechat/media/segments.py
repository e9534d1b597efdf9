"""Owns which packets of a turn go to the same listener, so that the system takes them as one message and cuts it.

It must not send. UDP segmentation offload (UDP_SEGMENT, Linux 4.18) takes packets of one length for one address
back to back: the way through the routing table, the firewall and the driver is gone once for all of them, and
what arrives is one datagram a packet all the same. A busy relay has much of that: a publisher whose packets came
in a burst, or many publishers in one channel.

Source: udp(7); https://docs.kernel.org/networking/segmentation-offloads.html; the control message of each:

    cmsghdr, 24 bytes   0  length 18 (64)   8  level SOL_UDP (32)   12  type UDP_SEGMENT (32)
                        16 length of a packet (16)   18  padding
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import attrs

from livechat.protocol.types import Address
from livechat.srtp.sealed import Destinations, Sealed

SEGMENTS_MAX: Final = 64
"""Packets in one message: UDP_MAX_SEGMENTS of the kernels before 6.9."""
MESSAGE_BYTES_MAX: Final = 65_000
"""Of one message: what an IPv4 datagram holds, less its headers."""
PACKET_BYTES_MAX: Final = 1232
"""Of one packet: what every IPv6 path takes (1280, RFC 8200 section 5) less its headers. A message whose packets
do not fit the path is refused, where a lone packet would go in fragments."""
GAIN_MIN: Final = 1.5
"""So many packets a message, on average, or it is not worth while."""

CONTROL: Final = struct.Struct("@NiiH6x")
CONTROL_LENGTH: Final = 18
SOL_UDP: Final = 17
UDP_SEGMENT: Final = 103


@attrs.frozen
class Layout:
    """How packets that lie back to back become messages."""

    order: list[int]
    """Of the packets: the first message's, then the second's, and so on."""
    counts: list[int]
    """Packets in each message."""
    starts: list[int]
    """Packets before each message."""
    addresses: list[Address]
    """Where each message goes."""


def may_gain(packets: Sealed) -> bool:
    """Tell at once whether several of these might go to the same address: publishers of one channel share most of
    their listeners, in one order, those of others share none.
    """
    seen: set[Address] = set()
    for _, destination in packets:
        if isinstance(destination, Destinations):
            first, last = destination.addresses[0], destination.addresses[-1]
        else:
            first = last = destination
        if first in seen or last in seen:
            return True
        seen.add(first)
        seen.add(last)
    return False


def arrange(packets: Sealed) -> Sealed:
    """Return the same packets in an order that turns with the same destinations have in common.

    What goes to one address from one publisher stays in order; publishers have no order among each other.
    """
    return sorted(packets, key=_identity)


def _identity(item: tuple[bytes, Address | Destinations]) -> int:
    return id(item[1])


def lay_out(destinations: Sequence[Address | Destinations], packet_bytes: int) -> Layout | None:
    """Find what goes to the same address; None: too little does.

    Args:
        destinations: of packets and bundles that lie back to back.
        packet_bytes: the length of all packets.
    """
    by_address: dict[Address, list[int]] = {}
    number = 0
    for destination in destinations:
        for address in destination.addresses if isinstance(destination, Destinations) else (destination,):
            by_address.setdefault(address, []).append(number)
            number += 1
    most = min(SEGMENTS_MAX, MESSAGE_BYTES_MAX // packet_bytes)
    parts = [
        (address, numbers[start : start + most])
        for address, numbers in by_address.items()
        for start in range(0, len(numbers), most)
    ]
    if number < GAIN_MIN * len(parts):
        return None
    counts = [len(numbers) for _, numbers in parts]
    return Layout(
        order=[number for _, numbers in parts for number in numbers],
        counts=counts,
        starts=list(accumulate(counts, initial=0))[:-1],
        addresses=[address for address, _ in parts],
    )
