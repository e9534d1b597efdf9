"""`livechat serve` as a process: what it prints, how it ends, what survives a kill."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.support.client import CREATE, INFO, JOIN, MESSAGE, RECONNECT, identified
from tests.support.process import run_livechat, serving
from tests.support.server import SECRET

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
QUICK = {"LIVECHAT_GATEWAY_DRAIN_MS": "200"}


async def test_without_a_secret_one_is_made_and_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with serving(data_dir, env=QUICK) as server:
        secret_file = data_dir / "secret"
        secret = secret_file.read_text().strip()
        assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert len(secret) >= 32
        # The banner tells where the secret is, never what it is.
        assert str(secret_file) in server.banner
        assert secret not in server.banner
        async with identified(server.url, "alice", token=secret) as alice:
            await alice.ack(CREATE, {"channel_id": "x"})
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
    async with serving(data_dir) as server, identified(server.url, "alice", token=secret) as alice:
        assert (await alice.ack(INFO, {"channel_id": "x"}))["role"] == "owner"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_0(number: signal.Signals, tmp_path: Path) -> None:
    async with serving(tmp_path, env={**QUICK, "LIVECHAT_SECRET": SECRET}) as server:
        async with identified(server.url, "alice") as alice:
            server.send(number)
            assert (await alice.expect(RECONNECT))["delay_ms"] <= 200
            assert await alice.closed() == 4003
        assert await server.ended() == 0


async def test_a_second_signal_does_not_wait_for_clients(tmp_path: Path) -> None:
    env = {"LIVECHAT_GATEWAY_DRAIN_MS": "3600000", "LIVECHAT_SECRET": SECRET}
    async with serving(tmp_path, env=env) as server, identified(server.url, "alice") as alice:
        server.send(signal.SIGINT)
        await alice.expect(RECONNECT)
        server.send(signal.SIGINT)
        assert await alice.closed() == 4003
        assert await server.ended() == 0


@pytest.mark.parametrize("how", ["while it drains", "while it closes"])
async def test_a_second_signal_does_not_wait_for_clients_that_say_nothing(tmp_path: Path, how: str) -> None:
    drain_ms = "3600000" if how == "while it drains" else "0"
    env = {
        "LIVECHAT_GATEWAY_DRAIN_MS": drain_ms,
        "LIVECHAT_GATEWAY_CLOSE_TIMEOUT_MS": "3600000",
        "LIVECHAT_GATEWAY_HEAD_TIMEOUT_MS": "3600000",
        "LIVECHAT_SECRET": SECRET,
    }
    async with serving(tmp_path, env=env) as server, identified(server.url, "alice") as alice:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        # One that sends nothing, and one that will not answer the close frame.
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as mute:
            mute.sendall(UPGRADE)
            assert mute.recv(12) == b"HTTP/1.1 101"
            server.send(signal.SIGINT)
            await alice.expect(RECONNECT)
            if how == "while it closes":
                assert await alice.closed() == 4003
            server.send(signal.SIGINT)
            assert await server.ended() == 0


async def test_an_acknowledged_message_survives_a_kill(tmp_path: Path) -> None:
    env = {"LIVECHAT_SECRET": SECRET}
    acked: dict[int, str] = {}
    for round_number in range(3):
        async with serving(tmp_path, env=env) as server, identified(server.url, "alice") as alice:
            if round_number == 0:
                await alice.ack(CREATE, {"channel_id": "x"})
                await alice.ack(JOIN, {"channel_id": "x"})
            for index in range(50):
                nonce = f"{round_number}-{index}"
                stored = await alice.say("x", f"message {nonce}", nonce=nonce)
                acked[stored["seq"]] = nonce
            # More on their way when the process dies: each is either there or not, without a hole.
            for index in range(50, 100):
                d = {"channel_id": "x", "content": "in flight", "nonce": f"{round_number}-{index}"}
                await alice.send(MESSAGE, d)
            server.send(signal.SIGKILL)
            await server.ended()
    async with (
        serving(tmp_path, env=env) as server,
        identified(server.url, "alice") as alice,
    ):
        last_seq = (await alice.ack(INFO, {"channel_id": "x"}))["last_seq"]
        for seq, nonce in acked.items():
            again = await alice.say("x", f"message {nonce}", nonce=nonce)
            assert (again["seq"], again["duplicate"]) == (seq, True)
        # The messages in flight fill the gaps between the rounds: together they are one sequence.
        known = set(acked) | {1}
        for round_number in range(3):
            for index in range(50, 100):
                again = await alice.say("x", "in flight", nonce=f"{round_number}-{index}")
                if again["duplicate"]:
                    known.add(again["seq"])
        assert known == set(range(1, last_seq + 1))


def test_a_taken_port_is_one_line_and_exit_2(tmp_path: Path) -> None:
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        taken = str(tcp.getsockname()[1])
        assert_refused("serve", "--port", taken, "--data-dir", str(tmp_path), expected="address already in use")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        taken = str(udp.getsockname()[1])
        arguments = ["serve", "--port", "0", "--udp-port", taken, "--data-dir", str(tmp_path)]
        assert_refused(*arguments, expected="address already in use")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve", "--port", "70000"], "port: expected 0 to 65535"),
        (["serve", "--port", "abc"], "'abc' is not a valid integer"),
        (["serve", "--config", "/no/such/file.toml"], "cannot read /no/such/file.toml"),
        (["serve", "--tls-cert", "cert.pem"], "tls_cert and tls_key"),
        (["serve", "--tls-cert", "/no/cert.pem", "--tls-key", "/no/key.pem"], "cannot read /no/cert.pem"),
        (["serve", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["serve", "--port", "0", "--udp-port", "0", "--data-dir", "/dev/null/x"], "/dev/null"),
        (["serve", "--log-level", "loud"], "'loud'"),
        (["serve", "--no-such-option"], "--no-such-option"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_2(arguments: list[str], expected: str) -> None:
    assert_refused(*arguments, expected=expected)


def test_a_guessable_secret_is_not_shown_to_a_network(tmp_path: Path) -> None:
    arguments = ["serve", "--host", "0.0.0.0", "--port", "0", "--udp-port", "0", "--data-dir", str(tmp_path)]
    for secret in ("secret", "a" * 40, "password12345"):
        assert_refused(*arguments, expected="beyond loopback", env={"LIVECHAT_SECRET": secret})


def test_the_environment_is_checked_like_the_rest() -> None:
    expected = "LIVECHAT_PORT: expected a whole number, got 'many'"
    assert_refused("serve", expected=expected, env={"LIVECHAT_PORT": "many"})
    assert_refused("serve", expected="drain_ms", env={"LIVECHAT_GATEWAY_DRAIN_MS": "-1"})


async def test_a_data_folder_belongs_to_one_server(tmp_path: Path) -> None:
    async with serving(tmp_path):
        arguments = ["serve", "--port", "0", "--udp-port", "0", "--data-dir", str(tmp_path)]
        finished = await trio.to_thread.run_sync(lambda: run_livechat(*arguments))
        assert finished.returncode == 2
        assert "in use by another livechat" in finished.stderr


def test_an_unreadable_secret_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("something")
    os.chmod(secret, 0o644)
    arguments = ["serve", "--port", "0", "--udp-port", "0", "--data-dir", str(tmp_path)]
    assert_refused(*arguments, expected="can be read by others")


def test_version_and_help() -> None:
    assert run_livechat("--version").stdout.startswith("livechat, version ")
    for arguments in (["--help"], ["serve", "--help"]):
        finished = run_livechat(*arguments)
        assert finished.returncode == 0
        assert "Usage: livechat" in finished.stdout


def assert_refused(*arguments: str, expected: str, env: dict[str, str] | None = None) -> None:
    """Assert that the command ends with status 2 and one line of reason."""
    finished = run_livechat(*arguments, env=env)
    assert finished.returncode == 2, finished
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("livechat: ")
    assert expected in line


async def test_the_echo_for_tests_is_asked_for_by_a_flag_and_warned_of(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(tmp_path / "data", "--debug-echo", env=QUICK, log=log) as server:
        async with open_websocket_url(server.url.removesuffix("/ws") + "/debug/echo") as ws:
            await ws.send_message("hello")
            assert await ws.get_message() == "hello"
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
    assert "anybody may use the echo" in log.read_text()
