"""`livechat announce` against a server process, and what it says where it cannot."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from livechat.cli.main import main
from tests.support.client import ANNOUNCEMENT, identified
from tests.support.process import clean_environment, run_livechat, serving
from tests.support.server import SECRET, running_server


@attrs.define
class Shell:
    """The command run in this process; its environment and what it prints are the test's."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str, **env: str) -> tuple[int, str, str]:
        """Run the command; return (exit status, stdout, stderr)."""
        with self.monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(f"LIVECHAT_{name.upper()}", value)
            with pytest.raises(SystemExit) as ended:
                main(["announce", *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self.capsys.readouterr()

    def assert_refused(self, *arguments: str, expected: str, **env: str) -> None:
        """Assert that the command ends with status 2 and one line of reason, which holds no secret."""
        status, out, err = self.run(*arguments, **env)
        assert (status, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("livechat: ")
        assert expected in line
        for part in env.get("secret", "").split():
            assert part not in line


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    return Shell(monkeypatch, capsys)


async def test_it_tells_who_is_connected_to_a_server_process_and_who_comes_later(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        secret = (tmp_path / "secret").read_text().strip()
        async with identified(server.url, "alice", token=secret) as alice:
            arguments = [
                *("announce", "News", "from the shell: 안녕"),
                *("--url", "https://x.example", "--image-url", "https://x.example/i.png"),
                *("--severity", "critical", "--expires-in", "3600"),
                *("--server", "http://" + urlsplit(server.url).netloc, "--data-dir", str(tmp_path)),
            ]
            finished = await trio.to_thread.run_sync(lambda: run_livechat(*arguments))
            told = await alice.expect(ANNOUNCEMENT)
            assert (finished.returncode, finished.stderr) == (0, "")
            assert finished.stdout == f"announced {told['announcement_id']}\n"
            assert (told["title"], told["body"], told["severity"]) == ("News", "from the shell: 안녕", "critical")
            assert (told["url"], told["image_url"]) == ("https://x.example", "https://x.example/i.png")
            assert told["expires_at"] - told["created_at"] <= 3_600_000
        async with identified(server.url, "bob", token=secret) as bob:
            assert [news["title"] for news in bob.ready["announcements"]] == ["News"]


async def test_what_the_server_refuses_is_said_in_its_words(shell: Shell, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        port = str(server.addresses.tcp[0][1])

        def run() -> None:
            # Where the server is and what its secret is may come from the configuration.
            assert shell.run("Bare", secret=SECRET, port=port)[0] == 0
            assert shell.run("Bare", secret=SECRET, port=port, host="0.0.0.0")[0] == 0
            where = ("--server", f"http://127.0.0.1:{port}")
            shell.assert_refused("", *where, expected="title: expected 1 to 200 in length", secret=SECRET)
            shell.assert_refused("x", "--url", "nowhere", *where, expected="url: expected https://", secret=SECRET)
            shell.assert_refused("x", *where, expected="not the secret", secret="another-one")

        await trio.to_thread.run_sync(run)


def test_where_no_server_listens_it_says_so(shell: Shell) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{unused.getsockname()[1]}"
        shell.assert_refused("x", "--server", where, expected=f"cannot reach {where}", secret=SECRET)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x", "--server", "ftp://127.0.0.1:1"], "--server: expected http(s)://HOST:PORT"),
        (["x", "--server", "127.0.0.1:8080"], "--server: expected http(s)://HOST:PORT"),
        (["x", "--server", "http://127.0.0.1:port"], "--server: expected http(s)://HOST:PORT"),
        (["x", "--server", "http://[::1"], "--server: expected http(s)://HOST:PORT"),
        (["x", "--server", ""], "--server: expected http(s)://HOST:PORT"),
        (["x", "--server", "https://127.0.0.1:1", "--cacert", "/no/such/ca.pem"], "cannot read /no/such/ca.pem"),
        (["x", "--severity", "loud"], "'loud'"),
        (["x", "--expires-in", "0"], "--expires-in"),
        (["x", "--config", "/no/such/file.toml"], "cannot read /no/such/file.toml"),
        ([], "TITLE"),
    ],
)
def test_a_wrong_argument_is_one_line(shell: Shell, arguments: list[str], expected: str) -> None:
    shell.assert_refused(*arguments, expected=expected, secret=SECRET)


def test_without_a_secret_it_says_where_it_looked(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    shell.assert_refused("x", "--data-dir", str(tmp_path), expected=f"cannot read {path}")
    path.touch(0o600)
    shell.assert_refused("x", "--data-dir", str(tmp_path), expected=f"{path} is empty")
    path.write_bytes(b"\xff")
    shell.assert_refused("x", "--data-dir", str(tmp_path), expected=f"cannot read {path}")


@pytest.mark.parametrize("secret", ["first-line\nsecond-line", "비밀번호-비밀번호"])
def test_a_secret_that_no_header_can_carry_is_refused_and_not_shown(shell: Shell, secret: str) -> None:
    shell.assert_refused("x", expected="secret: only one of printable ASCII", secret=secret)


@contextmanager
def answering(response: bytes) -> Generator[int]:
    """Something else than livechat, which answers one request with these bytes; yields its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def answer() -> None:
            with listening.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(response)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\n"what"',
        b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nnull",
        b'HTTP/1.1 422 No\r\nContent-Length: 23\r\n\r\n{"title": "two\\nlines"}\n',
    ],
)
def test_what_is_no_livechat_is_refused_in_one_line(shell: Shell, response: bytes) -> None:
    with answering(response) as port:
        address = f"http://127.0.0.1:{port}"
        shell.assert_refused("x", "--server", address, expected=address, secret=SECRET)
