"""The client over several connections: losses, drains, heartbeats, tokens."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from livechat.client.client import open_client
from livechat.client.error import CannotConnect, ClientClosed, SessionEnded
from livechat.client.events import Gap, StateChanged
from livechat.client.settings import Backoff, ClientSettings
from livechat.protocol.events import Message
from livechat.protocol.opcodes import Op
from tests.support.client_pair import URL, next_of, online, scripted
from tests.support.fake_gateway import (
    FakeGateway,
    channel,
    fake_gateway,
    ready,
    resumed,
    resumed_channel,
)

# --- reconnecting --------------------------------------------------------------------------------------


async def test_it_comes_back_by_itself_and_nothing_is_missed_or_doubled(autojump_clock: MockClock) -> None:
    async with online() as pair:
        events = pair.client.events()
        messages = pair.client.messages("den")
        await pair.server.say(6)
        await next_of(events, Message, seq=6)
        pair.gateway.refusals = 3
        await pair.server.drop()
        server = await pair.gateway.accept()
        assert not pair.client.is_online
        said = await server.resume()
        assert (said["session_id"], said["channels"]) == ("sess_1", {"den": 6})
        await server.say(6, 7, 8)
        await server.send(Op.RESUMED, resumed(den=resumed_channel(8)))
        await server.say(9)
        assert [(await anext(messages)).seq for _ in range(4)] == [6, 7, 8, 9]
        assert pair.client.state == "online"


async def test_tries_are_spread_with_growing_waits(autojump_clock: MockClock) -> None:
    settings = ClientSettings(backoff=Backoff(base_s=10.0, factor=2.0, cap_s=60.0))
    async with online(settings=settings, uniform=lambda: 0.5) as pair:
        pair.gateway.refusals = 4
        await pair.server.drop()
        await (await pair.gateway.accept()).resume()
        assert pair.gateway.dialled_at == pytest.approx([0, 5, 15, 35, 65, 95])


async def test_after_ten_tries_it_gives_up_and_the_block_is_told(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        gateway.refusals = 100
        await server.drop()

    async with scripted(script) as gateway:
        with pytest.raises(CannotConnect, match=r"gave up after 10 tries: cannot connect to gateway\.test:80"):
            async with open_client(URL, "token", dial=gateway.dial):
                await trio.sleep_forever()
        assert len(gateway.dialled_at) == 11


async def test_a_session_that_was_ended_ends_the_block_with_a_clear_error(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        await server.close(4505, "session taken over")

    async with scripted(script) as gateway:
        with pytest.raises(SessionEnded, match="4505 session taken over"):
            async with open_client(URL, "token", dial=gateway.dial) as client:
                await trio.sleep_forever()
        with pytest.raises(SessionEnded):
            await anext(client.events())
        with pytest.raises(ClientClosed) as raised:
            await client.info("den")
        assert isinstance(raised.value.__cause__, SessionEnded)


async def test_a_new_session_fetches_what_was_missed(autojump_clock: MockClock) -> None:
    async with online() as pair:
        events = pair.client.events()
        await pair.server.drop()
        server = await pair.gateway.accept()
        await server.resume()
        await server.send(Op.INVALID_SESSION, {"reason": "late"})
        await server.expect(Op.IDENTIFY)
        await server.send(Op.READY, ready(channel("den", 9), session="sess_2"))
        sync = await server.expect(Op.SYNC)
        assert sync["d"]["channels"] == {"den": {"after": 5, "before": 10}}
        await server.say(6, 7, 9)
        await server.ack(sync, {"channels": {"den": {"replayed": 3, "last_seq": 9, "recovered": False}}})
        history = await server.expect(Op.HISTORY)
        rows = {"messages": [], "has_before": True, "has_after": False, "last_seq": 9}
        await server.ack(history, {"channel_id": "den", **rows})
        assert await next_of(events, StateChanged, state="online") == StateChanged("online", new_session=True)
        assert (await next_of(events, Message)).seq == 6
        assert (await next_of(events, Message)).seq == 7
        assert await next_of(events, Gap) == Gap("den", 7, 9)  # type: ignore[arg-type]
        assert (await next_of(events, Message)).seq == 9


async def test_reconnect_is_obeyed_in_order(autojump_clock: MockClock) -> None:
    async with online() as pair:
        await pair.server.send(Op.RECONNECT, {"delay_ms": 7000, "reason": "drain"})
        assert await pair.server.closed() not in (1000, 1001, 1006)
        await (await pair.gateway.accept()).resume()
        assert pair.gateway.dialled_at == pytest.approx([0.0, 7.0])


async def test_a_server_that_answers_no_heartbeats_is_left(autojump_clock: MockClock) -> None:
    async with online() as pair:
        for _ in range(2):
            assert (await pair.server.receive_any())["op"] == Op.HEARTBEAT
        assert await pair.server.closed() == 1006
        assert trio.current_time() == pytest.approx(90.0)
        await (await pair.gateway.accept()).resume()


async def test_a_server_that_answers_them_is_not(autojump_clock: MockClock) -> None:
    async with online() as pair:
        for _ in range(100):
            assert (await pair.server.receive_any())["op"] == Op.HEARTBEAT
            await pair.server.send(Op.HEARTBEAT_ACK)
        assert trio.current_time() == pytest.approx(3000.0)
        assert pair.client.state == "online"


async def test_that_the_server_is_gone_is_noticed_while_a_write_is_stuck(autojump_clock: MockClock) -> None:
    async with online() as pair:
        pair.gateway.streams[0].is_stuck = True
        sent = pair.client.post("den", "hello")
        server = await pair.gateway.accept()
        assert 90 <= trio.current_time() < 95
        await server.resume()
        await server.send(Op.RESUMED, resumed(den=resumed_channel(5)))
        await server.take_message(6)
        assert (await sent.wait()).seq == 6


# --- tokens --------------------------------------------------------------------------------------------


class Tokens:
    """Fetches token_1, token_2 and so on."""

    def __init__(self) -> None:
        self.fetched = 0

    async def __call__(self) -> str:
        await trio.sleep(1)
        self.fetched += 1
        return f"token_{self.fetched}"


@pytest.mark.parametrize("how", ["4502", "1001"])
async def test_a_token_that_ended_is_fetched_anew(autojump_clock: MockClock, how: str) -> None:
    said: list[str] = []

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        said.append((await server.identify(ready()))["token"])
        if how == "4502":
            await server.close(4502, "token expired")
        else:
            await server.drop()
            server = await gateway.accept()
            await server.hello()
            resume = await server.expect(Op.RESUME)
            said.append(resume["d"]["token"])
            await server.refuse(resume, 1001)
        server = await gateway.accept()
        await server.hello()
        packet = await server.receive()
        said.append(packet["d"]["token"])
        assert packet["op"] == (Op.IDENTIFY if how == "4502" else Op.RESUME)
        await server.send(*((Op.READY, ready()) if how == "4502" else (Op.RESUMED, resumed())))

    async with scripted(script) as gateway, open_client(URL, Tokens(), dial=gateway.dial) as client:
        events = client.events()
        await next_of(events, StateChanged, state="online")
    assert said == ["token_1", "token_2", "token_3"][: len(said)]
    assert len(said) == (2 if how == "4502" else 3)


async def test_a_token_that_cannot_be_renewed_ends_the_client(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        await server.close(4502, "token expired")

    async with scripted(script) as gateway:
        with pytest.raises(SessionEnded, match="4502 token expired"):
            async with open_client(URL, "token", dial=gateway.dial):
                await trio.sleep_forever()


async def test_a_token_is_renewed_before_it_ends(autojump_clock: MockClock) -> None:
    expires_at = int((time.time() + 1000) * 1000)
    done = trio.Event()

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        assert (await server.identify(ready(expires_at=expires_at)))["token"] == "token_1"
        renewal = await server.expect(Op.IDENTIFY)
        assert renewal["d"]["token"] == "token_2"
        assert 700 < trio.current_time() < 900
        await server.ack(renewal, {"expires_at": expires_at + 1_000_000})
        second = await server.expect(Op.IDENTIFY)
        assert second["d"]["token"] == "token_3"
        done.set()

    async with scripted(script) as gateway, open_client(URL, Tokens(), dial=gateway.dial):
        await done.wait()


async def test_a_renewal_that_fails_is_tried_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    expires_at = int((time.time() + 1000) * 1000)
    fetched: list[float] = []
    done = trio.Event()

    async def fetch() -> str:
        fetched.append(trio.current_time())
        if len(fetched) == 2:
            raise OSError("the accounts are away")
        return f"token_{len(fetched)}"

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready(expires_at=expires_at))
        assert (await server.expect(Op.IDENTIFY))["d"]["token"] == "token_3"
        done.set()

    async with scripted(script) as gateway, open_client(URL, fetch, dial=gateway.dial):
        await done.wait()
    assert "the accounts are away" in caplog.text


async def test_a_token_is_renewed_when_the_server_says_that_it_ends_soon(autojump_clock: MockClock) -> None:
    done = trio.Event()

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready(expires_at=int((time.time() + 1000) * 1000)))
        await server.send(Op.NOTIFICATION, {"kind": "token_expiring", "expires_at": 1, "expires_in_ms": 1})
        renewal = await server.expect(Op.IDENTIFY)
        assert renewal["d"]["token"] == "token_2"
        assert trio.current_time() < 10
        await server.ack(renewal, {"expires_at": int((time.time() + 2000) * 1000)})
        # Once: the next one is due after four fifths of its life.
        assert (await server.expect(Op.IDENTIFY))["d"]["token"] == "token_3"
        assert trio.current_time() > 1500
        done.set()

    async with scripted(script) as gateway, open_client(URL, Tokens(), dial=gateway.dial):
        await done.wait()


async def test_without_a_fresh_token_for_a_reconnect_the_old_one_is_shown_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fetched = 0

    async def fetch() -> str:
        nonlocal fetched
        fetched += 1
        if fetched == 2:
            raise OSError("the accounts are away")
        return f"token_{fetched}"

    said: list[str] = []

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        for _ in range(2):
            await server.drop()
            server = await gateway.accept()
            await server.hello()
            said.append((await server.expect(Op.RESUME))["d"]["token"])
            await server.send(Op.RESUMED, resumed())

    async with scripted(script) as gateway, open_client(URL, fetch, dial=gateway.dial) as client:
        events = client.events()
        await next_of(events, StateChanged, state="online")
        await next_of(events, StateChanged, state="online")
    assert said == ["token_1", "token_3"]
    assert "the accounts are away" in caplog.text


@pytest.mark.parametrize("where", ["dial", "token", "wait"])
async def test_leaving_does_not_wait_for_a_reconnect(autojump_clock: MockClock, where: str) -> None:
    fetched = 0

    async def fetch() -> str:
        nonlocal fetched
        fetched += 1
        if fetched > 1:
            await trio.sleep_forever()
        return "token"

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        if where == "dial":
            gateway.hangs = True
        elif where == "wait":
            gateway.refusals = 1000
        await (server.close(4502) if where == "token" else server.drop())

    settings = ClientSettings(backoff=Backoff(base_s=100.0, cap_s=100.0))
    async with (
        scripted(script) as gateway,
        open_client(URL, fetch, settings=settings, uniform=lambda: 0.5, dial=gateway.dial) as client,
    ):
        await next_of(client.events(), StateChanged, state="resuming")
        await trio.sleep(75 if where != "wait" else 25)
        left_at = trio.current_time()
    assert trio.current_time() == left_at


async def test_what_fetching_a_token_raises_ends_the_client(autojump_clock: MockClock) -> None:
    async def no_token() -> str:
        raise OSError("the accounts are away")

    async with fake_gateway() as gateway:
        with pytest.raises(OSError, match="the accounts are away"):
            async with open_client(URL, no_token, dial=gateway.dial):
                raise AssertionError("there is no session")
