from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from livechat.error import ConfigError
from livechat.handlers import words
from livechat.handlers.words import WordFinder, fold

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")
ZERO_WIDTH = ("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f", "\ufe0f", "\u3164", "\x01")


def full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def found(banned: str, text: str) -> list[str]:
    """The parts of the text that the one banned word is found in."""
    return [text[start:end] for start, end in WordFinder([banned]).spans(text)]


# --- scripts with borders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("banned", "text", "parts"),
    [
        ("ass", "you ass", ["ass"]),
        ("ass", "ASS! and Ass.", ["ASS", "Ass"]),
        ("ass", "class, assume, bass, glasses", []),
        ("ass", "ass1 2ass", []),
        ("ass", "_ass_ *ass* (ass)", ["ass", "ass", "ass"]),
        ("ass", "ass's", ["ass"]),
        ("ass", "assass", []),
        ("ass", "éass asse\u0301", []),
        ("cafe", "café cafe\u0301", []),
        ("café", "CAFÉ cafe\u0301 cafe", ["CAFÉ", "cafe\u0301"]),
        ("ano", "feliz año", []),
        ("straße", "STRASSE", ["STRASSE"]),
        ("дурак", "Дурак! дураки", ["Дурак"]),
        ("σασ", "ΣΑΣ", ["ΣΑΣ"]),
        ("42", "42 1942 420 is 42.", ["42", "42"]),
        ("c++", "c++ or c++11 or abc++", ["c++", "c++"]),
        ("a$$", "a$$hole", ["a$$"]),
        ("¯\\_(ツ)_/¯", "so ¯\\_(ツ)_/¯!", ["¯\\_(ツ)_/¯"]),
    ],
)
def test_where_words_have_borders_only_whole_words_are_found(banned: str, text: str, parts: list[str]) -> None:
    assert found(banned, text) == parts


# --- scripts without ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("banned", "text", "parts"),
    [
        ("바보", "이 바보야", ["바보"]),
        ("바보", "진짜바보들이네", ["바보"]),
        ("바보", "바 보", []),
        ("가", "각 강 가", ["가"]),
        ("아가", "악아 아각 아가", ["아가"]),
        ("ㅅㅂ", "아 ㅅㅂ 진짜", ["ㅅㅂ"]),
        ("ㅅㅂ", "옷방 섭 시발", []),
        ("ㅂㅅ", "ㅄ ㅂㅅ 봇", ["ㅄ", "ㅂㅅ"]),
        ("오ㄹㅎ", "오ㅀ 옳", ["오ㅀ", "옳"]),
        ("笨蛋", "你是个笨蛋吗", ["笨蛋"]),
        ("ばか", "おまえはばかだ", ["ばか"]),
        ("バカ", "ﾊﾞｶ", ["ﾊﾞｶ"]),
        ("は", "ば", []),
        ("โง่", "คุณโง่มาก", ["โง่"]),
        ("โง", "คุณโง่มาก", []),
        ("ass", "ass는 안돼", ["ass"]),
        ("ass", "이ass야 これassです", ["ass", "ass"]),
        ("바보ass", "바보asses 바보ass야", ["바보ass"]),
    ],
)
def test_where_words_have_no_borders_they_are_found_anywhere(banned: str, text: str, parts: list[str]) -> None:
    assert found(banned, text) == parts


# --- disguises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("banned", ["시발", "ㅅㅂ", "닭값", "뷁", "과일"])
def test_hangul_is_found_however_it_is_written(banned: str) -> None:
    typed = "".join(words._FOLDS[ord(char)] for char in banned)
    halves = "".join(typed_by_halves(char) for char in banned)
    for form in FORMS:
        for written in (banned, typed, halves):
            text = unicodedata.normalize(form, f"아 {written}! 네")
            assert found(banned, text) == [text[text.index(" ") + 1 : text.index("!")]], (form, written)
            assert found(unicodedata.normalize(form, written), f"{banned}들") == [banned]


def typed_by_halves(syllable: str) -> str:
    """Spell a final consonant as a letter of its own: 발 as 바ㄹ."""
    parts = unicodedata.normalize("NFD", syllable)
    if len(parts) < 3:
        return syllable
    return unicodedata.normalize("NFC", parts[:2]) + words._KEYS[parts[2]]


@pytest.mark.parametrize("filler", ZERO_WIDTH)
@pytest.mark.parametrize("banned", ["badword", "나쁜말", "坏话"])
def test_what_nobody_sees_hides_nothing(banned: str, filler: str) -> None:
    hidden = filler.join(banned)
    assert found(banned, f"{filler}x {hidden}{filler}!") == [hidden]
    assert found(hidden, banned) == [banned]


@pytest.mark.parametrize(
    "text",
    [
        "BADWORD",
        full_width("BadWord"),
        "𝐛𝐚𝐝𝐰𝐨𝐫𝐝",
        "ⓑⓐⓓⓦⓞⓡⓓ",
        "b\u0336a\u0336d\u0336w\u0336o\u0336r\u0336d",
        "b\u20dda\u20ddd\u20ddword",
    ],
)
def test_other_shapes_of_letters_hide_nothing(text: str) -> None:
    assert found("badword", f"a {text} b") == [text]


def test_a_hidden_letter_joins_words_as_a_shown_one_does() -> None:
    assert found("ass", "cl\u200bass a\u200bss") == ["a\u200bss"]
    assert found("ass", "c\u0336l\u0336a\u0336s\u0336s") == []


@pytest.mark.parametrize("text", ["go away", "GO\naway", "go \t\u00a0 away", "go \u200b away", "go\u3000away"])
def test_a_phrase_is_found_over_any_white_space(text: str) -> None:
    assert found("go  away", f"now {text}!") == [text]
    assert found("go away", "goaway go-away go awaywards") == []


def test_one_character_that_stands_for_several_letters_is_found_as_a_whole_or_not_at_all() -> None:
    assert found("fi", "ﬁ") == ["ﬁ"]
    assert found("f", "ﬁ") == []
    assert found("i", "ﬁ") == []
    assert found("주", "㈜") == []


# --- many words -----------------------------------------------------------------------------------------------


def test_every_word_is_found_be_it_part_of_another_or_not() -> None:
    finder = WordFinder(["시", "시발", "시발점", "발", "she", "he", "hers"])
    assert finder.spans("시발점") == [(0, 3)]
    assert finder.spans("시바") == [(0, 1)]
    assert finder.spans("she hers ushers") == [(0, 3), (4, 8)]


def test_a_shorter_word_is_found_where_the_longer_one_does_not_stand_alone() -> None:
    # 시발 is there by its letters, but ends within a syllable.
    assert WordFinder(["시바", "시발"]).spans("시바라") == [(0, 2)]
    assert WordFinder(["a b", "a"]).spans("a bc") == [(0, 1)]


def test_spans_that_overlap_are_one_and_those_that_touch_are_two() -> None:
    assert WordFinder(["가나", "나다"]).spans("가나다") == [(0, 3)]
    assert WordFinder(["가나"]).spans("가나가나") == [(0, 2), (2, 4)]


def test_without_words_nothing_is_found() -> None:
    assert not WordFinder([]).finds("anything")


@pytest.mark.parametrize("word", ["", "  ", "\u200b", "\u0336", "\x01 \ufe0f"])
def test_a_word_without_letters_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"^words: expected something to look for, got ") as caught:
        WordFinder(["fine", word])
    assert str(caught.value).isprintable()


# --- any text -------------------------------------------------------------------------------------------------

TRICKY = st.text(
    st.sampled_from(
        [
            *"aAbs $*1",
            *"가각나ㄱㄴㅏㅗㄳ과각",
            *"ßﬁé한は",
            *("\u1100", "\u1161", "\u11a8"),
            *("\u0301", "\u0323", "\u0336", "\u3099", "\u200b", "\t", "ａ", "ｶﾞ"[0], "ﾞ", "😀", "ง่"[1]),
        ]
    ),
    max_size=12,
)
WORDS = st.lists(TRICKY.filter(lambda word: bool(fold(word).strip())), min_size=1, max_size=4)


def is_cluster_start(text: str, index: int) -> bool:
    """Whether a character begins there that somebody sees as one, looking past what nobody sees."""
    before = [char for char in text[:index] if words._FOLDS[ord(char)]]
    after = [char for char in text[index:] if words._FOLDS[ord(char)]]
    if not before or not after:
        return True
    if "\u1160" <= after[0] <= "\u11ff":
        return not ("\u1100" <= before[-1] <= "\u11ff" or "가" <= before[-1] <= "힣")
    return unicodedata.category(fold(after[0])[0])[0] != "M"


def has_borders(letter: str) -> bool:
    return letter in "abcdefghijklmnopqrstuvwxyz0123456789" or letter in ("\u0301", "\u0323")


def spans_by_definition(banned: list[str], text: str) -> set[tuple[int, int]]:
    """Every part of the text that is a banned word by its letters and stands where a word may stand."""
    letters = {fold(word.strip()).strip() for word in banned}
    spans = set()
    visible = [index for index, char in enumerate(text) if words._FOLDS[ord(char)]]
    for start in visible:
        for last in visible:
            part = fold(text[start : last + 1])
            if last < start or part not in letters:
                continue
            before, after = fold(text[:start]), fold(text[last + 1 :])
            if not is_cluster_start(text, start) or not is_cluster_start(text, last + 1):
                continue
            joined = (before and has_borders(before[-1]) and has_borders(part[0])) or (
                after and has_borders(after[0]) and has_borders(part[-1])
            )
            if not joined:
                spans.add((start, last + 1))
    return spans


@given(banned=WORDS, text=TRICKY)
@settings(max_examples=1000)
def test_found_is_what_is_a_word_by_definition(banned: list[str], text: str) -> None:
    assert set(WordFinder(banned)._matches(text)) == spans_by_definition(banned, text)


@given(text=st.text() | TRICKY)
@settings(max_examples=300)
def test_each_letter_comes_from_a_character_of_the_text(text: str) -> None:
    letters, origins = fold(text), words._origins(text)
    assert len(origins) == len(letters)
    assert origins == sorted(origins)
    for letter, origin in zip(letters, origins, strict=True):
        # Accents were put into order, so a letter may be from a neighbour, but only from an accent's.
        assert letter in words._FOLDS[ord(text[origin])] or unicodedata.combining(letter)


@given(text=st.text() | TRICKY, form=st.sampled_from(FORMS))
@settings(max_examples=300)
def test_the_letters_do_not_depend_on_the_normalization_form(text: str, form: Form) -> None:
    # The K forms put a blank under an accent that stands on its own; that is another text to us.
    alone = [char for char in text if " " in unicodedata.normalize("NFKD", char) and not char.isspace()]
    assume(not alone or form in ("NFC", "NFD"))
    assert fold(unicodedata.normalize(form, text)) == fold(text)


@given(text=st.text() | TRICKY)
def test_folding_letters_changes_nothing_more(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(text=st.text() | TRICKY)
def test_any_text_with_letters_finds_itself(text: str) -> None:
    # What begins with a mark would have to begin in the middle of a character.
    first = fold(text).strip()[:1]
    if first and not unicodedata.category(first).startswith("M"):
        assert WordFinder([text]).finds(text.strip())


@given(text=st.text(max_size=300))
def test_spans_are_ascending_within_the_text_and_apart(text: str) -> None:
    spans = WordFinder([char for char in set(text[:20]) if fold(char).strip()]).spans(text)
    flat = [index for span in spans for index in span]
    assert flat == sorted(flat)
    assert all(0 <= start < end <= len(text) for start, end in spans)


# --- hostile texts --------------------------------------------------------------------------------------------


class CountingSteps(dict[int, int]):
    """A finder's steps that count how often they are asked."""

    asked = 0

    def get(self, key: int, default: object = None) -> object:  # type: ignore[override]
        self.asked += 1
        return super().get(key) if key in self else default


@pytest.mark.parametrize(
    "text", ["a" * 5000, ("a" * 99 + "c") * 50, "ab" * 2500, ("a" * 50 + "b") * 100, "\u0301a" * 2500]
)
def test_the_search_takes_at_most_two_steps_a_letter_whatever_the_text(text: str) -> None:
    finder = WordFinder(["a" * 100 + "b", "ab" * 50 + "c", *("a" * length + "x" for length in range(1, 100))])
    steps = CountingSteps(finder._steps)
    object.__setattr__(finder, "_steps", steps)
    assert not finder.finds(text)
    assert len(text) <= steps.asked <= 2 * len(text)


def test_accents_beyond_number_are_put_into_order() -> None:
    # By exchanging neighbours this would take a thousand million steps.
    text = "a" + "\u0301\u0323" * 32_000
    assert fold(text) == "a" + "\u0323" * 32_000 + "\u0301" * 32_000


def test_what_is_remembered_of_characters_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    folds = words._Folds()
    monkeypatch.setattr(words, "FOLDS_MAX", 10)
    text = "".join(map(chr, range(0xAC00, 0xAC40)))
    assert text.translate(folds) == fold(text)
    assert len(folds) == 10
