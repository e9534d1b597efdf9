"""The gateway's conversation: HELLO, IDENTIFY, envelopes, codecs, errors, upgrade credentials."""

from __future__ import annotations

import json
import time
from pathlib import Path

import msgpack
import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

import livechat
from livechat.error import InvalidToken
from livechat.protocol.requests import REQUESTS
from tests.support.client import (
    ACK,
    CREATE,
    ERROR,
    HEARTBEAT,
    HEARTBEAT_ACK,
    IDENTIFY,
    INFO,
    INVALID_SESSION,
    JOIN,
    LIST,
    MESSAGE,
    READY,
    RESUME,
    connected,
    identified,
)
from tests.support.raw import TEXT, masked, raw_connected
from tests.support.server import SECRET, counted, make_config, running_server, wait_until

CREDENTIALS = {"token": SECRET, "user_id": "alice"}


async def test_hello_tells_all_that_a_client_needs(tmp_path: Path) -> None:
    async with running_server(tmp_path, node_id="node_a") as server, connected(server) as client:
        assert client.hello == {
            "heartbeat_interval": 30_000,
            "node_id": "node_a",
            "server": f"livechat/{livechat.__version__}",
            "resume_window_ms": 120_000,
            "reconnect_window_ms": 10_000,
            "limits": {"message_bytes": 65_536, "frame_bytes": 1_048_576, "chunk_bytes": 262_144},
        }


@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
async def test_identify_gets_ready(binary: bool, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice", binary=binary) as client:
        ready = client.ready
        assert ready.pop("session_id").startswith("sess_")
        assert ready == {
            "user_id": "alice",
            "node_id": server.node_id,
            "channels": [],
            "announcements": [],
            "presence": {},
            "settings": {},
        }


async def test_before_identify_every_request_but_a_heartbeat_is_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server) as client:
        assert (await client.request(HEARTBEAT)) == {"op": HEARTBEAT_ACK, "d": None}
        for op in sorted(set(REQUESTS) - {HEARTBEAT, IDENTIFY, RESUME}):
            assert (await client.refused(op, {}, id=op))["code"] == 1000
        assert (await client.request(IDENTIFY, CREDENTIALS))["op"] == READY


async def test_the_third_refused_identify_closes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, connected(server) as client:
        bad = [{"token": "wrong", "user_id": "a"}, {"token": SECRET}, {"token": SECRET, "user_id": "no spaces"}]
        for index, credentials in enumerate(bad):
            reply = await client.request(IDENTIFY, credentials, id=index)
            # An id that is none at all is already refused by the payload's own check.
            expected = 1004 if credentials.get("user_id") == "no spaces" else 1001
            assert (reply["op"], reply["d"]["code"], reply["id"]) == (ERROR, expected, index)
        await client.refused(IDENTIFY, {"token": "", "user_id": "a"})
        assert await client.closed() == 4501


async def test_identify_must_come_in_time(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, gateway={"identify_timeout_ms": 50}) as server,
        connected(server) as client,
    ):
        assert await client.closed() == 4506


async def test_identify_again_renews_for_the_same_user_only(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        assert await client.ack(IDENTIFY, CREDENTIALS, id=1) == {"expires_at": None}
        assert (await client.refused(IDENTIFY, {**CREDENTIALS, "user_id": "bob"}))["code"] == 1002
        assert (await client.refused(IDENTIFY, {**CREDENTIALS, "token": "wrong"}))["code"] == 1001
        assert (await client.refused(RESUME, {"session_id": "sess_x", "token": SECRET}))["code"] == 1002
        await client.ack(LIST)


async def test_resume_is_answered_by_invalid_session_and_identify_may_follow(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as client:
            session_id = client.ready["session_id"]
        async with connected(server) as client:
            reply = await client.request(RESUME, {"session_id": session_id, "token": SECRET, "channels": {}})
            assert reply["op"] == INVALID_SESSION
            assert reply["d"]["reason"]
            assert (await client.request(IDENTIFY, CREDENTIALS))["op"] == READY


async def test_unknown_and_server_opcodes_are_unknown(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        for op in (0, 2, 4, 6, 8, 99, 100, 200, -1, 2**40):
            assert (await client.refused(op, {}, id="x"))["code"] == 1003


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("not json", "packet"),
        ("[]", "packet"),
        ('{"d": {}}', "op"),
        ('{"op": "20"}', "op"),
        ('{"op": 20, "d": 5}', "d"),
        ('{"op": 20, "d": {}}', "channel_id"),
        ('{"op": 20, "d": {"channel_id": "a b", "content": "x"}}', "channel_id"),
        ('{"op": 20, "d": {"channel_id": "a", "content": 5}}', "content"),
        ('{"op": 20, "d": {"channel_id": "a", "content": "\\ud800"}}', "content"),
        ('{"op": 20, "d": {"channel_id": "a", "content": "x", "mentions": ["ok", 5]}}', "mentions[1]"),
        ('{"op": 11, "d": {"channel_id": "a", "ssrc": 4294967296}}', "ssrc"),
        ('{"op": 11, "d": {"channel_id": "a", "media": {"address": {"port": 0}}}}', "media.address.host"),
        ('{"op": 15, "d": {"limit": 0}}', "limit"),
        ('{"op": 15, "id": {}}', "id"),
        ("[" * 5000, "packet"),
    ],
)
async def test_a_packet_that_does_not_parse_names_the_field(text: str, field: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        await client.ws.send(text)
        error = await client.expect(ERROR)
        assert (error["code"], error["retryable"]) == (1004, False)
        assert error["reason"].split(": ")[0] == field
        await client.ack(LIST)


async def test_an_error_repeats_op_id_and_nonce(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        d = {"channel_id": "none", "content": "x", "nonce": "n1"}
        reply = await client.request(MESSAGE, d, id="q")
        assert reply["id"] == "q"
        assert (reply["d"]["op"], reply["d"]["nonce"], reply["d"]["code"]) == (MESSAGE, "n1", 2000)
        # A packet that does not validate is answered with its id as well.
        reply = await client.request(MESSAGE, {"content": "x"}, id=7)
        assert (reply["id"], reply["d"]["code"], reply["d"]["op"]) == (7, 1004, MESSAGE)
        await client.ws.send('{"op": null, "id": 9}')
        assert (await client.receive())["id"] == 9


async def test_a_packet_past_its_limit_is_refused_and_the_connection_stays(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        assert (await client.refused(MESSAGE, {"channel_id": "a", "content": "é" * 40_000}))["code"] == 1005
        await client.ack(LIST)


async def test_unknown_fields_are_ignored_and_nulls_count_as_left_out(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        await client.ack(CREATE, {"channel_id": "a", "future": [1], "capacity": None, "mode": None}, extra=1)
        await client.ack(JOIN, {"channel_id": "a", "ssrc": None, "media": None})


async def test_ids_of_any_script(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "앨리스") as client:
        await client.ack(CREATE, {"channel_id": "로비-1:@."})
        assert (await client.ack(JOIN, {"channel_id": "로비-1:@."}))["active_members"][0]["user_id"] == "앨리스"


async def test_binary_frames_are_msgpack_also_on_a_json_connection(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        await client.ws.send(msgpack.packb({"op": LIST, "d": None, "id": 1}))
        reply = await client.receive()
        assert (reply["op"], reply["id"]) == (ACK, 1)


async def test_requests_that_are_pipelined_are_answered_in_order(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as client:
        await client.send(CREATE, {"channel_id": "a"}, id=0)
        await client.send(JOIN, {"channel_id": "a"}, id=1)
        for index in range(2, 300):
            content = "" if index % 7 == 0 else f"message {index}"
            await client.send(MESSAGE, {"channel_id": "a", "content": content}, id=index)
        await client.send(INFO, {"channel_id": "a"}, id=300)
        ids: list[int] = []
        seqs: list[int] = []
        while len(ids) < 301:
            packet = await client.receive()
            if packet["op"] in (ACK, ERROR):
                ids.append(packet["id"])
                if packet["op"] == ACK and packet["d"]["op"] == MESSAGE:
                    acked = packet["d"]["data"]["seq"]
            else:
                # The ACK comes before every event that its request causes.
                assert packet["d"]["seq"] <= acked
                seqs.append(packet["d"]["seq"])
        assert ids == list(range(301))
        assert seqs == sorted(seqs)


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (f"?token={SECRET}&user_id=alice", {}),
        ("?user_id=alice", {"Authorization": f"Bearer {SECRET}"}),
        ("?user_id=alice", {"Cookie": f"a=b; livechat_token={SECRET}", "Origin": "https://ok.example"}),
    ],
    ids=["query", "bearer", "cookie"],
)
async def test_a_token_with_the_upgrade_saves_the_identify(
    query: str, headers: dict[str, str], tmp_path: Path
) -> None:
    gateway = {"allowed_origins": ("https://ok.example",)}
    async with (
        running_server(tmp_path, gateway=gateway) as server,
        connected(server, query=query, headers=headers) as client,
    ):
        assert (await client.expect(READY))["user_id"] == "alice"


@pytest.mark.parametrize(
    "query",
    ["?token=wrong&user_id=a", "?token=&user_id=a", f"?token={SECRET}", "?token=wrong&session_id=s"],
)
async def test_a_bad_token_with_the_upgrade_is_refused_with_401(query: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with connected(server, query=query):
                pass
        assert refused.value.response.status_code == 401
        assert counted(server)["sessions"] == 0


async def test_a_cookie_from_a_foreign_origin_is_no_credential(tmp_path: Path) -> None:
    headers = {"Cookie": f"livechat_token={SECRET}", "Origin": "https://evil.example"}
    async with (
        running_server(tmp_path) as server,
        connected(server, query="?user_id=a", headers=headers) as client,
    ):
        assert (await client.refused(LIST))["code"] == 1000


async def test_a_token_with_a_session_id_awaits_resume(tmp_path: Path) -> None:
    # RESUME tells by its session whose it is, so no user_id is needed.
    query = f"?token={SECRET}&session_id=sess_x"
    async with running_server(tmp_path) as server, connected(server, query=query) as client:
        await client.expect_silence()
        assert (await client.request(RESUME, {"session_id": "sess_x", "token": SECRET}))["op"] == INVALID_SESSION


async def test_fragments_pings_and_single_bytes_are_one_stream(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, raw_connected(server, f"?token={SECRET}&user_id=a") as client:
        for _ in range(2):
            await client.frame()
        packet = json.dumps({"op": LIST, "id": "q"}).encode()
        stream = masked(0x01, packet[:5]) + masked(0x89, b"ping") + masked(0x80, packet[5:])
        for byte in stream:
            await client.send(bytes((byte,)))
        assert await client.frame() == (0x8A, b"ping")
        reply = await client.frame()
        assert reply is not None
        assert json.loads(reply[1])["id"] == "q"


async def test_frames_right_behind_the_upgrade_are_not_lost(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        host, port = server.addresses.tcp[0]
        identify = json.dumps({"op": IDENTIFY, "d": CREDENTIALS}).encode()
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                + masked(TEXT, identify)
            )
            received = b""
            with trio.fail_after(10):
                while b'"op":4' not in received:
                    received += await stream.receive_some()


async def test_an_authenticator_of_the_embedder_decides(tmp_path: Path) -> None:
    class Letters:
        async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
            if token == "boom":
                raise RuntimeError("the embedder's own bug")
            if token != "abc":
                raise InvalidToken("token: not abc")
            return livechat.Identity(livechat.UserId("from-token"), expires_at=1_900_000_000_000)

    async with (
        livechat.open_server(make_config(tmp_path), authenticator=Letters()) as server,
        connected(server) as client,
    ):
        assert (await client.refused(IDENTIFY, {"token": "xyz"}))["code"] == 1001
        assert (await client.refused(IDENTIFY, {"token": "boom"}))["code"] == 9003
        ready = await client.request(IDENTIFY, {"token": "abc"})
        assert (ready["d"]["user_id"], ready["d"]["expires_at"]) == ("from-token", 1_900_000_000_000)


async def test_more_sessions_than_allowed_are_refused(tmp_path: Path) -> None:
    chat = livechat.ChatLimits(sessions_per_user=2)
    async with running_server(tmp_path, chat=chat) as server, identified(server, "alice") as first:
        async with identified(server, "alice") as second, connected(server) as third:
            assert (await third.refused(IDENTIFY, CREDENTIALS))["code"] == 9001
            # A parked session makes room for a new one.
            await second.ws.aclose(3000)
            assert (await third.request(IDENTIFY, CREDENTIALS))["op"] == READY
            assert counted(server)["sessions"] == 2
        await first.ack(LIST)


async def test_several_servers_in_one_process_know_nothing_of_each_other(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path / "a") as one,
        running_server(tmp_path / "b") as other,
        identified(one, "alice") as here,
        identified(other, "alice") as there,
    ):
        await here.ack(CREATE, {"channel_id": "x"})
        await here.ack(JOIN, {"channel_id": "x", "ssrc": 5})
        assert (await there.refused(JOIN, {"channel_id": "x"}))["code"] == 2000
        await there.ack(CREATE, {"channel_id": "x"})
        assert (await there.ack(JOIN, {"channel_id": "x", "ssrc": 5}))["media"]["ssrc"] == 5
        assert counted(one) == counted(other)


async def test_a_slow_authenticator_does_not_make_an_identify_late(tmp_path: Path) -> None:
    class Slow:
        async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
            await trio.sleep(0.3)
            if token != "right":
                raise livechat.InvalidToken("token: wrong")
            return livechat.Identity(livechat.UserId("alice"))

    config = make_config(tmp_path, gateway={"identify_timeout_ms": 200})
    async with livechat.open_server(config, authenticator=Slow()) as server:
        async with connected(server) as client:
            assert (await client.refused(IDENTIFY, {"token": "wrong"}))["code"] == 1001
            assert (await client.request(IDENTIFY, {"token": "right"}))["op"] == READY
        async with connected(server) as client:
            await client.refused(IDENTIFY, {"token": "wrong"})
            assert await client.closed() == 4506


async def test_a_token_that_ends_closes_unless_it_is_renewed(tmp_path: Path) -> None:
    class Minting:
        """Takes a token for what it says: its own life in milliseconds."""

        async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
            return livechat.Identity(livechat.UserId("alice"), expires_at=time.time_ns() // 1_000_000 + int(token))

    config = make_config(tmp_path)
    async with livechat.open_server(config, authenticator=Minting()) as server, connected(server) as client:
        assert (await client.refused(IDENTIFY, {"token": "-1"}))["code"] == 1001
        assert (await client.request(IDENTIFY, {"token": "300"}))["op"] == READY
        renewed = await client.ack(IDENTIFY, {"token": "600"})
        assert await client.closed() == 4502
        assert time.time_ns() // 1_000_000 >= renewed["expires_at"]
        await wait_until(lambda: counted(server)["sessions"] == 0)


async def test_a_flood_of_pongs_and_fragments_stalls_nobody_and_ends(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        raw_connected(server) as flood,
    ):
        await flood.send(masked(0x8A, b"") * 20_000)
        await alice.ack(LIST)
        await flood.send(masked(0x02, b"") + masked(0x00, b"") * 5_000)
        assert await flood.closed() == 4503


async def test_before_a_token_was_shown_a_message_may_not_be_large(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with raw_connected(server) as nobody:
            await nobody.send(masked(TEXT, bytes(200_000)))
            assert await nobody.closed() == 1009
        async with identified(server, "alice") as alice:
            await alice.ws.send("x" * 200_000)
            assert (await alice.expect(ERROR))["code"] == 1005


async def test_the_upgrade_shows_no_secret_in_the_log(tmp_path: Path) -> None:
    """What a hostile head makes fail is neither logged with its token nor without an answer."""
    async with running_server(tmp_path) as server:
        host, port = server.addresses.tcp[0]
        with capture_logs() as logs:
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(
                    b"GET /ws?token=t0ps3cret HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    b"Connection: \xff\r\nAuthorization: Bearer t0ps3cret\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 400")
        assert "t0ps3cret" not in repr(logs)
        assert logs == []
