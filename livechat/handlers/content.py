"""Owns what may be said: the port that embedders fill, and a filter of unwanted words.

It must not store or answer anything, nor know how words are found (`words`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol

import attrs
import structlog

from livechat.error import ConfigError, ContentRejected, InternalError, LiveError
from livechat.handlers.words import WordFinder
from livechat.protocol.types import ChannelId, MessageType, UserId, is_text

log = structlog.get_logger("livechat.content")

WordAction = Literal["reject", "mask"]
MASK = "*"


@attrs.frozen
class Draft:
    """A message before it is stored, as its author submitted it."""

    channel_id: ChannelId
    author_id: UserId
    message_type: MessageType
    content: str
    """Within the length limit; empty only with an attachment."""
    attachment_name: str | None = None
    """The name of the attached file, if one is attached."""


class ContentFilter(Protocol):
    """The port: whatever decides what may be said."""

    def filter(self, draft: Draft) -> str:
        """Return the content to store: the draft's own, or another that is to stand in its place.

        It is called on the event loop for every message with a sound body, a repeated one (by its nonce) too, and
        everybody waits meanwhile: it must neither block nor take long.

        Raises:
            ContentRejected: the message is refused (3004); the reason is told to its author. Any other
                `LiveError` is told likewise; what else is raised is logged, and the message refused (9000).
        """
        ...


def filtered(content_filter: ContentFilter, draft: Draft) -> str:
    """Return the content to store.

    Raises:
        LiveError: the filter refuses the message, or failed.
    """
    try:
        content = content_filter.filter(draft)
        if not isinstance(content, str) or not is_text(content):
            raise TypeError(f"content filter: expected text without NUL and lone surrogates, got {type(content)}")
    except LiveError:
        raise
    except Exception:
        # An embedder's filter failed; what nobody has passed is not stored.
        log.exception("content filter failed")
        raise InternalError("content: the filter failed") from None
    return content


class WordFilter:
    """Rejects messages with unwanted words, or masks the words.

    Case, full-width forms, zero-width characters and the ways to write Hangul make no difference. Words of scripts
    with spaces are only found as whole words; those of Hangul, Han, Kana, Thai and the like anywhere. In the name
    of an attachment a word is rejected even where words are masked, for a name is not rewritten.

    Args:
        words: words or phrases.
        action: `reject`: the message is refused (3004); `mask`: each character of a word becomes `*`.

    Raises:
        ConfigError: a word has nothing to look for, or there is no such action.
    """

    def __init__(self, words: Iterable[str], action: WordAction = "reject") -> None:
        if action not in ("reject", "mask"):
            raise ConfigError(f"action: expected reject or mask, got {action!r}")
        self.action: WordAction = action
        self.path: Path | None = None
        """The file that the words are from."""
        self._finder = WordFinder(words)
        self._reloading = Lock()

    @classmethod
    def load(cls, path: Path, action: WordAction = "reject") -> WordFilter:
        """Make a filter of a file in UTF-8: one word or phrase a line; a line that begins with # is a comment.

        Raises:
            ConfigError: the file cannot be read, is not UTF-8, or a word has nothing to look for.
        """
        words = cls((), action)
        words._finder = _read(path)
        words.path = path
        return words

    def reload(self) -> bool:
        """Read the file again; if that fails, log why and keep the words there are. It may run in any thread.

        Returns:
            Whether the words are now those of the file; False also without a file.
        """
        if self.path is None:
            return False
        # Of two reloads at once, the one that reads last is to have the last word.
        with self._reloading:
            try:
                # One assignment, so that no message meets a half-made list.
                self._finder = _read(self.path)
            except ConfigError as exc:
                log.warning("words not reloaded", reason=str(exc))
                return False
        log.info("words reloaded", path=str(self.path))
        return True

    def filter(self, draft: Draft) -> str:
        """See `ContentFilter`."""
        finder = self._finder
        if draft.attachment_name is not None and finder.finds(draft.attachment_name):
            raise ContentRejected("attachment: has a word in its name that is not allowed here")
        if self.action == "mask":
            return _mask(draft.content, finder.spans(draft.content))
        if finder.finds(draft.content):
            raise ContentRejected("content: has a word that is not allowed here")
        return draft.content


def _mask(text: str, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return text
    pieces: list[str] = []
    done = 0
    for start, end in spans:
        pieces += (text[done:start], MASK * (end - start))
        done = end
    return "".join([*pieces, text[done:]])


def _read(path: Path) -> WordFinder:
    try:
        # Some editors begin the file with a byte order mark.
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {(exc.strerror or str(exc)).lower()}") from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"cannot read {path}: line {line}: expected UTF-8") from exc
    words = [word for line in lines if (word := line.strip()) and not word.startswith("#")]
    try:
        return WordFinder(words)
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
