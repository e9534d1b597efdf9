"""What programs that use the library, and the commands, do when the keys of their voice change."""

from __future__ import annotations

import base64
from pathlib import Path

import trio

import livechat
from livechat.cli.voice import Voice
from livechat.protocol.voice_events import MediaGrant
from livechat.rtp.demux import Kind, classify
from tests.integration.test_rekey import FAMILIES, peer_of, settings, voice
from tests.support.server import DEADLINE_S, SECRET, running_server, wait_until
from tests.support.voice import rtp_packet


async def test_the_library_tells_of_new_keys_and_keeps_them(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, media=settings(overlap_ms=200)) as server,
        voice(server, "bob", state_address=True) as (_, listener),
        livechat.open_client(server.url, SECRET, user_id="alice") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listener.listen)
        events = client.events()
        joined = await client.join("x", ssrc=1111)
        assert joined.media is not None
        talker = livechat.VoiceKeys(joined.media, trio.current_time)
        socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        with socket:
            await socket.bind(("127.0.0.1", 0))
            await socket.sendto(talker.protect(rtp_packet(1, talker.ssrc, b"one")), talker.address)
            await wait_until(lambda: listener.payloads_of(1111) == [b"one"])
            server.rekey("x", "alice")
            async for event in events:
                if isinstance(event, livechat.MediaUpdate):
                    assert (event.cause, event.channel_id) == ("demand", "x")
                    assert event.media is not None
                    talker.update(event.media)
                    break
            await socket.sendto(talker.protect(rtp_packet(2, talker.ssrc, b"two")), talker.address)
            await wait_until(lambda: listener.payloads_of(1111) == [b"one", b"two"])
            await listener.phone.talk(1, b"back")
            with trio.fail_after(DEADLINE_S):
                while classify(packet := (await socket.recvfrom(2048))[0]) is Kind.RTCP:
                    talker.unprotect_rtcp(packet)
            assert talker.unprotect(packet).endswith(b"back")
        nursery.cancel_scope.cancel()


async def test_the_commands_follow_new_keys(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="alice") as client,
        trio.open_nursery() as nursery,
    ):
        grants: list[tuple[MediaGrant, str]] = []

        async def granted(grant: MediaGrant, why: str) -> None:
            await trio.lowlevel.checkpoint()
            grants.append((grant, why))

        kept = Voice(client, "x", FAMILIES[0], None, granted, print)
        await kept.join(create=True)
        nursery.start_soon(kept.keep)
        server.rekey("x")
        await wait_until(lambda: grants)
        ((grant, why),) = grants
        assert why == "the keys were changed (demand)"
        assert base64.b64decode(grant.client_key) == peer_of(server, "alice").client_key
        nursery.cancel_scope.cancel()
