"""An authenticator for tests: the token itself says who its holder is and what it is good for."""

from __future__ import annotations

import livechat


class Scopes:
    """Takes `name:scope,scope` for a token; without a colon it is one of scope `chat`."""

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        """See `Authenticator`."""
        name, _, scopes = token.partition(":")
        return livechat.Identity(livechat.UserId(name), scopes=frozenset((scopes or "chat").split(",")))
