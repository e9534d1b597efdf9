from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from livechat import error
from livechat.accounts.error import WrongPassword
from livechat.error import LiveError, NotPersisted, ProtocolError, RateLimited
from livechat.handlers.auth import UserIdMissing
from livechat.http.app import all_endpoints
from livechat.http.problems import KINDS, PROBLEM_JSON, NoSuchPath, kind_of, problem_of, respond


def subclasses(cls: type[LiveError]) -> Iterator[type[LiveError]]:
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_error_has_a_status_and_a_title() -> None:
    assert all_endpoints()  # all modules that define errors of their own are loaded
    ours = {each for each in subclasses(LiveError) if each.__module__.startswith("livechat.")}
    # The client's own are never sent; they are there if another test has loaded it.
    ours = {each for each in ours if not each.__module__.startswith("livechat.client.")}
    assert ours >= {error.ProtocolError, UserIdMissing, NoSuchPath}
    assert ours - set(KINDS) == set()


def test_a_title_is_one_for_all_errors_of_a_status_and_code() -> None:
    for cls, kind in KINDS.items():
        assert 400 <= kind.status < 600
        assert kind.title[0].isupper()
        assert not kind.title.endswith(".")
        same = {
            other.title for each, other in KINDS.items() if (each.code, other.status) == (cls.code, kind.status)
        }
        assert len(same) == 1, same


def test_what_is_derived_looks_like_what_it_is_derived_from() -> None:
    class Special(error.ChannelNotFound):
        pass

    assert kind_of(Special) == KINDS[error.ChannelNotFound]


def test_a_problem_says_all_that_an_error_packet_does() -> None:
    problem = problem_of(NotPersisted("the store is away", action="RETRY", retry_after_ms=1500))
    assert problem.type == "/api/v1/docs#problem-3005"
    assert (problem.status, problem.title, problem.detail) == (503, "Not persisted", "the store is away")
    assert (problem.code, problem.retryable, problem.action, problem.retry_after_ms) == (3005, True, "RETRY", 1500)
    body = json.loads(bytes(respond(ProtocolError("title: required")).body))
    assert body == {
        "type": "/api/v1/docs#problem-1004",
        "title": "Invalid payload",
        "status": 422,
        "detail": "title: required",
        "code": 1004,
        "retryable": False,
    }


@pytest.mark.parametrize(("after_ms", "header"), [(None, None), (1, "1"), (1000, "1"), (1001, "2"), (0, "0")])
def test_when_to_come_back_is_told_in_whole_seconds_not_too_early(
    after_ms: int | None, header: str | None
) -> None:
    response = respond(RateLimited("too many", retry_after_ms=after_ms))
    assert response.status_code == 429
    assert response.headers.get("retry-after") == header
    assert json.loads(bytes(response.body)).get("retry_after_ms") == after_ms


def test_only_a_401_challenges_and_only_a_bad_token_is_told_so() -> None:
    expected = {
        error.NotAuthenticated: "Bearer",
        WrongPassword: "Bearer",
        error.InvalidToken: 'Bearer error="invalid_token"',
        UserIdMissing: 'Bearer error="invalid_token"',
    }
    for cls in KINDS:
        response = respond(cls("reason"))
        assert response.headers.get("www-authenticate") == expected.get(cls)
        assert response.headers["content-type"] == PROBLEM_JSON
        assert response.headers["cache-control"] == "no-store"


def test_a_reason_that_quotes_half_a_character_can_be_sent() -> None:
    assert "code" in json.loads(bytes(respond(ProtocolError("name: got \ud800")).body))
