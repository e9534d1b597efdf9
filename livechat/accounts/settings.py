"""Owns the settings of the built-in accounts; the configuration holds one of these."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from livechat.error import ConfigError
from livechat.tokens.settings import COOKIE_NAME, AuthSettings

Registration = Literal["local", "open", "closed"]

MEMORY_KIB_PER_LANE_MIN: Final = 8
"""RFC 9106, section 3.1: argon2 needs at least 8 KiB for each lane."""
MEMORY_KIB_MAX: Final = 4 * 1024 * 1024
PASSES_MAX: Final = 100
LANES_MAX: Final = 64


@attrs.frozen
class AccountSettings:
    """Who may have an account here, how passwords are kept, and how long a login goes on."""

    enabled: bool = True
    """Accounts need signed tokens: where `auth.mode` is `shared-secret` there are none, whatever this says."""
    registration: Registration = "local"
    """Who may make an account by himself: `local`: programs on this machine, but no pages in its browsers; `open`:
    anybody; `closed`: nobody.
    `livechat user add` always may."""
    access_lifetime_s: int = 900
    """How long an access token lives; at most `auth.lifetime_max_s`."""
    refresh_lifetime_s: int = 30 * 86_400
    """A login that is not refreshed for so long has ended."""
    login_lifetime_s: int = 365 * 86_400
    """However often it is refreshed, a login ends after that."""
    logins_per_user: int = 20
    """With more, the one that was refreshed longest ago ends."""
    argon2_memory_kib: int = 19_456
    """OWASP, Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane. If these are raised, passwords are hashed
    anew as their owners log in."""
    argon2_passes: int = 2
    argon2_lanes: int = 1
    hash_threads: int = 1
    """Passwords hashed at a time, some thirty a second each; with as many as there are cores, chat would wait."""
    hash_queue: int = 64
    """Passwords waiting to be hashed; for more ERROR 9001."""
    attempts_per_account: int = 10
    """Logins at once with one account; after that one every `attempt_interval_s`."""
    attempts_per_address: int = 50
    """Failures at once of one address, loopback excepted; after that one every `attempt_interval_s`."""
    registrations_per_address: int = 10
    """Accounts made at once from one address, loopback excepted; after that one every
    `registration_interval_s`."""
    attempt_interval_s: int = 10
    registration_interval_s: int = 600
    cookie: str = "livechat_refresh"
    """The cookie that carries the refresh token of clients that asked for cookies."""

    def check(self, auth: AuthSettings) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: names the setting, what was expected and what came.
        """
        for name, most in (("memory_kib", MEMORY_KIB_MAX), ("passes", PASSES_MAX), ("lanes", LANES_MAX)):
            value = getattr(self, f"argon2_{name}")
            if value > most:
                raise ConfigError(f"accounts.argon2_{name}: expected at most {most}, got {value}")
        least = MEMORY_KIB_PER_LANE_MIN * self.argon2_lanes
        if self.argon2_memory_kib < least:
            raise ConfigError(
                f"accounts.argon2_memory_kib: expected at least {least}, got {self.argon2_memory_kib}"
            )
        if COOKIE_NAME.fullmatch(self.cookie) is None:
            raise ConfigError(f"accounts.cookie: expected the name of a cookie, got {self.cookie!r}")
        if self.cookie == auth.cookie:
            raise ConfigError(f"accounts.cookie: expected another name than auth.cookie, got {self.cookie!r}")
