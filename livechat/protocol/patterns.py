"""Owns which channels a token is good for: patterns of channel ids, as in shells. Pure.

It must not know tokens or sessions. Ids hold no character that is special in a pattern, so an id is a pattern too.

    *   any characters, none included
    ?   any one character
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Final

import attrs

PATTERN: Final = re.compile(r"[\w.:@*?-]{1,64}")
"""What ids are made of, and the two wildcards."""
PATTERNS_MAX: Final = 100


def _check(_instance: object, _attribute: object, patterns: tuple[str, ...]) -> None:
    if len(patterns) > PATTERNS_MAX:
        raise ValueError(f"channels: expected at most {PATTERNS_MAX} patterns, got {len(patterns)}")
    for pattern in patterns:
        if PATTERN.fullmatch(pattern) is None:
            raise ValueError("channels: expected patterns of 1 to 64 letters, digits or _ . : @ - * ?")


@attrs.frozen
class ChannelPatterns:
    """The channels whose id fits one of some patterns; none, if there is no pattern.

    Raises:
        ValueError: too many, or one is no pattern.
    """

    patterns: tuple[str, ...] = attrs.field(validator=_check)
    _fits: re.Pattern[str] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        # What fnmatch makes of a pattern never goes back over what a `*` took, so no pattern is slow. Without
        # patterns there is no alternative at all, and that must not fit the empty text either: no id is empty.
        fits = re.compile("|".join(translate(pattern) for pattern in self.patterns))
        object.__setattr__(self, "_fits", fits)

    def allow(self, channel_id: str) -> bool:
        """Tell whether a channel is one of these."""
        return bool(self.patterns) and self._fits.match(channel_id) is not None


def allowed(patterns: ChannelPatterns | None, channel_id: str) -> bool:
    """Tell whether a channel is one of these; None: all are."""
    return patterns is None or patterns.allow(channel_id)
