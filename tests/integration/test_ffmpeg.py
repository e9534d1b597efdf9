"""SRTP endpoints that we did not write: one ffmpeg speaks through the relay, another one hears it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import ffmpeg
from tests.support.client import CREATE, JOIN, Client, identified
from tests.support.server import running_server

TONE_HZ = 440
OTHERS_HZ = (220, 330, 550, 660, 880, 1000, 1320, 2500)
TONE_DB_MIN = -30.0
"""ffmpeg's sine is at -18 dB."""
MARGIN_DB = 30.0
"""What the tone stands above all else; 80 were measured, and noise or another tone would leave none."""
REFUSALS = ("unknown_ssrc", "authentication", "replay", "malformed", "key_exhausted", "internal")


async def join(client: Client, profile: str, **voice: Any) -> dict[str, Any]:
    address = voice.pop("address", None)
    media = {"profiles": [profile]} if address is None else {"profiles": [profile], "address": address}
    joined = await client.ack(JOIN, {"channel_id": "tone", "media": media, **voice})
    granted: dict[str, Any] = joined["media"]
    assert granted["profile"] == profile
    return granted


@pytest.mark.parametrize("profile", ffmpeg.SUITES)
async def test_one_ffmpeg_hears_the_tone_that_another_one_sends(tmp_path: Path, profile: str) -> None:
    async with (
        running_server(tmp_path / "data") as server,
        identified(server, "speaker") as speaker,
        identified(server, "listener") as listener,
    ):
        await speaker.ack(CREATE, {"channel_id": "tone"})
        port = ffmpeg.free_port()
        address = {"host": ffmpeg.HOST, "port": port}
        hears = await join(listener, profile, address=address)
        speaks = await join(speaker, profile, ssrc=ffmpeg.SSRC)
        async with ffmpeg.speaking(speaks, TONE_HZ):
            samples = await ffmpeg.record(hears, port, tmp_path, seconds=1.5)
        media = server.statistics()["media"]
    levels = ffmpeg.levels_db(samples, (TONE_HZ, *OTHERS_HZ))
    assert levels[TONE_HZ] > TONE_DB_MIN, levels
    assert max(levels[frequency] for frequency in OTHERS_HZ) < levels[TONE_HZ] - MARGIN_DB, levels
    # Its sender reports went the same way, and nothing it sent was refused.
    assert media["rtcp_forwarded"] >= 1
    assert {name: media[name] for name in REFUSALS} == dict.fromkeys(REFUSALS, 0)


async def test_another_tone_is_not_taken_for_it(tmp_path: Path) -> None:
    """The measure itself: what is found is what was sent."""
    async with (
        running_server(tmp_path / "data") as server,
        identified(server, "speaker") as speaker,
        identified(server, "listener") as listener,
    ):
        await speaker.ack(CREATE, {"channel_id": "tone"})
        port = ffmpeg.free_port()
        hears = await join(listener, "AES_CM_128_HMAC_SHA1_80", address={"host": ffmpeg.HOST, "port": port})
        speaks = await join(speaker, "AES_CM_128_HMAC_SHA1_80", ssrc=ffmpeg.SSRC)
        async with ffmpeg.speaking(speaks, 1000):
            samples = await ffmpeg.record(hears, port, tmp_path, seconds=1.5)
    levels = ffmpeg.levels_db(samples, (TONE_HZ, 1000))
    assert levels[1000] > levels[TONE_HZ] + MARGIN_DB, levels
