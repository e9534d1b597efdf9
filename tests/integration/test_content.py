"""What may be said: a content filter under a running server, be it the embedder's or that of unwanted words."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import livechat
from livechat.protocol.types import ChannelId
from tests.support.client import CREATE, HEARTBEAT, HEARTBEAT_ACK, JOIN, MESSAGE, MESSAGE_EVENT, Client, identified
from tests.support.process import run_livechat, serving
from tests.support.server import DEADLINE_S, SECRET, make_config, running_server

ATTACHMENT = {"url": "https://a.example/1", "name": "cat.png", "bytes": 5, "mime": "image/png"}


class Remembering:
    """A filter that does what it is told to, and remembers what it was asked."""

    def __init__(self, decide: Callable[[livechat.Draft], str]) -> None:
        self.decide = decide
        self.drafts: list[livechat.Draft] = []

    def filter(self, draft: livechat.Draft) -> str:
        self.drafts.append(draft)
        return self.decide(draft)


def refuse(draft: livechat.Draft) -> str:
    raise livechat.ContentRejected("content: not in this house")


def fail(draft: livechat.Draft) -> str:
    raise ZeroDivisionError


@asynccontextmanager
async def filtering(
    data_dir: Path, content_filter: livechat.ContentFilter | None = None, **chat: object
) -> AsyncGenerator[tuple[livechat.Server, Client, Client]]:
    """A server, and Alice and Bob in its channel `x`, whose last seq is 2."""
    config = make_config(data_dir, chat=livechat.ChatLimits(**chat))  # type: ignore[arg-type]
    async with (
        livechat.open_server(config, content_filter=content_filter) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.receive()
        yield server, alice, bob


async def heard(client: Client) -> str:
    """The content of the next event, which must be a message."""
    event = await client.expect(MESSAGE_EVENT)
    content: str = event["content"]
    return content


# --- the embedder's filter ------------------------------------------------------------------------------------


async def test_a_filter_is_asked_with_all_that_was_submitted(tmp_path: Path) -> None:
    remembering = Remembering(lambda draft: draft.content)
    async with filtering(tmp_path, remembering) as (_, alice, bob):
        await alice.say("x", "hello")
        await bob.say("x", "", message_type="IMAGE", attachment=ATTACHMENT)
    assert remembering.drafts == [
        livechat.Draft(ChannelId("x"), livechat.UserId("alice"), "TEXT", "hello"),
        livechat.Draft(ChannelId("x"), livechat.UserId("bob"), "IMAGE", "", "cat.png"),
    ]


async def test_what_a_filter_returns_is_stored_and_heard(tmp_path: Path) -> None:
    shouting = Remembering(lambda draft: draft.content.upper())
    async with filtering(tmp_path, shouting) as (_, alice, bob):
        await alice.say("x", "hello", nonce="n")
        assert (await heard(alice), await heard(bob)) == ("HELLO", "HELLO")
        # The nonce is bound to what was submitted, not to what became of it.
        assert (await alice.say("x", "hello", nonce="n"))["duplicate"] is True
        assert (await alice.refused(MESSAGE, {"channel_id": "x", "content": "HELLO", "nonce": "n"}))[
            "code"
        ] == 3003
        await bob.expect_silence()


async def test_a_rejected_message_is_not_stored_and_nobody_hears_it(tmp_path: Path) -> None:
    async with filtering(tmp_path, Remembering(refuse)) as (_, alice, bob):
        for fields in ({}, {"nonce": "n"}):
            error = await alice.refused(MESSAGE, {"channel_id": "x", "content": "hello", **fields})
            assert error.items() >= {"code": 3004, "reason": "content: not in this house", **fields}.items()
            assert error["retryable"] is False
        await bob.expect_silence()
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        assert (await alice.say("x", "hello", nonce="n")).items() >= {"seq": 3, "duplicate": False}.items()


async def test_a_known_nonce_answers_before_a_filter_that_has_changed_its_mind(tmp_path: Path) -> None:
    remembering = Remembering(lambda draft: draft.content)
    async with filtering(tmp_path, remembering) as (_, alice, _bob):
        first = await alice.say("x", "hello", nonce="n")
        for decide in (refuse, fail):
            remembering.decide = decide
            again = await alice.say("x", "hello", nonce="n")
            assert again == {**first, "duplicate": True}
            conflict = await alice.refused(MESSAGE, {"channel_id": "x", "content": "bye", "nonce": "n"})
            assert conflict["code"] == 3003


async def test_a_filter_that_fails_stores_nothing_and_leaves_the_server_up(tmp_path: Path) -> None:
    remembering = Remembering(fail)
    async with filtering(tmp_path, remembering) as (_, alice, bob):
        for fields in ({}, {"nonce": "n"}):
            error = await alice.refused(MESSAGE, {"channel_id": "x", "content": "hello", **fields})
            assert (error["code"], error["reason"]) == (9000, "content: the filter failed")
        await bob.expect_silence()
        remembering.decide = lambda draft: draft.content
        assert (await alice.say("x", "hello", nonce="n")).items() >= {"seq": 3, "duplicate": False}.items()
        assert await heard(bob) == "hello"


async def test_a_message_that_is_unsound_anyway_is_not_shown_to_the_filter(tmp_path: Path) -> None:
    remembering = Remembering(refuse)
    async with filtering(tmp_path, remembering, message_chars=5) as (_, alice, _bob):
        for content, code in (("  ", 3000), ("too long", 3001)):
            error = await alice.refused(MESSAGE, {"channel_id": "x", "content": content})
            assert error["code"] == code
    assert remembering.drafts == []


async def test_the_embedders_filter_stands_in_place_of_the_words(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("badword")
    remembering = Remembering(lambda draft: draft.content)
    async with filtering(tmp_path, remembering, words_file=words) as (server, alice, _bob):
        await alice.say("x", "badword")
        assert await server.reload() is False


# --- words from a file ----------------------------------------------------------------------------------------


async def test_unwanted_words_are_rejected(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("badword\n시발\n")
    async with filtering(tmp_path, words_file=words) as (_, alice, bob):
        for content in ("BadWord!", "아 시발점", "ㅅㅣㅂㅏㄹ", "ba\u200bdword"):
            error = await alice.refused(MESSAGE, {"channel_id": "x", "content": content})
            assert error["code"] == 3004
        attachment = {**ATTACHMENT, "name": "badword.png"}
        error = await alice.refused(MESSAGE, {"channel_id": "x", "content": "look", "attachment": attachment})
        assert error["code"] == 3004
        assert (await alice.say("x", "badwords are fine"))["seq"] == 3
        assert await heard(bob) == "badwords are fine"


async def test_unwanted_words_are_masked(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("badword\n시발\n")
    async with filtering(tmp_path, words_file=words, words_action="mask") as (_, alice, bob):
        await alice.say("x", "a badword, 시발점", nonce="n")
        assert await heard(bob) == "a *******, **점"
        assert (await alice.say("x", "a badword, 시발점", nonce="n"))["duplicate"] is True


async def test_words_are_reloaded_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("badword\n")
    async with filtering(tmp_path, words_file=words, words_action="mask") as (server, alice, bob):
        for data, done, expected in (
            (b"other", True, "badword *****"),
            (b"badword\n\xff", False, "badword *****"),
            (b"badword", True, "******* other"),
        ):
            words.write_bytes(data)
            assert await server.reload() is done
            await alice.say("x", "badword other")
            assert await heard(bob) == expected


async def test_without_words_there_is_nothing_to_reload(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert await server.reload() is False


async def test_a_file_of_words_that_cannot_be_used_is_the_operators_to_mend(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_bytes(b"\xff")
    for path in (words, tmp_path / "missing"):
        with pytest.raises(livechat.ConfigError, match=r"^cannot read [^\n]+$"):
            async with running_server(tmp_path, chat=livechat.ChatLimits(words_file=path)):
                pass


# --- the process ----------------------------------------------------------------------------------------------


def test_a_file_of_words_that_cannot_be_used_is_one_line_and_exit_2(tmp_path: Path) -> None:
    env = {"LIVECHAT_CHAT_WORDS_FILE": str(tmp_path / "missing")}
    finished = run_livechat("serve", "--port", "0", "--udp-port", "0", "--data-dir", str(tmp_path), env=env)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert re.fullmatch(r"livechat: cannot read .*missing: no such file or directory\n", finished.stderr)


async def test_sighup_reloads_the_words(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("badword\n")
    env = {
        "LIVECHAT_SECRET": SECRET,
        "LIVECHAT_GATEWAY_DRAIN_MS": "0",
        "LIVECHAT_CHAT_WORDS_FILE": str(words),
        "LIVECHAT_CHAT_WORDS_ACTION": "mask",
    }
    async with serving(tmp_path / "data", env=env) as server, identified(server.url, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await alice.say("x", "badword other")
        assert await heard(alice) == "******* other"
        words.write_text("other\n")
        server.send(signal.SIGHUP)
        with trio.fail_after(DEADLINE_S):
            said = "******* other"
            # Nothing tells a client that the words have changed.
            while said == "******* other":
                await alice.say("x", "badword other")
                said = await heard(alice)
        assert said == "badword *****"
        server.send(signal.SIGTERM)
        assert await alice.closed() == 4003
        assert await server.ended() == 0


async def test_sighup_without_words_ends_nothing_not_even_a_drain(tmp_path: Path) -> None:
    env = {"LIVECHAT_SECRET": SECRET, "LIVECHAT_GATEWAY_DRAIN_MS": "3600000"}
    async with serving(tmp_path, env=env) as server, identified(server.url, "alice") as alice:
        server.send(signal.SIGHUP)
        assert (await alice.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        server.send(signal.SIGTERM)
        await alice.receive()
        server.send(signal.SIGHUP)
        for _ in range(20):
            assert (await alice.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        server.send(signal.SIGTERM)
        assert await alice.closed() == 4003
        assert await server.ended() == 0
