"""Messages on their way: shown at once, stored once, in order, over whatever happens to the connection."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from livechat.client.error import NotSent, OutboxFull, OutcomeUnknown
from livechat.client.sent import SendChanged
from livechat.client.settings import ClientSettings
from livechat.error import EmptyMessage, NotPersisted, PayloadTooLarge
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import Attachment
from tests.support.client_pair import Pair, next_of, online
from tests.support.fake_gateway import channel, created, own, ready, resumed, resumed_channel


async def back(pair: Pair, last_seq: int) -> Any:
    """Accept the client again and resume its session; return the server's end."""
    server = await pair.gateway.accept()
    await server.resume()
    await server.send(Op.RESUMED, resumed(den=resumed_channel(last_seq)))
    return server


async def test_a_message_is_sent_and_its_seq_returned(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def send() -> None:
            stored = await pair.client.send_message(
                "den",
                "look",
                message_type="IMAGE",
                attachment=Attachment("https://example.org/a.png", "a.png", 5, "image/png"),
                mentions=["bob"],
            )
            assert (stored.seq, stored.duplicate) == (6, False)

        nursery.start_soon(send)
        said = await pair.server.take_message(6)
        assert said.pop("nonce")
        assert said == {
            "channel_id": "den",
            "content": "look",
            "message_type": "IMAGE",
            "attachment": {"url": "https://example.org/a.png", "name": "a.png", "bytes": 5, "mime": "image/png"},
            "mentions": ["bob"],
        }


async def test_a_message_whose_ack_was_lost_is_sent_again_and_returned_once(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:
        returned: list[int] = []

        async def send() -> None:
            returned.append((await pair.client.send_message("den", "hello")).seq)

        nursery.start_soon(send)
        first = await pair.server.expect(Op.MESSAGE_CREATE)
        await pair.server.drop()
        server = await back(pair, 5)
        again = await server.expect(Op.MESSAGE_CREATE)
        assert again["d"] == first["d"]
        await server.ack(again, created(again["d"], 6, duplicate=True))
    assert returned == [6]


async def test_a_message_that_the_replay_brings_back_is_not_sent_again(autojump_clock: MockClock) -> None:
    async with online() as pair:
        sent = pair.client.post("den", "hello")
        first = await pair.server.expect(Op.MESSAGE_CREATE)
        await pair.server.drop()
        server = await pair.gateway.accept()
        await server.resume()
        await server.send(Op.MESSAGE_EVENT, own(first["d"], 6))
        await server.send(Op.RESUMED, resumed(den=resumed_channel(6)))
        assert (await sent.wait()).seq == 6
        later = pair.client.post("den", "next")
        await server.take_message(7)
        assert (await later.wait()).seq == 7


async def test_messages_posted_while_away_leave_in_order_once_it_is_back(autojump_clock: MockClock) -> None:
    async with online() as pair:
        await pair.server.drop()
        sent = [pair.client.post("den", f"message {number}") for number in range(5)]
        server = await back(pair, 5)
        said = [(await server.take_message(6 + number))["content"] for number in range(5)]
        assert said == [f"message {number}" for number in range(5)]
        assert [(await each.wait()).seq for each in sent] == [6, 7, 8, 9, 10]


async def test_what_is_refused_for_now_does_not_let_the_next_one_pass(autojump_clock: MockClock) -> None:
    async with online() as pair:
        sent = [pair.client.post("den", text) for text in ("one", "two")]
        await pair.server.refuse(
            await pair.server.expect(Op.MESSAGE_CREATE), 1006, retryable=True, retry_after_ms=3000
        )
        assert (await pair.server.take_message(6))["content"] == "one"
        assert trio.current_time() >= 3.0
        assert (await pair.server.take_message(7))["content"] == "two"
        assert [(await each.wait()).seq for each in sent] == [6, 7]


async def test_a_message_is_shown_at_once_and_its_changes_are_told(autojump_clock: MockClock) -> None:
    async with online() as pair:
        events = pair.client.events()
        good, bad = pair.client.post("den", "good"), pair.client.post("den", "bad")
        assert (good.state, good.seq, good.content) == ("pending", None, "good")
        for sent in (good, bad):
            assert await next_of(events, SendChanged) == SendChanged(sent, "pending")
        await pair.server.take_message(6)
        assert await next_of(events, SendChanged) == SendChanged(good, "confirmed")
        await pair.server.refuse(
            await pair.server.expect(Op.MESSAGE_CREATE), 3005, retryable=True, action="ROLLBACK"
        )
        assert await next_of(events, SendChanged) == SendChanged(bad, "rolled_back")
        assert (good.state, good.seq, bad.state) == ("confirmed", 6, "rolled_back")
        assert isinstance(bad.error, NotPersisted)
        assert repr(good) == f"<SentMessage {good.nonce} in den: confirmed seq=6>"


async def test_a_rollback_and_a_refusal_are_raised(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(NotPersisted) as raised:
                await pair.client.send_message("den", "disk full")
            assert raised.value.action == "ROLLBACK"
            with pytest.raises(EmptyMessage):
                await pair.client.send_message("den", " ")

        nursery.start_soon(send)
        create = await pair.server.expect(Op.MESSAGE_CREATE)
        await pair.server.refuse(create, 3005, retryable=True, action="ROLLBACK", nonce=create["d"]["nonce"])
        await pair.server.refuse(await pair.server.expect(Op.MESSAGE_CREATE), 3000)


async def test_an_unknown_outcome_is_asked_for_with_the_same_nonce(autojump_clock: MockClock) -> None:
    async with online() as pair:
        sent = pair.client.post("den", "hello", nonce="mine")
        for _ in range(3):
            create = await pair.server.expect(Op.MESSAGE_CREATE)
            assert create["d"]["nonce"] == sent.nonce == "mine"
            await pair.server.refuse(create, 3005, retryable=True, action="RETRY")
        await pair.server.take_message(6)
        assert (await sent.wait()).seq == 6


async def test_a_message_has_so_much_time_and_no_more(autojump_clock: MockClock) -> None:
    async with online(settings=ClientSettings(send_timeout_s=20.0)) as pair:
        first, second = pair.client.post("den", "one"), pair.client.post("den", "two")
        with pytest.raises(OutcomeUnknown, match="may be stored or not: not within 20 s"):
            await first.wait()
        with pytest.raises(NotSent, match="was not sent: not within 20 s"):
            await second.wait()
        assert (first.state, second.state) == ("unknown", "rolled_back")
        assert trio.current_time() == pytest.approx(20.0)


async def test_a_send_that_nobody_waits_for_any_more_is_not_repeated(autojump_clock: MockClock) -> None:
    async with online(channel("den", 5), channel("hall", 0)) as pair:
        await pair.server.drop()
        with trio.move_on_after(0):
            await pair.client.send_message("den", "never mind")
        kept = pair.client.post("hall", "kept")
        server = await pair.gateway.accept()
        await server.resume()
        await server.send(Op.RESUMED, resumed(den=resumed_channel(5), hall=resumed_channel(0)))
        assert (await server.take_message(1))["content"] == "kept"
        assert (await kept.wait()).seq == 1


async def test_what_is_larger_than_the_server_takes_is_rolled_back_and_the_next_one_goes(
    autojump_clock: MockClock,
) -> None:
    async with online() as pair:
        large, small = pair.client.post("den", "x" * 65_536), pair.client.post("den", "small")
        with pytest.raises(PayloadTooLarge, match="at most 65536 bytes"):
            await large.wait()
        assert (await pair.server.take_message(6))["content"] == "small"
        assert (await small.wait()).seq == 6


async def test_too_many_that_wait_are_refused(autojump_clock: MockClock) -> None:
    async with online(settings=ClientSettings(outbox_max=2, flush_timeout_s=0)) as pair:
        pair.client.post("den", "one")
        pair.client.post("den", "two")
        with pytest.raises(OutboxFull):
            pair.client.post("den", "three")


async def test_what_does_not_fit_is_refused_before_it_is_sent(autojump_clock: MockClock) -> None:
    async with online() as pair:
        with pytest.raises(ValueError, match="nonce"):
            pair.client.post("den", "x", nonce="n" * 65)


async def test_in_a_new_session_too_it_is_stored_once(autojump_clock: MockClock) -> None:
    async with online() as pair:
        sent = pair.client.post("den", "hello")
        first = await pair.server.expect(Op.MESSAGE_CREATE)
        await pair.server.drop()
        server = await pair.gateway.accept()
        await server.resume()
        await server.send(Op.INVALID_SESSION, {"reason": "late"})
        await server.expect(Op.IDENTIFY)
        await server.send(Op.READY, ready(channel("den", 6), session="sess_2"))
        packets = {packet["op"]: packet for packet in [await server.receive(), await server.receive()]}
        await server.send(Op.MESSAGE_EVENT, own(first["d"], 6))
        assert packets[Op.SYNC]["d"] == {"channels": {"den": {"after": 5, "before": 7}}}
        assert packets[Op.MESSAGE_CREATE]["d"]["nonce"] == sent.nonce
        assert (await sent.wait()).seq == 6
