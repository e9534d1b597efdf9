"""Owns the settings of what one address may do; the configuration holds one of these."""

from __future__ import annotations

import attrs


@attrs.frozen
class AddressLimits:
    """How much one address may ask. An IPv6 network of 64 bits counts as one address."""

    connects_per_min: int = 3_000
    """New connections, in the long run; 0: any number. More get HTTP 429, and many more are dropped."""
    connects_burst: int = 1_000
    """New connections at once after a pause. A whole office may come back at once behind one address."""
    connections: int = 5_000
    """Connections at a time; 0: any number."""
    failures_per_min: int = 20
    """Tokens that are refused, in the long run; 0: any number. Then none is looked at for a while (1006)."""
    failures_burst: int = 100
    """Tokens that are refused, at once after a pause."""
    remembered: int = 100_000
    """Addresses, and users of the HTTP API, that are remembered; some 200 bytes each."""
    spare_loopback: bool = True
    """Whether programs on this machine may ask as much as they like."""
