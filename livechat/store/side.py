"""Owns work on the tables beside chat (accounts, jobs, files) within the writer's transaction.

It must not know what is in them, nor which rows belong together: that is the business of who brings the work.

Chat has its own statements by hand. These tables are colder, so their statements are written once, in SQLAlchemy
Core, and compiled for each database; they share the commit with whatever else waits for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import attrs
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect

from livechat.store.operations import Operation

T = TypeVar("T")

COMPILED_MAX: Final = 512
"""Statements kept compiled; with more, all are forgotten."""

SAVEPOINT: Final = "SAVEPOINT side"
RELEASE: Final = "RELEASE SAVEPOINT side"
ROLLBACK_TO: Final = "ROLLBACK TO SAVEPOINT side"


@attrs.frozen
class Rows:
    """What a statement gave back."""

    rows: Sequence[tuple[Any, ...]]
    rowcount: int
    """How many rows it inserted, updated or deleted; without meaning for a SELECT."""

    def all(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return list(self.rows)

    def first(self) -> tuple[Any, ...] | None:
        """Return the first row, or None."""
        return self.rows[0] if self.rows else None


Run = Callable[[str, Mapping[str, Any]], Rows]
"""Executes SQL text in the dialect's own style with its named parameters."""


class Tables:
    """The tables inside one transaction."""

    def __init__(self, dialect: Dialect, run: Run) -> None:
        self._dialect = dialect
        self._run = run
        self._compiled: dict[int, tuple[sa.Executable, str, dict[str, Any]]] = {}

    def execute(self, statement: sa.Executable, parameters: Mapping[str, object] | None = None) -> Rows:
        """Execute a statement of SQLAlchemy Core; its values are not converted.

        What goes in and comes out is text, whole numbers, bytes and None: a Boolean comes back from SQLite as 0
        or 1, and JSON travels as text.

        Args:
            parameters: of a statement that is a constant with `bindparam`: it is compiled once and kept. A
                statement without them is compiled each time, some 0.2 ms of the writer's time.
        """
        if parameters is None:
            return self._run(*self._compile(statement))
        kept = self._compiled.get(id(statement))
        if kept is None:
            if len(self._compiled) >= COMPILED_MAX:
                self._compiled.clear()
            # The statement is kept too, so that nothing else gets its id.
            kept = self._compiled[id(statement)] = (statement, *self._compile(statement))
        return self._run(kept[1], {**kept[2], **parameters})

    def _compile(self, statement: sa.Executable) -> tuple[str, dict[str, Any]]:
        assert isinstance(statement, sa.ClauseElement)
        compiled = statement.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        return str(compiled), dict(compiled.params)


@attrs.frozen
class Transact(Operation[T]):
    """Work on the tables, in the order and the transaction of the operations around it.

    Args:
        work: runs in the writer's thread, where it holds up all chat: no waiting, no heavy computing. It may be
            run again if the transaction was lost, so it must change nothing but the tables; clocks and random
            ids come into it as values. A `LiveError` that it raises undoes what it wrote and refuses the
            operation.
    """

    work: Callable[[Tables], T] = attrs.field()
    writes: bool = True  # type: ignore[misc] # of each operation here, of the class elsewhere


@contextmanager
def savepoint(execute: Callable[[str], object]) -> Iterator[None]:
    """Undo what the block did to the database if it raises."""
    execute(SAVEPOINT)
    try:
        yield
    except BaseException:
        execute(ROLLBACK_TO)
        execute(RELEASE)
        raise
    execute(RELEASE)
