"""What may be registered, yielded, given and returned."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import attrs
import pytest

from livechat.error import Forbidden, NotInChannel, PayloadTooLarge, ProtocolError, UnknownJobKind
from livechat.handlers.auth import Identity
from livechat.jobs.kinds import (
    JobContext,
    JobKind,
    JobKinds,
    JobUpdate,
    Partial,
    Progress,
    Result,
    serialize_result,
)
from livechat.protocol.types import UserId
from livechat.protocol.validators import between

ANN = Identity(UserId("ann"))


async def handler(_job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
    yield Result()


async def with_more(_more: object, _job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
    yield Result()


class Speaker:
    async def __call__(self, _job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Result()


async def no_generator(_job: JobContext[Any]) -> None:
    pass


@attrs.frozen
class Wanted:
    text: str
    times: int = attrs.field(default=1, validator=between(1, 3))


# --- registering ----------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [handler, partial(with_more, 1), Speaker()])
def test_any_async_generator_function_is_a_handler(good: Any) -> None:
    assert JobKind("k", good).handler is good


@pytest.mark.parametrize("bad", [no_generator, lambda job: None, "text", None])
def test_anything_else_is_none(bad: Any) -> None:
    with pytest.raises(TypeError, match="async generator function"):
        JobKind("k", bad)


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "x" * 65},
        {"timeout_s": 0},
        {"timeout_s": -1.0},
        {"timeout_s": float("inf")},
        {"timeout_s": float("nan")},
        {"concurrency": 0},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        attrs.evolve(JobKind("k", handler), **options)


def test_the_class_of_the_input_is_an_attrs_class() -> None:
    with pytest.raises(TypeError, match="attrs"):
        JobKind("k", handler, input=dict)


def test_a_kind_is_registered_once() -> None:
    kinds = JobKinds()
    kinds.add(JobKind("k", handler))
    assert "k" in kinds
    with pytest.raises(ValueError, match="registered already"):
        kinds.add(JobKind("k", handler))
    with pytest.raises(UnknownJobKind):
        kinds.get("other")


# --- the input ------------------------------------------------------------------------------------


def test_an_input_becomes_an_instance_of_its_class_or_stays_as_it_is() -> None:
    assert JobKind("k", handler, Wanted).structure({"text": "a", "times": None, "more": 1}) == Wanted("a")
    assert JobKind("k", handler).structure({"more": 1}) == {"more": 1}


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "input.text"), ({"text": 5}, "input.text"), ({"text": "a", "times": 4}, "input.times")],
)
def test_an_input_that_does_not_fit_is_refused_by_its_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{field}: "):
        JobKind("k", handler, Wanted).check(given, ANN)


def test_a_kind_may_take_a_scope() -> None:
    kind = JobKind("k", handler, scope="publish")
    for scopes in ({"publish"}, {"chat", "admin"}):
        kind.check({}, attrs.evolve(ANN, scopes=frozenset(scopes)))
    kind.check({}, attrs.evolve(ANN, holds_secret=True))
    with pytest.raises(Forbidden, match="publish"):
        kind.check({}, ANN)


def test_a_kind_may_ask_who_wants_what() -> None:
    asked = []

    def permit(identity: Identity, wanted: Wanted) -> None:
        asked.append((identity.user_id, wanted))
        if wanted.text == "no":
            raise NotInChannel("you are not in it")

    kind = JobKind("k", handler, Wanted, permit=permit)
    kind.check({"text": "yes"}, ANN)
    with pytest.raises(NotInChannel):
        kind.check({"text": "no"}, ANN)
    assert asked == [("ann", Wanted("yes")), ("ann", Wanted("no"))]


# --- what is yielded ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_progress_is_between_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match="progress"):
        Progress(value)
    with pytest.raises(ValueError, match="progress"):
        Partial("a", value)


def test_progress_may_be_whole() -> None:
    assert [Progress(0).value, Progress(1).value, Progress(0.5).value] == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("content", [5, None, "a\0b", "\ud800", ["a"]])
def test_a_part_is_text_or_bytes(content: Any) -> None:
    with pytest.raises(ValueError, match="content"):
        Partial(content)


@pytest.mark.parametrize("value", [None, True, 5, 0.5, "text", [1, {"a": None}], {"a": (1, 2)}])
def test_a_result_is_any_value_of_json(value: Any) -> None:
    assert serialize_result(value, 1000)


@pytest.mark.parametrize("value", [b"x", {1, 2}, float("nan"), 2**63, "\ud800", "a\0", object()])
def test_a_result_that_some_client_could_not_read_is_none(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        serialize_result({"value": value}, 1000)


def test_a_result_has_a_bound() -> None:
    assert serialize_result("x" * 98, 100) == f'"{"x" * 98}"'
    with pytest.raises(PayloadTooLarge):
        serialize_result("x" * 99, 100)
    nested: list[Any] = []
    for _ in range(40):
        nested = [nested]
    with pytest.raises(ValueError, match="levels"):
        serialize_result(nested, 1000)
