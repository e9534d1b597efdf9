"""What `livechat listen` and `livechat talk` say before they connect."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import attrs
import pytest
import trio

from livechat.cli.main import main
from livechat.cli.voice import find_caller, run_until_stopped
from livechat.client.error import CannotConnect, FloorLost
from livechat.error import ChannelNotFound, ConfigError
from livechat.tokens.private_file import replace_private
from tests.support.process import clean_environment

SIGNED = "aaa.bbb.ccc"


@attrs.define
class Shell:
    """The commands run in this process."""

    capsys: pytest.CaptureFixture[str]

    def assert_refused(self, *arguments: str, expected: str) -> None:
        """Assert that a command ends with status 2 and one line of reason."""
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = self.capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("livechat: ")
        assert expected in line


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVECHAT_SECRET", "correct horse battery staple")
    return Shell(capsys)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["listen"], "CHANNEL"),
        (["talk"], "CHANNEL"),
        (["listen", "x", "--port", "0"], "--port"),
        (["listen", "x", "--profile", "NULL"], "--profile"),
        (["listen", "x", "--url", "ftp://x"], "--server: expected http(s)://HOST:PORT or ws(s)://HOST:PORT/ws"),
        (
            ["listen", "x", "--url", "127.0.0.1:8080"],
            "--server: expected http(s)://HOST:PORT or ws(s)://HOST:PORT/ws",
        ),
        (["listen", "x", "--url", "ws://[::1"], "--server: expected http(s)://HOST:PORT or ws(s)://HOST:PORT/ws"),
        (["listen", "x", "--url", "wss://h", "--cacert", "/no/such.pem"], "cannot read /no/such.pem"),
        (["listen", "x", "--token-file", "/no/such/token"], "cannot read /no/such/token"),
        (["listen", "x", "--record", "x.wav", "--ffmpeg", "/no/such/ffmpeg"], "/no/such/ffmpeg cannot be run"),
        (["talk", "x"], "expected one of --file and --device"),
        (["talk", "x", "--file", "a", "--device", "b"], "expected one of --file and --device"),
        (["talk", "x", "--file", "no-such.opus"], "cannot read no-such.opus"),
        (["talk", "x", "--device", "d", "--loop", "-2"], "--loop"),
        (["talk", "x", "--device", "d", "--ffmpeg", "/no/such/ffmpeg"], "/no/such/ffmpeg cannot be run"),
    ],
)
def test_a_wrong_argument_is_one_line(shell: Shell, arguments: list[str], expected: str) -> None:
    shell.assert_refused(*arguments, expected=expected)


def test_where_ffmpeg_and_ffplay_are_missing_it_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    shell.assert_refused("talk", "x", "--device", "d", expected="ffmpeg is not installed")
    shell.assert_refused("listen", "x", "--record", "x.wav", expected="ffmpeg is not installed")
    shell.assert_refused("listen", "x", "--play", expected="ffplay is not installed")


def test_a_token_file_that_others_can_read_is_refused(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(0o644)
    shell.assert_refused("listen", "x", "--token-file", str(path), expected="can be read by others")


def test_where_no_server_listens_it_says_so(shell: Shell) -> None:
    shell.assert_refused("listen", "x", "--url", "ws://127.0.0.1:1/ws", expected="cannot connect to 127.0.0.1:1")


# --- who comes in -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "ws://127.0.0.1:8080/ws"),
        ("http://h:1", "ws://h:1/ws"),
        ("https://h/", "wss://h/ws"),
        ("ws://h:1/ws", "ws://h:1/ws"),
        ("wss://[::1]:1/behind/ws", "wss://[::1]:1/behind/ws"),
    ],
)
def test_the_gateway_is_found_by_its_url_or_the_server_s(shell: Shell, given: str | None, url: str) -> None:
    caller = find_caller("listener", given, None, None, None, None, None)
    assert caller.url == url
    assert (caller.tls is not None) == url.startswith("wss")
    assert "correct horse" not in repr(caller)


def test_a_name_is_made_up_unless_one_is_given_or_the_token_has_one(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "token"

    def user(token: str | None, name: str | None) -> str | None:
        if token is not None:
            replace_private(path, token)
        return find_caller("listener", None, None, path if token else None, name, None, None).user_id

    made_up = [user(token, None) for token in (None, None, "a-secret")]
    assert all(name is not None and name.startswith("listener-") for name in made_up)
    assert len(set(made_up)) == 3
    assert user(SIGNED, None) is None
    assert user(SIGNED, "bob") == user("a-secret", "bob") == user(None, "bob") == "bob"


async def test_where_only_signed_tokens_are_taken_it_makes_them_itself(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECHAT_AUTH_MODE", "jwt")
    caller = find_caller("listener", None, None, None, "bob", None, None)
    assert not isinstance(caller.token, str)
    assert (await caller.token()).count(".") == 2


# --- how it ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ChannelNotFound("no channel 'x'"), "refused: no channel 'x' (2000)"),
        (FloorLost("x", "preempted"), "the floor of x was lost: preempted"),
        (ConfigError("x: the channel was deleted"), "x: the channel was deleted"),
        (trio.TooSlowError(), "the server does not answer"),
        (CannotConnect("cannot connect:\r\n\x1b[31mred"), "cannot connect: \N{REPLACEMENT CHARACTER}[31mred"),
        (OSError(), "OSError"),
    ],
)
def test_whatever_ends_it_is_one_line(error: Exception, line: str) -> None:
    async def fail() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    with pytest.raises(ConfigError) as raised:
        run_until_stopped(fail)
    assert str(raised.value) == line


def test_a_bug_is_not_taken_for_a_refusal() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("oops")

    with pytest.raises(ExceptionGroup):
        run_until_stopped(fail)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    ended = []

    async def stay() -> None:
        signal.raise_signal(number)
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    run_until_stopped(stay)
    assert ended == [True]
