"""Owns the kinds of options that several benchmarks take. It must not know what they are for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence


def whole_numbers(most: int, least: int = 1) -> Callable[[str], list[int]]:
    """Return a parser of numbers separated by commas, such as `10,100`, within bounds."""

    def numbers(text: str) -> list[int]:
        try:
            values = [int(part) for part in text.split(",")]
        except ValueError:
            values = []
        if not values or not all(least <= value <= most for value in values):
            raise argparse.ArgumentTypeError(
                f"expected numbers from {least} to {most}, such as 10,100; got {text}"
            )
        return values

    return numbers


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of names separated by commas, all of which must be known."""

    def names(text: str) -> list[str]:
        values = text.split(",")
        unknown = [value for value in values if value not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}; got {', '.join(unknown)}")
        return values

    return names


def listed(values: Sequence[object]) -> str:
    """Return values as they are given on the command line."""
    return ",".join(str(value) for value in values)
