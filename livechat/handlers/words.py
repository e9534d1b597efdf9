"""Owns how unwanted words are found in a text, in whatever way they are written. Pure.

It must not decide what becomes of such a text (see `content`).

Texts and words are compared as letters: compatibility forms, case, zero-width characters and mere decoration are
gone, white space is one blank, and accents stand behind their base (Unicode 15, section 3.13, D146). Hangul is
spelled out in the letters of a keyboard, so that a syllable, its conjoining jamo and single letters typed one by
one are the same: 각, 가ㄱ and ㄱㅏㄱ. No false word comes of that, for a match must begin and end where
characters of the text do: 가 is not in 각.

Where a script sets words apart, a word is only found as a whole: "ass" is not in "class". Scripts without spaces
(Han, Kana, Thai) and those that hang endings on words (Hangul) have no such borders: there a word is found
anywhere, and next to one of their letters a Latin word ends too.

The search is that of Aho and Corasick (CACM 18:6, 1975): one pass over the text, however many words there are and
whatever somebody wrote to slow it down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final
from unicodedata import category, combining, is_normalized, normalize

from livechat.error import ConfigError

FOLDS_MAX: Final = 65_536
"""Characters whose letters are remembered, about 150 bytes each; others are worked out anew each time."""

_LEADING: Final = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS: Final = "ㅏ ㅐ ㅑ ㅒ ㅓ ㅔ ㅕ ㅖ ㅗ ㅗㅏ ㅗㅐ ㅗㅣ ㅛ ㅜ ㅜㅓ ㅜㅔ ㅜㅣ ㅠ ㅡ ㅡㅣ ㅣ"
_TRAILING: Final = (
    "ㄱ ㄲ ㄱㅅ ㄴ ㄴㅈ ㄴㅎ ㄷ ㄹ ㄹㄱ ㄹㅁ ㄹㅂ ㄹㅅ ㄹㅌ ㄹㅍ ㄹㅎ ㅁ ㅂ ㅂㅅ ㅅ ㅆ ㅇ ㅈ ㅊ ㅋ ㅌ ㅍ ㅎ"
)
_KEYS: Final[dict[str, str]] = {
    **{chr(0x1100 + number): key for number, key in enumerate(_LEADING)},
    **{chr(0x1161 + number): keys for number, keys in enumerate(_VOWELS.split())},
    **{chr(0x11A8 + number): keys for number, keys in enumerate(_TRAILING.split())},
    # What NFKD makes of ㅀ and ㅄ where they stand alone.
    "\u111a": "ㄹㅎ",
    "\u1121": "ㅂㅅ",
}
"""Conjoining jamo, and the keys that they are typed with (KS X 5002)."""
_CONJOINING: Final = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff]")
"""Vowels and finals: they belong to the syllable before them, if there is one."""
_SYLLABLE: Final = re.compile("[\u1100-\u11ff\ua960-\ua97f\uac00-\ud7ff]")
"""What a conjoining jamo belongs to: syllables and other conjoining jamo."""

_INVISIBLE: Final = frozenset(
    chr(code)
    for code in chain(
        (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F),
        range(0xFE00, 0xFE10),
        range(0xE0100, 0xE01F0),
    )
)
"""Joiners, fillers and variation selectors: the default ignorables that are no format characters."""
_DECORATION: Final = re.compile(
    "[\u0305\u030d\u030e\u0310\u0312\u0315-\u031a\u031c-\u0322\u0329-\u032c\u032f\u0332-\u0337\u0339-\u0341"
    "\u0346-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
"""Generic combining marks that no letter is composed with, such as strokes through a word."""

_WITHOUT_BORDERS: Final = re.compile(
    "["
    "\u0e00-\u109f"  # Thai, Lao, Tibetan, Myanmar
    "\u1100-\u11ff"  # Hangul jamo
    "\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1bbf"  # Khmer, Tai, Balinese, Sundanese
    "\u2e80-\ua4cf"  # Han, Kana, Bopomofo, Hangul letters, Yi
    "\ua960-\ua9ff\uaa60-\uaadf"  # Hangul, Javanese, Myanmar, Tai Viet
    "\uac00-\ud7ff\uf900-\ufaff"  # Hangul, Han
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"  # Kana, Han
    "]"
)
_BLANKS: Final = re.compile(" {2,}")

_NODE_BITS: Final = 21
"""A code point fits below; a node's number stands above."""


class _Folds(dict[int, str]):
    """Code point → letters; worked out when first asked for."""

    def __missing__(self, code: int) -> str:
        letters = _fold(chr(code))
        if len(self) < FOLDS_MAX:
            self[code] = letters
        return letters


def _fold(character: str) -> str:
    decomposed = normalize("NFKD", normalize("NFKD", character).casefold())
    if " " in decomposed and not character.isspace():
        # An accent on its own, taken apart, would look like a blank between two words.
        decomposed = normalize("NFD", character)
    return "".join([_letters(part) for part in decomposed])


def _letters(part: str) -> str:
    if part in _KEYS:
        return _KEYS[part]
    if part.isspace():
        return " "
    if part in _INVISIBLE or category(part) in ("Cf", "Cc") or _DECORATION.match(part):
        return ""
    return part


_FOLDS: Final = _Folds()


def fold(text: str) -> str:
    """Return a text's letters, as texts are compared. It takes little more than linear time, whatever the text."""
    letters = text.translate(_FOLDS)
    if "  " in letters:
        letters = _BLANKS.sub(" ", letters)
    return letters if is_normalized("NFD", letters) else _ordered(letters)


def _ordered(letters: str) -> str:
    """Put the accents of each base into their canonical order (Unicode, D109).

    `normalize` would as well, but by exchanging neighbours: ten thousand accents on one letter would take seconds.
    """
    order = []
    base = 0
    for letter in letters:
        rank = combining(letter)
        base += 256 if rank == 0 else 0
        order.append(base + rank)
    return "".join([letters[index] for index in sorted(range(len(letters)), key=order.__getitem__)])


def _origins(text: str) -> list[int]:
    """Return for each letter of `fold(text)` which character of the text it comes from.

    Where accents were put into order it is one of the accents of that base: no match begins or ends among them.
    """
    origins = []
    last = ""
    for index, character in enumerate(text):
        for letter in _FOLDS[ord(character)]:
            if letter != " " or last != " ":
                origins.append(index)
            last = letter
    return origins


class WordFinder:
    """Finds any of many words or phrases in texts.

    Args:
        words: in any form; white space between the words of a phrase stands for any amount of it.

    Raises:
        ConfigError: one of them has nothing to look for.
    """

    __slots__ = ("_fallbacks", "_lengths", "_steps")

    def __init__(self, words: Iterable[str]) -> None:
        # Flat dicts of numbers: the garbage collector does not visit them. Node 0 is the root.
        self._steps: dict[int, int] = {}
        """node + code point → the node of one letter more."""
        self._fallbacks: dict[int, int] = {0: 0}
        """node → the node of the longest proper suffix of its letters that is the beginning of some word."""
        self._lengths: dict[int, tuple[int, ...]] = {}
        """node → the lengths of the words that its letters end with, longest first; only where there are any."""
        self._link(self._plant(words))

    def _plant(self, words: Iterable[str]) -> list[tuple[int, int, int, int]]:
        """Make the trie; return its nodes as (depth, node, parent, code point)."""
        nodes: list[tuple[int, int, int, int]] = []
        for word in words:
            letters = fold(word.strip()).strip()
            if not letters:
                raise ConfigError(f"words: expected something to look for, got {word[:40]!r}")
            node = 0
            for depth, code in enumerate(map(ord, letters), 1):
                following = self._steps.get(node + code)
                if following is None:
                    following = self._steps[node + code] = (len(nodes) + 1) << _NODE_BITS
                    nodes.append((depth, following, node, code))
                node = following
            self._lengths[node] = (len(letters),)
        return nodes

    def _link(self, nodes: list[tuple[int, int, int, int]]) -> None:
        """Find each node's fallback, and the words that end there."""
        # By depth, as a fallback is always less deep.
        for _, node, parent, code in sorted(nodes):
            fallback = self._step(self._fallbacks[parent], code) if parent else 0
            self._fallbacks[node] = fallback
            shorter = self._lengths.get(fallback)
            if shorter is not None:
                self._lengths[node] = self._lengths.get(node, ()) + shorter

    def _step(self, node: int, code: int) -> int:
        while (following := self._steps.get(node + code)) is None and node:
            node = self._fallbacks[node]
        return following or 0

    def finds(self, text: str) -> bool:
        """Tell whether any of the words is in a text."""
        return next(self._matches(text), None) is not None

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where in a text words are: (start, end) in code points, ascending, no two of them overlapping."""
        merged: list[tuple[int, int]] = []
        for start, end in sorted(self._matches(text)):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def _matches(self, text: str) -> Iterator[tuple[int, int]]:
        letters = fold(text)
        origins: list[int] | None = None
        for end, lengths in self._candidates(letters):
            if origins is None:
                origins = _origins(text)
            for length in lengths:
                start = end - length
                if all(_is_border(text, letters, origins, index) for index in (start, end)):
                    yield origins[start], origins[end - 1] + 1

    def _candidates(self, letters: str) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield (where words end, their lengths), whatever stands around them."""
        steps, fallbacks, lengths = self._steps, self._fallbacks, self._lengths
        node = 0
        for end, code in enumerate(map(ord, letters), 1):
            following = steps.get(node + code)
            while following is None and node:
                node = fallbacks[node]
                following = steps.get(node + code)
            node = following or 0
            if node in lengths:
                yield end, lengths[node]


def _is_border(text: str, letters: str, origins: list[int], index: int) -> bool:
    """Tell whether a word may begin or end before a letter."""
    if index in (0, len(letters)):
        return True
    # Within what is one character to its reader?
    if origins[index - 1] == origins[index] or category(letters[index]).startswith("M"):
        return False
    before, character = text[origins[index - 1]], text[origins[index]]
    if _CONJOINING.match(character) and _SYLLABLE.match(before):
        return False
    return not (_has_borders(letters[index - 1]) and _has_borders(letters[index]))


def _has_borders(letter: str) -> bool:
    """Tell whether it is of a word that ends where such letters end: letters, accents, digits of most scripts."""
    return category(letter)[0] in "LMN" and _WITHOUT_BORDERS.match(letter) is None
