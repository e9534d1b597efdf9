"""How a client is entered and left."""

from __future__ import annotations

import pytest
import trio
import wsproto
from trio.testing import MockClock
from wsproto.events import AcceptConnection

from livechat.client.client import open_client
from livechat.client.error import CannotConnect, ClientClosed, OutcomeUnknown
from livechat.client.events import StateChanged
from livechat.client.settings import ClientSettings
from livechat.error import InvalidToken, Overloaded
from livechat.protocol.opcodes import Op
from tests.support.client_pair import URL, online, scripted
from tests.support.fake_gateway import (
    FakeGateway,
    channel,
    fake_gateway,
    ready,
)

# --- coming in -----------------------------------------------------------------------------------------


async def test_the_block_is_entered_once_there_is_a_session(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await trio.sleep(3)
        said = await server.identify(ready(channel("den", 5, unread=2), settings={"theme": "dark"}))
        assert said == {"token": "token", "user_id": "ann", "device": "test", "presence_batches": True}

    settings = ClientSettings(device="test")
    async with (
        scripted(script) as gateway,
        open_client(URL, "token", user_id="ann", settings=settings, dial=gateway.dial) as client,
    ):
        assert trio.current_time() == 3.0
        assert (client.state, client.is_online) == ("online", True)
        assert (client.user_id, client.session_id) == ("ann", "sess_1")
        assert client.channels["den"].unread == 2
        assert client.settings == {"theme": "dark"}
        assert (client.presence, client.announcements, client.current_channel) == ({}, (), None)
        assert client.local_host is None
    assert client.state == "offline"


async def test_a_refused_token_is_raised_at_once(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.hello()
        await server.refuse(await server.expect(Op.IDENTIFY), 1001)

    async with scripted(script) as gateway:
        with pytest.raises(InvalidToken, match="refused with 1001"):
            async with open_client(URL, "wrong", dial=gateway.dial):
                raise AssertionError("there is no session")
        assert len(gateway.dialled_at) == 1


async def test_a_server_that_is_full_is_raised_at_once(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.hello()
        await server.refuse(await server.expect(Op.IDENTIFY), 9001, retryable=True)

    async with scripted(script) as gateway:
        with pytest.raises(Overloaded):
            async with open_client(URL, "token", dial=gateway.dial):
                raise AssertionError("there is no session")


async def test_a_gateway_that_cannot_be_reached_is_raised_at_once(autojump_clock: MockClock) -> None:
    async with fake_gateway() as gateway:
        gateway.refusals = 1
        with pytest.raises(CannotConnect, match=r"cannot connect to gateway.test:80: connection refused"):
            async with open_client(URL, "token", dial=gateway.dial):
                raise AssertionError("there is no session")
    assert trio.current_time() == 0.0


async def test_a_gateway_that_answers_by_http_is_raised_with_the_status(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        stream = await gateway.accept_stream()
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await stream.aclose()

    async with scripted(script) as gateway:
        with pytest.raises(CannotConnect, match="cannot connect: HTTP 404"):
            async with open_client(URL, "token", dial=gateway.dial):
                raise AssertionError("there is no session")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], ids=["nothing", "another protocol"])
async def test_what_is_no_gateway_is_raised(autojump_clock: MockClock, answer: bytes) -> None:
    async def script(gateway: FakeGateway) -> None:
        stream = await gateway.accept_stream()
        if answer:
            await stream.send_all(answer)
        await stream.aclose()

    async with scripted(script) as gateway:
        with pytest.raises(CannotConnect, match="cannot connect"):
            async with open_client(URL, "token", dial=gateway.dial):
                raise AssertionError("there is no session")


@pytest.mark.parametrize("how_far", ["accepted", "upgraded", "hello"])
async def test_a_gateway_that_says_nothing_is_not_waited_for_for_ever(
    autojump_clock: MockClock, how_far: str
) -> None:
    async def script(gateway: FakeGateway) -> None:
        if how_far == "accepted":
            await gateway.accept_stream()
            return
        server = await gateway.accept()
        if how_far == "hello":
            await server.hello()

    async with scripted(script) as gateway:
        with pytest.raises(CannotConnect):
            async with open_client(
                URL, "token", settings=ClientSettings(connect_timeout_s=12.0), dial=gateway.dial
            ):
                raise AssertionError("there is no session")
    assert trio.current_time() == pytest.approx(12.0)


async def test_entering_can_be_cancelled(autojump_clock: MockClock) -> None:
    async with fake_gateway() as gateway:
        with trio.move_on_after(5) as scope:
            async with open_client(URL, "token", dial=gateway.dial):
                raise AssertionError("there is no session")
        assert scope.cancelled_caught
    assert trio.current_time() == 5.0


async def test_what_is_no_url_is_told_by_valueerror(autojump_clock: MockClock) -> None:
    with pytest.raises(ValueError, match="url"):
        async with open_client("http://example.org", "token"):
            raise AssertionError("there is no session")


# --- leaving -------------------------------------------------------------------------------------------


async def test_leaving_closes_with_1000(autojump_clock: MockClock) -> None:
    codes: list[int] = []

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        codes.append(await server.closed())

    async with scripted(script) as gateway:
        async with open_client(URL, "token", dial=gateway.dial):
            pass
        await trio.testing.wait_all_tasks_blocked()
        assert codes == [1000]


async def test_what_the_block_raises_comes_out_as_it_was_and_closes_with_1000(autojump_clock: MockClock) -> None:
    codes: list[int] = []

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        codes.append(await server.closed())

    async with scripted(script) as gateway:
        with pytest.raises(KeyError) as raised:
            async with open_client(URL, "token", dial=gateway.dial):
                fail_in_two_steps()
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        assert isinstance(raised.value.__context__, ZeroDivisionError)
        await trio.testing.wait_all_tasks_blocked()
        assert codes == [1000]


def fail_in_two_steps() -> None:
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as exc:
        raise KeyError("mine") from exc


async def test_cancelling_the_block_closes_with_1000(autojump_clock: MockClock) -> None:
    codes: list[int] = []

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready())
        codes.append(await server.closed())

    async with scripted(script) as gateway:
        with trio.move_on_after(5) as scope:
            async with open_client(URL, "token", dial=gateway.dial):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == 5.0
        await trio.testing.wait_all_tasks_blocked()
        assert codes == [1000]


async def test_a_server_that_does_not_answer_the_close_is_not_waited_for_for_long(
    autojump_clock: MockClock,
) -> None:
    async def script(gateway: FakeGateway) -> None:
        await handshake_only(await gateway.accept_stream())

    settings = ClientSettings(connect_timeout_s=50, close_timeout_s=3.0)
    async with scripted(script) as gateway:
        with trio.move_on_after(10):
            async with open_client(URL, "token", settings=settings, dial=gateway.dial):
                raise AssertionError("there is no session")
    assert trio.current_time() == pytest.approx(13.0)


async def handshake_only(stream: trio.abc.Stream) -> None:
    """Answer the upgrade by hand, and never read again."""
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    server.receive_data(bytes(await stream.receive_some()))
    assert list(server.events())
    await stream.send_all(server.send(AcceptConnection(subprotocol="livechat.v1.msgpack")))
    await trio.sleep_forever()


async def test_leaving_waits_for_what_was_posted(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready(channel("den", 5)))
        for seq in (6, 7):
            await trio.sleep(1)
            await server.take_message(seq)

    async with scripted(script) as gateway:
        async with open_client(URL, "token", dial=gateway.dial) as client:
            sent = [client.post("den", "one"), client.post("den", "two")]
        assert [each.seq for each in sent] == [6, 7]
        assert trio.current_time() == 2.0


async def test_leaving_does_not_wait_for_ever_and_says_what_is_not_known(autojump_clock: MockClock) -> None:
    async with online(settings=ClientSettings(flush_timeout_s=4.0)) as pair:
        sent = pair.client.post("den", "one")
    assert sent.state == "unknown"
    with pytest.raises(OutcomeUnknown):
        await sent.wait()
    assert trio.current_time() == 4.0


async def test_after_the_block_nothing_can_be_asked_for(autojump_clock: MockClock) -> None:
    async with online() as pair:
        events = pair.client.events()
    with pytest.raises(ClientClosed):
        await pair.client.info("den")
    with pytest.raises(ClientClosed):
        pair.client.post("den", "late")
    assert [event async for event in events] == [StateChanged("offline", "the client's block was left")]
    assert [event async for event in pair.client.events()] == []
