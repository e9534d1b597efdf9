"""Owns the two ways between JSON text and plain values: Python's own, and orjson where it is installed.

It must not know packets. Python's own decides what is JSON and what can be written: orjson is asked first, and
what it refuses, or would read or write otherwise, is done again. So both give the same values and the same errors.

                           Python's own     orjson
    integer past 64 bits   as it is         read as a float: see `is_exact`; not written
    lone surrogate         as it is         refused
    NaN, Infinity          refused          refused; written as null
"""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

try:
    import orjson
except ImportError:
    HAS_ORJSON = False
else:
    HAS_ORJSON = True
    _OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
    _read, _write = orjson.loads, orjson.dumps


class NotJson(ValueError):
    """What Python's parser takes for JSON and RFC 8259 does not."""


class JsonText(Protocol):
    """One way to read and write JSON."""

    is_exact: bool
    """Whether it reads integers past 64 bits as integers."""

    def loads(self, text: str) -> Any:
        """Parse a text.

        Raises:
            ValueError: it is not JSON; `NotJson` or `json.JSONDecodeError` say why.
            RecursionError: it is nested too deeply.
        """
        ...

    def dumps(self, value: Any) -> bytes:
        """Write a value as compact UTF-8.

        Raises:
            ValueError: it holds a number that is not finite, or a lone surrogate.
            TypeError: it holds something else that JSON can't.
        """
        ...


def _refuse_constant(name: str) -> Any:
    raise NotJson(f"{name} is not JSON")


class PythonJson:
    """JSON by Python's own library."""

    is_exact = True
    _decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
    _encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

    def loads(self, text: str) -> Any:
        """See `JsonText`."""
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM", text, 0)
        return self._decode(text)

    def dumps(self, value: Any) -> bytes:
        """See `JsonText`."""
        return self._encode(value).encode()


class OrJson:
    """JSON by orjson, as far as it does as Python's own library."""

    is_exact = False
    _python = PythonJson()

    def loads(self, text: str) -> Any:
        """See `JsonText`."""
        try:
            return _read(text)
        except ValueError:
            return self._python.loads(text)

    def dumps(self, value: Any) -> bytes:
        """See `JsonText`."""
        try:
            written = _write(value, option=_OPTIONS)
        except TypeError:
            return self._python.dumps(value)
        # It writes null for what is no finite number; and few packets hold a null, or a text that says so.
        return self._python.dumps(value) if b"null" in written else written


PYTHON_JSON: Final[JsonText] = PythonJson()
JSON_TEXTS: Final[dict[str, JsonText]] = {"json": PYTHON_JSON} | ({"orjson": OrJson()} if HAS_ORJSON else {})
"""Those that can be had, by the name of their library; the last one is the fastest."""
JSON_TEXT: Final[JsonText] = list(JSON_TEXTS.values())[-1]
"""The one to use."""
