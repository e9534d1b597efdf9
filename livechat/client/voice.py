"""Owns the keys of one voice at the client: it protects what is sent and opens what comes, over changes of keys.

It must not touch sockets, nor media beyond its packets.

    joined = await client.join("lobby", ssrc=…)
    voice = VoiceKeys(joined.media, trio.current_time)
    ...
    case livechat.MediaUpdate(channel_id="lobby", media=grant):
        if grant is None: join again, else voice.update(grant)
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from livechat.protocol.types import Ssrc
from livechat.protocol.voice_events import MediaGrant
from livechat.srtp.context import SrtpReceiver, SrtpSender
from livechat.srtp.error import SrtpError

OVERLAP_S: Final = 10.0
"""How long the server may still use the keys before."""


class VoiceKeys:
    """Protects and opens SRTP and SRTCP of one voice.

    Args:
        grant: `media` of the JOIN's ACK.
        clock: returns monotonic seconds: `trio.current_time`, say.

    Attributes:
        ssrc: what to send with.
        address: where to send: (host, port). It may change with an update.
    """

    def __init__(self, grant: MediaGrant, clock: Callable[[], float]) -> None:
        self.ssrc: Ssrc
        self.address: tuple[str, int]
        self._clock = clock
        self._older: SrtpReceiver | None = None
        self._older_until = 0.0
        self._is_newer_first = True
        self._sender, self._newer = self._take(grant)

    def update(self, grant: MediaGrant) -> None:
        """Go over to new keys, as MEDIA_UPDATE brings them; what comes under those before is opened for 10 s more.

        Go on with your sequence numbers.
        """
        before = self._newer
        self._sender, self._newer = self._take(grant)
        self._older, self._older_until = before, self._clock() + OVERLAP_S
        self._is_newer_first = False

    def protect(self, packet: bytes) -> bytes:
        """Return the SRTP packet of an RTP packet; see `SrtpSender.protect`."""
        return self._sender.protect(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet of an RTCP compound; see `SrtpSender.protect_rtcp`."""
        return self._sender.protect_rtcp(packet)

    def unprotect(self, packet: bytes) -> bytes:
        """Return the RTP packet in an SRTP packet, under the newest keys or those before.

        Raises:
            SrtpError: see `SrtpReceiver.unprotect`.
        """
        return self._open(SrtpReceiver.unprotect, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the RTCP compound in an SRTCP packet; the same errors."""
        return self._open(SrtpReceiver.unprotect_rtcp, packet)

    def _take(self, grant: MediaGrant) -> tuple[SrtpSender, SrtpReceiver]:
        self.ssrc = grant.ssrc
        self.address = grant.host, grant.port
        sender = SrtpSender(grant.profile, base64.b64decode(grant.client_key))
        return sender, SrtpReceiver(grant.profile, base64.b64decode(grant.server_key))

    def _open(self, open_by: Callable[[SrtpReceiver, bytes], bytes], packet: bytes) -> bytes:
        if self._older is not None and self._clock() >= self._older_until:
            self._older = None
        older = self._older
        if older is None:
            return open_by(self._newer, packet)
        if not self._is_newer_first:
            try:
                return open_by(older, packet)
            except SrtpError:
                opened = open_by(self._newer, packet)
            # The server has gone over as well: from now on the older keys are for what is late.
            self._is_newer_first = True
            return opened
        try:
            return open_by(self._newer, packet)
        except SrtpError:
            return open_by(older, packet)
