"""A real store that first answers as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from livechat.error import LiveError, NotPersisted
from livechat.store.base import Done, Outcome, Store
from livechat.store.operations import Operation


class Moody:
    """A real store that answers the next operations otherwise first."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.moods: list[Callable[[Operation[Any], Done[Any]], None]] = []

    def submit(self, operation: Operation[Any], done: Done[Any]) -> None:
        if self.moods:
            self.moods.pop(0)(operation, done)
        else:
            self.inner.submit(operation, done)

    def refuses(self, error: LiveError) -> None:
        """Answer the next operation with an error; it does not take place."""
        self.moods.append(lambda _operation, done: done(Outcome(error=error)))

    def raises(self, error: LiveError) -> None:
        """Take no operation."""

        def refuse(_operation: Operation[Any], _done: Done[Any]) -> None:
            raise error

        self.moods.append(refuse)

    def doubts(self, *, proves_good: bool) -> None:
        """Answer with RETRY an operation that takes place all the same, and perhaps say so later."""

        def doubt(operation: Operation[Any], done: Done[Any]) -> None:
            late: list[Outcome[Any]] = []
            self.inner.submit(operation, late.append)
            done(Outcome(error=NotPersisted("the store did not answer", action="RETRY")))
            if proves_good:
                done(Outcome(late[0].value, late=True))

        self.moods.append(doubt)

    def holds(self) -> list[Callable[[], None]]:
        """Take the next operation and do not answer it; return what answers it then."""
        answers: list[Callable[[], None]] = []
        self.moods.append(lambda operation, done: answers.append(lambda: self.inner.submit(operation, done)))
        return answers
