from __future__ import annotations

from typing import Any

import attrs
import pytest
from cattrs import ClassValidationError

from livechat.protocol.strict import explain, make_converter
from livechat.protocol.types import ChannelId

DETAILED = make_converter(detailed=True)
FAST = make_converter(detailed=False)


@attrs.frozen
class Leaf:
    number: int = attrs.field()
    name: str | None = None

    @number.validator
    def _check(self, _attribute: object, value: int) -> None:
        if value < 0:
            raise ValueError(f"number: expected 0 or more, got {value}")


@attrs.frozen
class Tree:
    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    rows: tuple[tuple[int, ...], ...] = ()
    by_channel: dict[ChannelId, Leaf] = attrs.field(factory=dict)
    by_name: dict[str, dict[str, int]] = attrs.field(factory=dict)
    anything: dict[str, Any] = attrs.field(factory=dict)
    words: list[str] = attrs.field(factory=list)


NOT_ID = "expected 1 to 64 letters, digits or _ . : @ -"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"leaf": {}}, "leaf.number: required"),
        ({"leaf": {"number": "5"}}, "leaf.number: expected an integer"),
        ({"leaf": {"number": -1}}, "leaf.number: expected 0 or more, got -1"),
        ({"leaf": []}, "leaf: expected an object"),
        ({"leaves": {}}, "leaves: expected a list"),
        ({"leaves": ()}, "leaves: expected a list"),
        ({"leaves": [{"number": 1}, {"number": 1, "name": 5}]}, "leaves[1].name: expected a string"),
        ({"leaves": [{"number": 1}, {"number": -1}]}, "leaves[1].number: expected 0 or more, got -1"),
        ({"words": "word"}, "words: expected a list"),
        ({"words": ["a", 5]}, "words[1]: expected a string"),
        ({"rows": [[1], [2, 3, None]]}, "rows[1][2]: expected an integer"),
        ({"by_channel": []}, "by_channel: expected an object"),
        ({"by_channel": {"a.b": {"number": -1}}}, "by_channel[a.b].number: expected 0 or more, got -1"),
        ({"by_channel": {"a.b": None}}, "by_channel[a.b]: expected an object"),
        ({"by_channel": {"a b": {"number": 1}}}, f"by_channel[a b]: {NOT_ID}"),
        ({"by_channel": {"x" * 500: {"number": 1}}}, f"by_channel[{'x' * 64}]: {NOT_ID}"),
        ({"by_channel": {b"a": {"number": 1}}}, f"by_channel[b'a']: {NOT_ID}"),
        ({"by_channel": {5: {"number": 1}}}, f"by_channel[5]: {NOT_ID}"),
        ({"by_name": {"a": {"b": True}}}, "by_name[a][b]: expected an integer"),
        ({"by_name": {"a\0": {}}}, "by_name[a\0]: expected Unicode text without NUL and lone surrogates"),
    ],
)
def test_what_does_not_fit_is_explained_by_one_path(value: dict[str, Any], said: str) -> None:
    with pytest.raises(ClassValidationError) as caught:
        DETAILED.structure(value, Tree)
    assert explain(caught.value) == said
    # The fast converter refuses the same, only without a word that would help.
    with pytest.raises((ValueError, KeyError)):
        FAST.structure(value, Tree)


def test_what_fits_is_read_alike_by_both_converters() -> None:
    value = {
        "leaf": {"number": 1, "name": "a"},
        "leaves": [{"number": 2}, {"number": 3, "unknown": [None]}],
        "rows": [[], [1, 2]],
        "by_channel": {"a.b": {"number": 4}},
        "by_name": {"": {"x": 1}},
        "anything": {"x": [None, {"y": 1.5}]},
    }
    expected = Tree(
        Leaf(1, "a"),
        (Leaf(2), Leaf(3)),
        ((), (1, 2)),
        {ChannelId("a.b"): Leaf(4)},
        {"": {"x": 1}},
        {"x": [None, {"y": 1.5}]},
    )
    assert DETAILED.structure(value, Tree) == FAST.structure(value, Tree) == expected


@pytest.mark.parametrize("converter", [FAST, DETAILED], ids=["fast", "detailed"])
@pytest.mark.parametrize(
    "value", [{"leaves": [{}] * 50_000}, {"by_channel": {f"c{n}": {} for n in range(50_000)}}]
)
def test_of_many_that_do_not_fit_only_the_first_is_looked_at(converter: Any, value: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, ClassValidationError)) as caught:
        converter.structure(value, Tree)
    assert causes(caught.value) < 10


def causes(exc: BaseException) -> int:
    """Count an exception and all that it was made of."""
    inner = list(exc.exceptions) if isinstance(exc, BaseExceptionGroup) else []
    if exc.__cause__ is not None:
        inner.append(exc.__cause__)
    return 1 + sum(map(causes, inner))
