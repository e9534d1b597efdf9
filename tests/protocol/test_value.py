from __future__ import annotations

import pickle

import attrs
import pytest

from livechat.protocol.validators import between
from livechat.protocol.value import value


@value
class Place:
    """What a value may have: a default, a validator, a factory."""

    name: str
    number: int = attrs.field(default=1, validator=between(1, 9))
    others: list[str] = attrs.field(factory=list, hash=False)


def test_values_are_equal_and_hashed_by_their_fields() -> None:
    assert Place("a", 2) == Place("a", 2) != Place("a", 3)
    assert len({Place("a", 2), Place("a", 2), Place("b", 2)}) == 2
    assert attrs.evolve(Place("a"), number=2) == Place("a", 2)
    assert pickle.loads(pickle.dumps(Place("a", 2))) == Place("a", 2)


def test_a_value_is_validated_and_has_no_other_fields() -> None:
    with pytest.raises(ValueError, match="number: expected 1 to 9, got 10"):
        Place("a", 10)
    with pytest.raises(AttributeError):
        Place("a").else_ = 1  # type: ignore[attr-defined]
