from __future__ import annotations

import io
import json
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from livechat.telemetry.masking import DEPTH_MAX, MASK, mask_secrets, masked

SECRET = "hunter2-hunter2-hunter2"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
SESSION_ID = "sess_" + "0123456789" * 4


@pytest.mark.parametrize(
    "name",
    [
        *("token", "access_token", "refresh_token", "refresh-token", "Token", "secret", "LIVECHAT_SECRET"),
        *(
            "password",
            "new_password",
            "authorization",
            "Authorization",
            "cookie",
            "Set-Cookie",
            "api_key",
            "apikey",
        ),
        *("client_key", "server_key", "master_key", "session_id", "credentials", "jwt"),
    ],
)
def test_what_is_named_like_a_secret_goes_whole(name: str) -> None:
    assert mask_secrets(None, "info", {name: SECRET}) == {name: MASK}
    assert masked({"inner": [{name: SECRET}]}) == {"inner": [{name: MASK}]}


@pytest.mark.parametrize("name", ["event", "user", "channel", "session", "trace_id", "tokens_left", "code", "op"])
def test_what_is_not_stays(name: str) -> None:
    assert mask_secrets(None, "info", {name: "as it is"}) == {name: "as it is"}


def test_that_there_is_no_secret_may_be_said() -> None:
    assert mask_secrets(None, "info", {"token": None}) == {"token": None}


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws?token={SECRET}&user_id=ann HTTP/1.1",
        f"wss://chat.example/ws?user_id=ann&token={SECRET}",
        f"/ws?access_token={SECRET}#x",
        f"password={SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization: basic {SECRET}",
        f"postgresql://livechat:{SECRET}@db.example/livechat",
        f'{{"op": 3, "d": {{"token": "{SECRET}"}}}}',
        f"{{'token': '{SECRET}', 'user_id': 'ann'}}",
        f'{{"refresh_token" : "{SECRET}\\" and more"}}',
    ],
)
def test_secrets_within_a_text_are_masked(text: str) -> None:
    for value in (text, text.encode(), [text], {"a": (text,)}, ValueError(text)):
        shown = repr(masked(value))
        assert SECRET not in shown
        assert MASK in shown


@pytest.mark.parametrize("text", [f"a {JWT} b", f"({SESSION_ID})"])
def test_secrets_that_show_by_their_form_are_masked(text: str) -> None:
    assert masked(text) == text.replace(JWT, MASK).replace(SESSION_ID, f"sess_{MASK}")


@pytest.mark.parametrize(
    "text",
    [
        "listening on 127.0.0.1:8080",
        "token: expected a string",
        "the token has expired",
        "closed with code=4001 reason=slow consumer",
        "https://user@chat.example/path?limit=20",
        "sess_01234567",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_values_that_are_no_text_stay_what_they_are() -> None:
    thing = object()
    assert masked(thing) is thing
    assert mask_secrets(None, "info", {"n": 1, "f": 0.5, "b": True, "none": None}) == {
        "n": 1,
        "f": 0.5,
        "b": True,
        "none": None,
    }


def test_what_is_nested_too_deep_is_not_shown() -> None:
    value: Any = SECRET
    for _ in range(DEPTH_MAX + 1):
        value = [value]
    assert SECRET not in repr(masked(value))


@given(st.text() | st.binary() | st.dictionaries(st.text(), st.text() | st.lists(st.integers())))
def test_nothing_that_is_logged_makes_it_fail(value: object) -> None:
    masked(value)
    mask_secrets(None, "info", {"value": value})


@pytest.mark.parametrize("style", ["json", "console"])
def test_exceptions_are_masked_too_in_the_formats_of_livechat_serve(style: Any) -> None:
    from livechat.cli import logs

    out = io.StringIO()
    logger = structlog.wrap_logger(structlog.PrintLogger(out), processors=logs.processors(style, colors=False))
    try:
        raise ValueError(f"cannot open wss://x/ws?token={SECRET}")
    except ValueError:
        logger.error("failed", exc_info=True, password=SECRET)
    text = out.getvalue()
    assert "ValueError" in text
    assert "cannot open" in text
    assert SECRET not in text
    if style == "json":
        assert json.loads(text)["password"] == MASK
