"""Owns what keeps our nurseries from showing in the exceptions of the blocks that run in them."""

from __future__ import annotations

from typing import NoReturn


def raise_lone(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Raise what the caller's own block raised as it was, if that is all there is in the group."""
    if len(group.exceptions) != 1:
        raise group
    lone = group.exceptions[0]
    context = lone.__context__
    try:
        raise lone
    finally:
        # Raising it here has made the group its context.
        lone.__context__ = context
