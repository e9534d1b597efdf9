"""Push-to-talk over real UDP: libsrtp peers, of which only the holder of the floor is heard."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

import livechat
from livechat.rtp.demux import Kind, classify
from tests.integration.test_voice import Phone, phone_of
from tests.support.api import calling
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    FLOOR_GRANTED,
    FLOOR_IDLE,
    FLOOR_QUEUE_POS_INFO,
    FLOOR_RELEASE,
    FLOOR_REQUEST,
    FLOOR_REVOKE,
    FLOOR_TAKEN,
    Client,
    identified,
)
from tests.support.resume import park
from tests.support.server import running_server, wait_until

OPS = {"channel_id": "ops"}


@attrs.define
class Stage:
    """Ann and Bob, who may talk, and Cyd, who listens."""

    server: livechat.Server
    ann: Client
    bob: Client
    ann_phone: Phone
    bob_phone: Phone
    cyd_phone: Phone
    sequence: int = 0

    async def talk(self, phone: Phone, payload: bytes) -> None:
        self.sequence += 1
        await phone.talk(self.sequence, payload)

    async def is_heard(self, phone: Phone, payload: bytes) -> None:
        """Have somebody say something that Cyd hears, and nothing else before it."""
        await self.talk(phone, payload)
        packet = await self.cyd_phone.receive()
        while classify(packet) is Kind.RTCP:  # reports, and the BYE of who has left
            packet = await self.cyd_phone.receive()
        plain = self.cyd_phone.receiver.unprotect(packet)
        assert (int.from_bytes(plain[8:12], "big"), plain[12:]) == (phone.ssrc, payload)

    async def is_not_heard(self, phone: Phone, payload: bytes) -> None:
        """Have somebody say something that is kept from the others."""
        before = self.kept
        await self.talk(phone, payload)
        await wait_until(lambda: self.kept == before + 1)

    @property
    def kept(self) -> float:
        return self.server.statistics()["media"]["not_forwarded"]

    async def take(self, client: Client) -> None:
        await client.send(FLOOR_REQUEST, OPS)
        await client.expect(FLOOR_GRANTED)


@asynccontextmanager
async def staged(data_dir: Path) -> AsyncGenerator[Stage]:
    async with (
        running_server(data_dir) as server,
        identified(server, "ann") as ann,
        identified(server, "bob") as bob,
        identified(server, "cyd") as cyd,
    ):
        await ann.ack(CREATE, {**OPS, "mode": "ptt"})
        async with (
            phone_of(ann, "ops", ssrc=11) as ann_phone,
            phone_of(bob, "ops", ssrc=22) as bob_phone,
            phone_of(cyd, "ops", state_address=True) as cyd_phone,
        ):
            for client in (ann, ann, bob):
                await client.expect(CHANNEL_EVENT)
            yield Stage(server, ann, bob, ann_phone, bob_phone, cyd_phone)


async def test_only_the_holder_of_the_floor_is_heard(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.is_not_heard(stage.ann_phone, b"nobody has the floor")
        await stage.take(stage.ann)
        await stage.is_heard(stage.ann_phone, b"ann has the floor")
        await stage.is_not_heard(stage.bob_phone, b"bob has not")
        await stage.ann.send(FLOOR_RELEASE, OPS)
        await stage.ann.expect(FLOOR_IDLE)
        await stage.is_not_heard(stage.ann_phone, b"ann has it no more")
        await stage.bob.expect(FLOOR_TAKEN)
        await stage.bob.expect(FLOOR_IDLE)
        await stage.take(stage.bob)
        await stage.is_heard(stage.bob_phone, b"now bob has")


async def test_what_is_revoked_is_cut_off_at_once_and_the_next_is_heard(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, calling(stage.server, None) as operator:
        await stage.take(stage.ann)
        await stage.bob.expect(FLOOR_TAKEN)
        await stage.bob.send(FLOOR_REQUEST, OPS)
        await stage.bob.expect(FLOOR_QUEUE_POS_INFO)
        await stage.is_heard(stage.ann_phone, b"ann talks")
        assert (await operator.post("/admin/floor-revoke/ops")).status_code == 200
        # Before she has read of it.
        await stage.is_not_heard(stage.ann_phone, b"ann talks on")
        assert (await stage.ann.expect(FLOOR_REVOKE))["cause"] == "admin_revoke"
        await stage.bob.expect(FLOOR_GRANTED)
        await stage.is_heard(stage.bob_phone, b"bob was next")
        await park(stage.server, stage.bob)
        await stage.is_not_heard(stage.bob_phone, b"his voice lives on, his floor does not")


async def test_a_more_urgent_one_cuts_in(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.take(stage.ann)
        await stage.is_heard(stage.ann_phone, b"idle talk")
        await stage.bob.expect(FLOOR_TAKEN)
        await stage.bob.send(FLOOR_REQUEST, {**OPS, "indicator": "emergency"})
        await stage.bob.expect(FLOOR_GRANTED)
        await stage.is_not_heard(stage.ann_phone, b"more of it")
        await stage.is_heard(stage.bob_phone, b"fire")


async def test_a_new_voice_of_the_holder_is_heard_and_one_of_another_is_not(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.take(stage.ann)
        await stage.is_heard(stage.ann_phone, b"one phone")
        async with (
            identified(stage.server, "ann") as elsewhere,
            phone_of(elsewhere, "ops", ssrc=33) as other_phone,
            identified(stage.server, "dan") as dan,
            phone_of(dan, "ops", ssrc=44) as dan_phone,
        ):
            await stage.is_not_heard(dan_phone, b"dan has no floor")
            await stage.is_heard(other_phone, b"another phone")
