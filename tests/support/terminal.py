"""What the message of an error must be to be shown on a terminal."""

from __future__ import annotations

import pytest

from livechat.error import ConfigError


def assert_fit_for_a_terminal(error: pytest.ExceptionInfo[ConfigError]) -> None:
    text = str(error.value)
    assert text
    assert text.isprintable()
    assert len(text) < 400
