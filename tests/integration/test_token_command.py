"""`livechat token`: what it prints lets its holder in, and what it says where it cannot."""

from __future__ import annotations

import base64
import json
import os
import stat
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from livechat.cli.main import main
from tests.support.client import ANNOUNCEMENT, connected
from tests.support.process import clean_environment, run_livechat, serving
from tests.support.server import SECRET
from tests.support.token_client import entered


def claims_of(token: str) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return payload


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return (exit status, stdout, stderr)."""
    with pytest.raises(SystemExit) as ended:
        main(["token", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("mode", [None, "jwt"])
async def test_a_server_process_of_the_same_folder_takes_the_token(mode: str | None, tmp_path: Path) -> None:
    env = {} if mode is None else {"LIVECHAT_AUTH_MODE": mode}
    async with serving(tmp_path, env=env) as server:
        assert (tmp_path / "token-key").read_text().strip() not in server.banner
        arguments = ("token", "alice", "--data-dir", str(tmp_path), "--channels", "team-*", "--expires", "10m")
        finished = await trio.to_thread.run_sync(lambda: run_livechat(*arguments, env=env))
        assert (finished.returncode, finished.stderr) == (0, "")
        (token,) = finished.stdout.splitlines()
        async with connected(server.url, query=f"?token={token}") as alice:
            ready = await entered(alice)
            assert ready["user_id"] == "alice"
            assert 0 < ready["expires_at"] / 1000 - time.time() <= 600


async def test_operators_commands_work_where_only_tokens_are_taken(tmp_path: Path) -> None:
    env = {"LIVECHAT_AUTH_MODE": "jwt"}
    async with serving(tmp_path, env=env) as server:
        where = ("--data-dir", str(tmp_path))
        token = run_livechat("token", "alice", *where, env=env).stdout.strip()
        async with connected(server.url, query=f"?token={token}") as alice:
            await entered(alice)
            told = ("announce", "News", "--server", "http://" + urlsplit(server.url).netloc, *where)
            finished = await trio.to_thread.run_sync(lambda: run_livechat(*told, env=env))
            assert (finished.returncode, finished.stderr) == (0, "")
            assert (await alice.expect(ANNOUNCEMENT))["title"] == "News"


async def test_servers_with_the_same_secret_take_each_others_tokens(tmp_path: Path) -> None:
    env = {"LIVECHAT_SECRET": SECRET}
    token = run_livechat("token", "alice", "--data-dir", str(tmp_path / "elsewhere"), env=env).stdout.strip()
    assert not (tmp_path / "elsewhere").exists()
    async with (
        serving(tmp_path / "data", env=env) as server,
        connected(server.url, query=f"?token={token}") as alice,
    ):
        await entered(alice)
    assert not (tmp_path / "data" / "token-key").exists()


def test_what_is_asked_for_is_in_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(
        capsys,
        *("alice", "--scope", "chat,publish", "--scope", "admin", "--channels", "a* b", "--channels", "c"),
        *("--expires", "90", "--name", "Alice A."),
    )
    assert status == 0
    assert err == f"livechat: there was no key yet; made {Path('livechat-data/token-key').absolute()}\n"
    assert stat.S_IMODE(Path("livechat-data/token-key").stat().st_mode) == 0o600
    claims = claims_of(out.strip())
    assert (claims["sub"], claims["scope"], claims["name"]) == ("alice", "chat publish admin", "Alice A.")
    assert claims["channels"] == ["a*", "b", "c"]
    assert claims["exp"] - claims["iat"] == pytest.approx(90)


@pytest.mark.parametrize(
    ("span", "seconds"), [(None, 3600), ("5s", 5), ("15m", 900), ("2h", 7200), ("30d", 2_592_000), ("7", 7)]
)
def test_a_lifetime_has_a_unit(span: str | None, seconds: int, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "alice", *(() if span is None else ("--expires", span)))
    claims = claims_of(out.strip())
    assert claims["exp"] - claims["iat"] == pytest.approx(seconds)
    assert claims["scope"] == "chat"
    assert "channels" not in claims


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "Missing argument 'USER'"),
        (("a b",), "user_id: expected 1 to 64"),
        (("alice", "--scope", "root"), "scopes: expected some of chat, publish, admin, got 'root'"),
        (("alice", "--channels", "a/b"), "channels: expected patterns"),
        (("alice", "--channels", " , "), "--channels: expected patterns"),
        (("alice", "--expires", "soon"), "expected a time span as 90s"),
        (("alice", "--expires", "0"), "expected a time span"),
        (("alice", "--expires", "-5s"), "expected a time span"),
        (("alice", "--expires", "5000d"), "lifetime_s: expected up to"),
        (("alice", "--name", ""), "name: expected 1 to 100"),
        (("alice", "--config", "none.toml"), "cannot read none.toml"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("livechat: ")
    assert expected in line


def test_a_key_that_others_can_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "alice")
    Path("livechat-data/token-key").chmod(0o644)
    status, out, err = run(capsys, "alice")
    assert (status, out) == (2, "")
    assert "can be read by others" in err


def test_where_only_the_secret_counts_there_are_no_tokens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVECHAT_AUTH_MODE", "shared-secret")
    status, out, err = run(capsys, "alice")
    assert (status, out) == (2, "")
    assert err.startswith("livechat: auth.mode: ")
    assert not Path("livechat-data").exists()
