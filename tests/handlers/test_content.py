from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from livechat.error import ConfigError, ContentRejected, Forbidden, InternalError, LiveError
from livechat.handlers import content
from livechat.handlers.content import ContentFilter, Draft, WordFilter, filtered
from livechat.handlers.words import WordFinder, fold
from livechat.protocol.types import ChannelId, UserId

LISTED = "# unwanted\n\nbadword\n  go   away  \n시발\nc#\n"


def draft(text: str, attachment_name: str | None = None) -> Draft:
    return Draft(ChannelId("x"), UserId("alice"), "TEXT", text, attachment_name)


def mask(words: Iterable[str], text: str) -> str:
    return WordFilter(words, "mask").filter(draft(text))


def words_file(tmp_path: Path, data: str | bytes = LISTED) -> Path:
    path = tmp_path / "words.txt"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def events(logs: list[MutableMapping[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["log_level"], entry["event"]) for entry in logs]


# --- what a filter of words does ------------------------------------------------------------------------------


def test_a_word_is_rejected_without_being_repeated() -> None:
    with pytest.raises(ContentRejected) as caught:
        WordFilter(["badword"]).filter(draft("such a BadWord"))
    assert caught.value.code == 3004
    assert caught.value.reason == "content: has a word that is not allowed here"


@pytest.mark.parametrize("action", ["reject", "mask"])
def test_what_has_no_such_word_is_left_as_it_is(action: Literal["reject", "mask"]) -> None:
    text = "no ba\u200bd\u0301 ﬁne ｗｏｒｄ, é e\u0301\r\n\t 각"
    assert WordFilter(["badword", "ﬁn"], action).filter(draft(text)) == text
    assert WordFilter([], action).filter(draft(text)) == text


@pytest.mark.parametrize("action", ["reject", "mask"])
def test_a_word_in_the_name_of_an_attachment_is_rejected_whatever_the_action(
    action: Literal["reject", "mask"],
) -> None:
    words = WordFilter(["badword"], action)
    with pytest.raises(ContentRejected, match=r"^attachment: "):
        words.filter(draft("look", "my badword.png"))
    assert words.filter(draft("look", "picture.png")) == "look"


@pytest.mark.parametrize(
    ("words", "text", "masked"),
    [
        (["badword"], "a badword, Badword.", "a *******, *******."),
        (["badword"], "b\u200bad\u200bword\u200b!", "*********\u200b!"),
        (["badword"], "ＢＡＤword", "*******"),
        (["시발"], "e\u0301 시발점 시바\u11af", "e\u0301 **점 ***"),
        (["시발"], "ㅅㅣㅂㅏㄹ 시바ㄹ", "***** ***"),
        (["go away"], "go \n away now", "********* now"),
        (["ss"], "ß ſs", "* **"),
        (["가나", "나다"], "가나다라", "***라"),
        (["ass"], "class ass ass", "class *** ***"),
    ],
)
def test_a_mask_covers_what_was_written_and_nothing_else(words: list[str], text: str, masked: str) -> None:
    assert mask(words, text) == masked


TEXTS = st.text(st.sampled_from([*"ab A*가각ㄱㅏ", "\u200b", "\u0301", "é", "ﬁ", "ß", "한"]), max_size=20)
WORDS = st.lists(TEXTS.filter(lambda word: bool(fold(word).strip()) and "*" not in word), min_size=1, max_size=3)


@given(words=WORDS, text=TEXTS)
@settings(max_examples=500)
def test_a_masked_text_differs_only_where_words_were_and_has_none_left(words: list[str], text: str) -> None:
    finder = WordFinder(words)
    masked = mask(words, text)
    assert len(masked) == len(text)
    covered = {index for start, end in finder.spans(text) for index in range(start, end)}
    for index, (now, before) in enumerate(zip(masked, text, strict=True)):
        assert now == ("*" if index in covered else before)
    assert not finder.finds(masked)


def test_there_is_no_third_action() -> None:
    with pytest.raises(ConfigError, match=r"^action: expected reject or mask, got 'burn'$"):
        WordFilter([], "burn")  # type: ignore[arg-type]


# --- words from a file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [LISTED, LISTED.replace("\n", "\r\n"), "\ufeff" + LISTED, LISTED.rstrip()])
def test_a_file_has_a_word_or_phrase_a_line_and_comments(tmp_path: Path, data: str) -> None:
    words = WordFilter.load(words_file(tmp_path, data), "mask")
    assert words.filter(draft("# unwanted badword go away 시발 c#")) == "# unwanted ******* ******* ** **"


def test_a_file_without_words_lets_everything_through(tmp_path: Path) -> None:
    assert WordFilter.load(words_file(tmp_path, "# nothing yet\n")).filter(draft("# badword")) == "# badword"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"fine\nb\xff\xfed\n", "cannot read {path}: line 2: expected UTF-8"),
        ("fine\n".encode("utf-16"), "cannot read {path}: line 1: expected UTF-8"),
        ("\ufefffine\n".encode() + b"\n\xff", "cannot read {path}: line 3: expected UTF-8"),
        ("fine\n\u200b\n".encode(), "{path}: words: expected something to look for, got '\\u200b'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    path = words_file(tmp_path, data)
    with pytest.raises(ConfigError) as caught:
        WordFilter.load(path)
    assert str(caught.value) == reason.format(path=path)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*missing: no such file or directory$"):
        WordFilter.load(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"^cannot read .*: is a directory$"):
        WordFilter.load(tmp_path)


def test_a_reload_takes_the_words_that_the_file_has_now(tmp_path: Path) -> None:
    path = words_file(tmp_path)
    words = WordFilter.load(path, "mask")
    path.write_text("other")
    assert words.filter(draft("badword other")) == "******* other"
    with capture_logs() as logs:
        assert words.reload()
    assert events(logs) == [("info", "words reloaded")]
    assert words.filter(draft("badword other")) == "badword *****"


@pytest.mark.parametrize("data", [b"other\n\xff", "other\n\u200b".encode(), None])
def test_a_bad_file_leaves_the_words_as_they_were(tmp_path: Path, data: bytes | None) -> None:
    path = words_file(tmp_path)
    words = WordFilter.load(path, "mask")
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with capture_logs() as logs:
        assert not words.reload()
    assert events(logs) == [("warning", "words not reloaded")]
    assert words.filter(draft("badword other")) == "******* other"


def test_words_without_a_file_have_nothing_to_reload() -> None:
    words = WordFilter(["badword"], "mask")
    assert not words.reload()
    assert words.filter(draft("badword")) == "*******"


def test_reloads_are_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = WordFilter.load(words_file(tmp_path))
    read = content._read

    def read_alone(path: Path) -> WordFinder:
        # Another one that read the file meanwhile could put in force what is older.
        assert not words._reloading.acquire(blocking=False)
        return read(path)

    monkeypatch.setattr(content, "_read", read_alone)
    assert words.reload()
    assert words.reload()


# --- any filter -----------------------------------------------------------------------------------------------


class Scripted:
    """A filter that returns or raises what it was made with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def filter(self, draft: Draft) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def test_a_filters_answer_is_passed_on() -> None:
    content_filter: ContentFilter = Scripted("other")
    assert filtered(content_filter, draft("text")) == "other"


@pytest.mark.parametrize("refusal", [ContentRejected("no"), Forbidden("not you", retry_after_ms=5)])
def test_a_filters_refusal_is_passed_on(refusal: LiveError) -> None:
    with capture_logs() as logs, pytest.raises(LiveError) as caught:
        filtered(Scripted(refusal), draft("text"))
    assert caught.value is refusal
    assert logs == []


@pytest.mark.parametrize("answer", [ValueError("hunter2"), None, b"text", "a\0b", "a\ud800b"])
def test_a_filter_that_fails_is_logged_and_its_failure_not_shown(answer: object) -> None:
    with capture_logs() as logs, pytest.raises(InternalError) as caught:
        filtered(Scripted(answer), draft("text"))
    assert caught.value.reason == "content: the filter failed"
    assert events(logs) == [("error", "content filter failed")]
