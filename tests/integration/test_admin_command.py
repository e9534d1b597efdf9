"""`livechat admin` and `livechat trace` against real servers, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import structlog
import trio
import trustme

import livechat
from livechat.cli.main import main
from livechat.error import Overloaded
from tests.support.client import CREATE, FLOOR_REQUEST, JOIN, MEDIA_UPDATE, connected, identified
from tests.support.process import clean_environment, run_livechat, serving
from tests.support.pty_process import run_on_terminal, without_colours
from tests.support.server import SECRET, running_server, wait_until


@attrs.define
class Shell:
    """Commands run in this process; the environment and what they print are the test's."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    where: tuple[str, ...] = ()

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command; return (exit status, stdout, stderr)."""
        self.monkeypatch.setenv("LIVECHAT_SECRET", SECRET)
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *self.where])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self.capsys.readouterr()

    def assert_refused(self, *arguments: str, expected: str) -> None:
        """Assert that a command ends with status 2 and one line of reason."""
        status, out, err = self.run(*arguments)
        assert (status, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("livechat: ")
        assert expected in line
        assert SECRET not in line


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    # The server of the test logs to where the command prints.
    with structlog.testing.capture_logs():
        yield Shell(monkeypatch, capsys)


async def in_thread(function: Callable[..., Any], *arguments: str) -> Any:
    """Run what blocks beside the server."""
    return await trio.to_thread.run_sync(partial(function, *arguments))


def at(server: livechat.Server) -> tuple[str, ...]:
    """Return the options that name a server."""
    return "--server", server.url.replace("ws", "http", 1).removesuffix("/ws")


async def test_each_command_shows_what_there_is(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        shell.where = at(server)
        await alice.ack(CREATE, {"channel_id": "lobby", "channel_name": "The \x1b[2J lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby", "media": {}})
        seen = {}
        for command in ("status", "users", "users alice", "channels", "channels lobby", "peers", "peers 1"):
            status, seen[command], err = await in_thread(shell.run, "admin", *command.split())
            assert (status, err) == (0, ""), command
            assert "\x1b" not in seen[command]
        assert "store      ok\n" in seen["status"]
        assert "1 user  1 session (0 parked)" in seen["status"]
        header, row = seen["users"].splitlines()
        assert (header.split()[:2], row.split()[:3]) == (["USER", "STATUS"], ["alice", "ONLINE", "1"])
        assert "user      alice" in seen["users alice"]
        assert "CHUNKS LOST" in seen["users alice"]
        assert alice.ready["session_id"] not in seen["users alice"]
        assert "lobby" in seen["channels"].splitlines()[1]
        assert "The �[2J lobby" in seen["channels lobby"]
        assert "alice" in seen["channels lobby"].splitlines()[-1]
        assert seen["peers"] == seen["peers 1"]
        assert await in_thread(shell.run, "admin", "peers", "--channel", "other") == (
            0,
            "there are no voices\n",
            "",
        )


async def test_for_scripts_every_line_is_a_json_object(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice, identified(server, "bob"):
        shell.where = at(server)
        for channel_id in ("x", "y"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            await alice.ack(JOIN, {"channel_id": channel_id, "media": {}})
        for arguments, field, values in [
            (["status"], "node_id", [server.node_id]),
            (["users"], "user_id", ["alice", "bob"]),
            (["users", "bob"], "user_id", ["bob"]),
            (["channels"], "channel_id", ["x", "y"]),
            (["peers"], "peer_id", [1, 2]),
            (["peers", "2"], "channel_id", ["y"]),
            (["channels", "x"], "members_here", [["alice"]]),
        ]:
            status, out, _ = await in_thread(shell.run, "admin", *arguments, "--json")
            assert status == 0
            assert [json.loads(line)[field] for line in out.splitlines()] == values


async def test_lists_go_on_over_their_pages(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livechat.cli.remote.PAGE", 2)
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        shell.where = at(server)
        for number in range(5):
            await alice.ack(CREATE, {"channel_id": f"c{number}"})
        _, out, _ = await in_thread(shell.run, "admin", "channels", "--json")
        assert [json.loads(line)["channel_id"] for line in out.splitlines()] == [f"c{n}" for n in range(5)]


async def test_a_kick_from_the_shell(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        shell.where = at(server)
        status, out, _ = await in_thread(shell.run, "admin", "kick", "alice", "--reason", "be nice", "--ban", "1h")
        assert status == 0
        assert out.startswith("kicked alice: 1 session ended, banned until ")
        assert await alice.closed() == 4507
        assert alice.ws.close_reason == "be nice"
        status, out, _ = await in_thread(shell.run, "admin", "kick", "bob", "--json")
        assert (status, json.loads(out)) == (0, {"user_id": "bob", "sessions_ended": 0})


async def test_keys_change_from_the_shell(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        shell.where = at(server)
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x", "media": {}})
        status, out, _ = await in_thread(shell.run, "admin", "rekey", "x")
        assert (status, out) == (0, "x: 1 voice rekeyed\n")
        assert (await alice.expect(MEDIA_UPDATE))["cause"] == "demand"
        status, out, _ = await in_thread(shell.run, "admin", "rekey", "x", "--user", "bob", "--json")
        assert (status, json.loads(out)) == (0, {"channel_id": "x", "voices": 0})
        await in_thread(partial(shell.assert_refused, "admin", "rekey", "y", expected="refuses: no channel 'y'"))


async def test_a_server_whose_store_does_not_work_is_status_1(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_server(tmp_path) as server:
        shell.where = at(server)

        def fail(*_: object) -> None:
            raise Overloaded("too many")

        monkeypatch.setattr(server._node.store, "submit", fail)
        status, out, _ = await in_thread(shell.run, "admin", "status")
        assert status == 1
        assert "store      failed\n" in out
        monkeypatch.undo()


async def test_the_trace_in_a_pipe(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, trio.open_nursery() as nursery:
        shell.where = at(server)
        outcomes = []

        async def trace(*arguments: str) -> None:
            outcomes.append(await in_thread(shell.run, "trace", *arguments))

        nursery.start_soon(trace, "x", "--limit", "3", "--filter", "user=alice", "--filter", "direction=in")
        await wait_until(lambda: server._node.packets.is_watched)
        async with identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x"})
            await alice.say("x", "a secret")
        await wait_until(lambda: outcomes)
        ((status, out, err),) = outcomes
        assert (status, err) == (0, "")
        shown = [line.split()[1:5] for line in out.splitlines()]
        assert shown == [
            ["in", f"{name}", "x", "alice"] for name in ("CHANNEL_CREATE", "CHANNEL_JOIN", "MESSAGE_CREATE")
        ]
        assert "secret" not in out
        outcomes.clear()
        await wait_until(lambda: not server._node.packets.is_watched)
        nursery.start_soon(trace, "--limit", "2", "--json", "--filter", "errors")
        await wait_until(lambda: server._node.packets.is_watched)
        async with identified(server, "alice") as alice:
            await alice.refused(JOIN, {"channel_id": "none"})
            await alice.refused(JOIN, {"channel_id": "no id"})
        await wait_until(lambda: outcomes)
        assert [json.loads(line)["code"] for line in outcomes[0][1].splitlines()] == [2000, 1004]


async def test_on_a_terminal_the_trace_goes_on_until_ctrl_c(tmp_path: Path) -> None:
    async with serving(tmp_path, env={"LIVECHAT_SECRET": SECRET}) as server, trio.open_nursery() as nursery:
        (tmp_path / "secret").write_text(SECRET)
        (tmp_path / "secret").chmod(0o600)
        where = ("--server", server.url.replace("ws", "http", 1).removesuffix("/ws"), "--data-dir", str(tmp_path))
        outcomes = []

        async def trace() -> None:
            run = partial(run_on_terminal, 60, "trace", *where, interrupt_at=lambda text: "CLOSE" in text)
            outcomes.append(await trio.to_thread.run_sync(run))

        nursery.start_soon(trace)
        while not outcomes:  # until it watches, and has seen one go
            async with identified(server.url, "a" * 60):
                pass
        status, written = outcomes[0]
        assert status == 130
        assert "\x1b[36min" in written
        lines = without_colours(written).splitlines()
        assert max(map(len, lines)) <= 60
        assert not [line for line in lines if "Traceback" in line]


async def test_on_a_terminal_the_status_is_shown_again_and_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        where = ("--server", server.url.replace("ws", "http", 1).removesuffix("/ws"), "--data-dir", str(tmp_path))
        options = ("admin", "status", "--watch", "--interval", "0.1", *where)
        run = partial(run_on_terminal, 40, *options, interrupt_at=lambda text: text.count("backplane") >= 3)
        status, written = await trio.to_thread.run_sync(run)
        assert status == 130
        assert max(map(len, without_colours(written).splitlines())) <= 40
        assert "Traceback" not in written


async def test_a_pipe_that_is_closed_ends_it_quietly(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        where = f"--server {server.url.replace('ws', 'http', 1).removesuffix('/ws')} --data-dir {tmp_path}"
        command = f"{sys.executable} -m livechat admin status --watch --interval 0.1 --json {where} | head -n 1"
        finished = await trio.run_process(
            ["sh", "-c", command], capture_stdout=True, capture_stderr=True, env=clean_environment()
        )
        assert len(finished.stdout.splitlines()) == 1
        assert finished.stderr == b""


async def test_a_server_that_goes_ends_the_trace_with_one_line(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, trio.open_nursery() as nursery:
        where = ("--server", server.url.replace("ws", "http", 1).removesuffix("/ws"), "--data-dir", str(tmp_path))
        outcomes = []

        async def trace() -> None:
            outcomes.append(await in_thread(run_livechat, "trace", *where))

        nursery.start_soon(trace)
        status = ("admin", "status", "--json", *where)
        while json.loads((await in_thread(run_livechat, *status)).stdout)["trace_watchers"] == 0:
            pass
        server.process.kill()
        await wait_until(lambda: outcomes)
        assert outcomes[0].returncode == 2
        (line,) = outcomes[0].stderr.splitlines()
        assert line.startswith(f"livechat: cannot reach {where[1]}: ")


async def test_what_the_server_refuses_is_said_in_its_words(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        shell.where = at(server)
        for arguments, expected in [
            (["admin", "users", "no id"], "refuses: user_id: expected 1 to 64"),
            (["admin", "users", "../status"], "refuses: "),
            (["admin", "channels", "none"], "refuses: no channel 'none'"),
            (["admin", "peers", "7"], "refuses: peer_id: no such media peer"),
            (["admin", "kick", "no id"], "refuses: user_id"),
            (["admin", "kick", "alice", "--reason", "x" * 200], "refuses: reason"),
            (["trace", "no id"], "refuses: channel"),
            (["trace", "--filter", "op=NO_SUCH_OP"], "refuses: op: expected names or numbers"),
            (["trace", "--filter", "direction=up"], "refuses: direction"),
        ]:
            await in_thread(partial(shell.assert_refused, *arguments, expected=expected))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["admin", "peers", "x"], "'x' is not a valid integer"),
        (["admin", "kick"], "USER"),
        (["admin", "kick", "alice", "--ban", "soon"], "expected a time span"),
        (["admin", "status", "--interval", "0"], "--interval"),
        (["admin", "no-such-command"], "no-such-command"),
        (["trace", "--filter", "colour=red"], "expected user=, session=, op=, direction= or errors"),
        (["trace", "--filter", "user="], "expected user="),
        (["trace", "--limit", "0"], "--limit"),
    ],
)
def test_a_wrong_argument_is_one_line(shell: Shell, arguments: list[str], expected: str) -> None:
    shell.assert_refused(*arguments, expected=expected)


@pytest.mark.parametrize("arguments", [["admin", "status"], ["admin", "users"], ["admin", "kick", "x"], ["trace"]])
def test_where_no_server_listens_it_says_so(shell: Shell, arguments: list[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}"
        shell.assert_refused(*arguments, "--server", where, expected=f"cannot reach {where}: connection refused")


async def test_a_trace_outlives_its_token(shell: Shell, tmp_path: Path) -> None:
    shell.monkeypatch.setattr("livechat.cli.remote.STREAM_TOKEN_LIFETIME_S", 1.0)
    shell.monkeypatch.setenv("LIVECHAT_AUTH_MODE", "jwt")
    jwt = livechat.AuthSettings(mode="jwt")
    async with running_server(tmp_path, auth=jwt) as server, trio.open_nursery() as nursery:
        shell.where = at(server)
        packets, outcomes = server._node.packets, []

        async def trace() -> None:
            outcomes.append(await in_thread(shell.run, "trace", "--json", "--limit", "2", "--filter", "op=HELLO"))

        nursery.start_soon(trace)
        for _ in range(2):
            await wait_until(lambda: packets.is_watched)
            (watcher,) = packets._watchers
            async with connected(server):
                pass
            await wait_until(lambda: packets._watchers != [watcher])  # noqa: B023 - waited for within the turn
        await wait_until(lambda: outcomes)
        status, out, err = outcomes[0]
        assert (status, err) == (0, "")
        assert [json.loads(each)["name"] for each in out.splitlines()] == ["HELLO", "HELLO"]


async def test_https_asked_of_a_server_without_it_is_said(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        shell.where = ("--server", at(server)[1].replace("http:", "https:"))
        await in_thread(partial(shell.assert_refused, "admin", "status", expected=": TLS: wrong version number"))


async def test_a_certificate_of_nobody_known_is_said(shell: Shell, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    pem = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    async with running_server(tmp_path, tls_cert=pem, tls_key=pem) as server:
        shell.where = ("--server", f"https://127.0.0.1:{server.addresses.tcp[0][1]}")
        await in_thread(
            partial(shell.assert_refused, "admin", "status", expected=": its certificate is not trusted: ")
        )


def test_each_command_is_told_in_a_whole_line(shell: Shell) -> None:
    status, out, _ = shell.run()
    assert status == 2
    assert out == ""
    shell.where = ("--help",)
    status, out, _ = shell.run()
    assert status == 0
    assert "Tell everybody something." in out
    assert "..." not in out.partition("Commands:")[2]


async def test_the_floor_of_a_channel_is_shown_and_taken_away(shell: Shell, tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        shell.where = at(server)
        await alice.ack(CREATE, {"channel_id": "ops", "mode": "ptt"})
        revoke = partial(in_thread, shell.run, "admin", "floor-revoke", "ops")
        assert "floor" not in (await in_thread(shell.run, "admin", "channels", "ops"))[1]
        await in_thread(
            partial(shell.assert_refused, expected="nobody has the floor"), "admin", "floor-revoke", "ops"
        )
        for client, priority in ((alice, 7), (bob, 6)):
            await client.ack(JOIN, {"channel_id": "ops"})
            await client.ack(FLOOR_REQUEST, {"channel_id": "ops", "priority": priority}, id=1)
        _, shown, _ = await in_thread(shell.run, "admin", "channels", "ops")
        assert re.search(r"^floor +alice \(normal, priority 7\)  for .* left$", shown, re.MULTILINE)
        assert re.search(r"^waiting +bob \(normal, priority 6\)$", shown, re.MULTILINE)
        assert await revoke() == (0, "floor of ops taken from alice\n", "")
        _, out, _ = await revoke("--json")
        assert json.loads(out) == {"channel_id": "ops", "user_id": "bob"}
        await in_thread(partial(shell.assert_refused, expected="none"), "admin", "floor-revoke", "none")
