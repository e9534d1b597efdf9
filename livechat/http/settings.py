"""Owns the settings of the HTTP API; the configuration holds one of these."""

from __future__ import annotations

import re
from typing import Final

import attrs

from livechat.error import ConfigError
from livechat.gateway.head import ANY_ORIGIN

ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)
"""As browsers write it; apps have schemes of their own."""


@attrs.frozen
class HttpSettings:
    """Who else may use the HTTP API from a browser."""

    cors_origins: tuple[str, ...] = ()
    """Origins of pages that may call the API with a token of their own; `*`: all. Cookies are taken only from
    `gateway.allowed_origins`, whose pages may call it too."""

    def check(self) -> None:
        """Refuse what is no origin.

        Raises:
            ConfigError: names the setting, and what came.
        """
        check_origins("http.cors_origins", [each for each in self.cors_origins if each != ANY_ORIGIN])


def check_origins(name: str, origins: list[str]) -> None:
    """Refuse what no browser would send as an origin.

    Raises:
        ConfigError: names the setting, and what came.
    """
    for origin in origins:
        # In small letters: browsers send nothing else, and what never matches is a mistake.
        if ORIGIN.fullmatch(origin) is None or origin != origin.lower():
            raise ConfigError(f"{name}: expected origins like https://chat.example, got {origin!r}")
