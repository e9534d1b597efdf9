"""Owns how classes are declared whose instances nobody changes and of which each message makes several.

It must not be used for anything else: `attrs.frozen` keeps its word at run time as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from attrs import frozen as value
else:

    def value(cls: type) -> type:
        """Declare an attrs class as `attrs.frozen` does: equal and hashed by its fields.

        That nobody changes them only the type checker sees to: to fill a class that refuses changes at run time
        takes three times as long, and a message passes through ten of them.
        """
        return attrs.define(cls, unsafe_hash=True, on_setattr=attrs.setters.NO_OP)


__all__ = ["value"]
