"""`livechat user` on a running server, and on the store of one that does not run."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
import structlog
import trio

import livechat
from livechat.cli import user
from livechat.cli.main import main
from livechat.error import ConfigError
from tests.support.accounts import NEW_PASSWORD, PASSWORD
from tests.support.client import identified
from tests.support.logins import at, log_in, refresh, register
from tests.support.logins import serving as accounts_serving
from tests.support.process import clean_environment, serving
from tests.support.server import SECRET, running_server

QUICK = {"LIVECHAT_ACCOUNTS_ARGON2_MEMORY_KIB": "8", "LIVECHAT_ACCOUNTS_ARGON2_PASSES": "1"}
NOWHERE = {"LIVECHAT_PORT": "1"}
"""Where nobody listens."""

Outcome = tuple[int, str, str]
"""(exit status, stdout, stderr)."""


@attrs.define
class Shell:
    """The command run in this process; its environment, its input and what it prints are the test's."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str, password: str = "", **env: str) -> Outcome:
        """Run the command with standard input that is no terminal."""
        with self.monkeypatch.context() as patch:
            for name, value in (QUICK | env).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.StringIO(password))
            with pytest.raises(SystemExit) as ended:
                main(["user", *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self.capsys.readouterr()

    async def ran(self, *arguments: str, password: str = "", **env: str) -> Outcome:
        """The same beside a server."""
        # What the server printed so far is not the command's.
        self.capsys.readouterr()
        return await trio.to_thread.run_sync(lambda: self.run(*arguments, password=password, **env))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    # Of servers in this process nothing is to be heard.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield Shell(monkeypatch, capsys)
    structlog.reset_defaults()


def assert_refused(outcome: tuple[int, str, str], expected: str) -> None:
    """Assert one line and status 2."""
    status, out, err = outcome
    assert (status, out) == (2, ""), outcome
    (line,) = err.splitlines()
    assert line.startswith("livechat: ")
    assert expected in line, line


def test_in_the_store_while_no_server_runs(shell: Shell, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    added = shell.run(
        "add", "ann", "--name", "Ann", "--scope", "chat", *where, password=f"{PASSWORD}\n", **NOWHERE
    )
    assert added == (0, "made ann\n", "")
    assert shell.run("add", "bob", *where, password=PASSWORD, **NOWHERE) == (0, "made bob\n", "")
    assert shell.run("list", *where, **NOWHERE) == (0, "ann\tchat\tAnn\nbob\tchat\t\n", "")
    changed = shell.run("passwd", "ANN", *where, password=NEW_PASSWORD, **NOWHERE)
    assert changed == (0, "changed ann; all logins have ended\n", "")
    assert shell.run("remove", "bob", *where, **NOWHERE) == (0, "removed bob\n", "")
    assert_refused(shell.run("remove", "bob", *where, **NOWHERE), "there is no such account")
    assert_refused(shell.run("passwd", "bob", *where, password=PASSWORD, **NOWHERE), "there is no such account")
    assert_refused(shell.run("add", "Ann", *where, password=PASSWORD, **NOWHERE), "user_id: taken")
    assert_refused(shell.run("add", "eve", *where, password="short", **NOWHERE), "password: expected 8 to 1024")
    assert_refused(shell.run("add", "eve", *where, **NOWHERE), "password: expected on standard input")
    assert_refused(shell.run("add", "a b", *where, password=PASSWORD, **NOWHERE), "user_id: expected")
    scope = shell.run("add", "eve", "--scope", "root", *where, password=PASSWORD, **NOWHERE)
    assert_refused(scope, "scopes: expected some of")


async def test_an_account_of_the_store_is_there_when_the_server_runs(shell: Shell, tmp_path: Path) -> None:
    await shell.ran("add", "ann", "--data-dir", str(tmp_path), password=PASSWORD, **NOWHERE)
    async with accounts_serving(tmp_path) as server, at(server) as client:
        tokens = await log_in(client)
    assert (await shell.ran("passwd", "ann", "--data-dir", str(tmp_path), password=NEW_PASSWORD, **NOWHERE))[
        0
    ] == 0
    async with accounts_serving(tmp_path) as server, at(server) as client:
        assert (await refresh(client, tokens)).status_code == 401
        await log_in(client, password=NEW_PASSWORD)


async def test_on_a_server_that_runs(shell: Shell, tmp_path: Path) -> None:
    async with serving(tmp_path, env=QUICK) as server:
        address = urlsplit(server.url)
        where = ("--data-dir", str(tmp_path))
        port = {"LIVECHAT_PORT": str(address.port)}
        named = (*where, "--server", f"http://{address.netloc}")
        assert await shell.ran("add", "ann", *where, password=PASSWORD, **port) == (0, "made ann\n", "")
        assert await shell.ran("list", *named, **NOWHERE) == (0, "ann\tchat\t\n", "")
        again = await shell.ran("add", "ANN", *named, password=PASSWORD, **NOWHERE)
        assert_refused(again, "refuses: user_id: taken")
        scoped = await shell.ran("add", "bot", "--scope", "chat,publish", *named, password=PASSWORD, **NOWHERE)
        assert scoped == (0, "made bot\n", "")
        assert (await shell.ran("list", *named, **NOWHERE))[1] == "ann\tchat\t\nbot\tchat,publish\t\n"
        scope = await shell.ran("add", "eve", "--scope", "root", *named, password=PASSWORD, **NOWHERE)
        assert_refused(scope, "refuses: scopes[0]: expected one of chat, publish, admin")
        assert (await shell.ran("passwd", "ann", *named, password=NEW_PASSWORD, **NOWHERE))[0] == 0
        assert await shell.ran("remove", "Ann", *where, **port) == (0, "removed ann\n", "")
        # Where the server is not found, its database is still its own.
        assert_refused(await shell.ran("list", *where, **NOWHERE), "is in use by another livechat")


async def test_sessions_end_with_the_account(shell: Shell, tmp_path: Path) -> None:
    async with accounts_serving(tmp_path) as server, at(server) as client:
        tokens = await register(client)
        port = str(server.addresses.tcp[0][1])
        async with identified(server, "ann", token=tokens["access_token"]) as ann:
            removed = await shell.ran("remove", "ann", LIVECHAT_PORT=port, LIVECHAT_SECRET=SECRET)
            assert removed == (0, "removed ann\n", "")
            assert await ann.closed() == 4502


async def test_a_name_cannot_draw_on_the_operators_terminal(shell: Shell, tmp_path: Path) -> None:
    async with accounts_serving(tmp_path) as server, at(server) as client:
        await register(client, display_name="\x1b[31mred\nline")
        port = str(server.addresses.tcp[0][1])
        status, out, _ = await shell.ran("list", LIVECHAT_PORT=port, LIVECHAT_SECRET=SECRET)
        assert (status, out) == (0, "ann\tchat\t\N{REPLACEMENT CHARACTER}[31mred line\n")


async def test_where_there_can_be_no_accounts_it_says_so(shell: Shell, tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    for setting, expected in (
        ({"LIVECHAT_AUTH_MODE": "shared-secret"}, "switched off by accounts.enabled or auth.mode"),
        ({"LIVECHAT_ACCOUNTS_ENABLED": "false"}, "switched off by accounts.enabled or auth.mode"),
        ({"LIVECHAT_STORE_URL": "memory:"}, "kept in memory takes a running server"),
        ({"LIVECHAT_ACCOUNTS_HASH_QUEUE": "0"}, "accounts.hash_queue: expected at least 1"),
        ({"LIVECHAT_ACCOUNTS_HASH_QUEUE": "many"}, "HASH_QUEUE: expected a whole number"),
    ):
        assert_refused(await shell.ran("list", *where, **NOWHERE, **setting), expected)
    async with running_server(tmp_path, accounts=livechat.AccountSettings(enabled=False)) as server:
        port = str(server.addresses.tcp[0][1])
        assert_refused(
            await shell.ran("list", LIVECHAT_PORT=port, LIVECHAT_SECRET=SECRET),
            "this server has no accounts of its own",
        )


@pytest.mark.parametrize("arguments", [[], ["add"], ["add", "ann", "secret"], ["list", "--server", "nowhere"]])
def test_a_wrong_argument_is_one_line(shell: Shell, arguments: list[str], tmp_path: Path) -> None:
    status, _, err = shell.run(
        *arguments, *(["--data-dir", str(tmp_path)] if arguments else []), LIVECHAT_SECRET=SECRET
    )
    assert status == 2
    assert "Traceback" not in err
    assert not arguments or len(err.splitlines()) == 1


def test_what_is_no_text_is_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"\xff\xfe\n")
    with path.open(encoding="utf-8") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", file)
        with pytest.raises(ConfigError, match="password: expected text"):
            user.read_password("ann")


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "livechat", "user", "add", "ann", "--data-dir", str(tmp_path)]
    environment = clean_environment() | QUICK | NOWHERE
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        for question in (b"Password of ann: ", b"Repeat for confirmation: "):
            while question not in shown:
                shown += os.read(ours, 1024)
            os.write(ours, f"{PASSWORD}\n".encode())
        while b"made ann" not in shown:
            shown += os.read(ours, 1024)
        assert process.wait() == 0
    os.close(ours)
    assert PASSWORD.encode() not in shown
