"""What a client knows of live streams: what is missing, and how one gets into them."""

from __future__ import annotations

from livechat.client.events import ChunkGap
from livechat.client.streams import INIT_BYTES_MAX, STREAMS_MAX, Heard, StreamBook, name_of
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.types import ChannelId, StreamId, UserId
from tests.support.client_events import BOB, DEN, HALL

CAM = StreamId("cam")


def chunk(
    seq: int,
    *,
    keyframe: bool = False,
    init: bool = False,
    stream_id: str = CAM,
    channel_id: ChannelId = DEN,
    data: bytes = b"\x00",
) -> ChunkEvent:
    return ChunkEvent(channel_id, BOB, StreamId(stream_id), seq, "video/mp4", data, keyframe, init)


def brief(heard: list[Heard]) -> list[int | tuple[int, int]]:
    """Tell chunks by their number, and gaps by what lies around them."""
    return [(each.after, each.before) if isinstance(each, ChunkGap) else each.chunk_seq for each in heard]


def taken(book: StreamBook, *chunks: ChunkEvent) -> list[int | tuple[int, int]]:
    return brief([each for event in chunks for each in book.take(event)])


def inits(book: StreamBook) -> list[int]:
    known = book.find(lambda _name: True).values()
    return [stream.init.chunk_seq for stream in known if stream.init is not None]


def test_a_jump_of_the_numbers_is_told_before_the_chunk_that_jumps() -> None:
    book = StreamBook()
    assert taken(book, chunk(5), chunk(6), chunk(9), chunk(10)) == [5, 6, (6, 9), 9, 10]
    (gap, _) = book.take(chunk(12))
    assert gap == ChunkGap(DEN, BOB, CAM, 10, 12)


def test_each_stream_has_numbers_of_its_own() -> None:
    book = StreamBook()
    assert taken(book, chunk(1), chunk(1, stream_id="mic"), chunk(1, channel_id=HALL), chunk(2)) == [1, 1, 1, 2]
    assert taken(book, chunk(3, stream_id="mic"), chunk(3)) == [(1, 3), 3, 3]


def test_an_init_chunk_within_a_gap_comes_ahead_of_the_keyframe() -> None:
    book = StreamBook()
    assert taken(book, chunk(5), chunk(7, init=True), chunk(9, keyframe=True)) == [5, (5, 7), 7, (7, 9), 9]


def test_who_joins_has_lost_nothing_between_the_init_and_the_keyframe() -> None:
    book = StreamBook()
    assert taken(book, chunk(0, init=True), chunk(7, init=True), chunk(40, keyframe=True)) == [0, 7, 40]
    assert taken(book, chunk(42)) == [(40, 42), 42]


def test_an_init_chunk_that_is_told_again_is_no_gap_and_hides_none() -> None:
    book = StreamBook()
    assert taken(book, chunk(1, init=True), chunk(2), chunk(3)) == [1, 2, 3]
    # As after RESUMED: it comes again as it was, and then the next keyframe.
    assert taken(book, chunk(1, init=True), chunk(40, keyframe=True)) == [1, (3, 40), 40]
    assert taken(book, chunk(1, init=True), chunk(41)) == [1, 41], "nothing was missed this time"


def test_a_stream_that_begins_anew_counts_from_there() -> None:
    book = StreamBook()
    assert taken(book, chunk(50), chunk(0, init=True), chunk(1), chunk(2)) == [50, 0, 1, 2]
    assert taken(book, chunk(0, init=True), chunk(2), chunk(3)) == [0, (0, 2), 2, 3]
    # Without an `init` chunk, as when the server had ended it.
    assert taken(book, chunk(1), chunk(2)) == [1, 2]


def test_the_newest_init_is_known_until_the_stream_begins_anew_without_one() -> None:
    book = StreamBook()
    taken(book, chunk(1, init=True), chunk(2), chunk(3, init=True), chunk(4))
    assert inits(book) == [3]
    taken(book, chunk(1, init=True), chunk(2))
    assert inits(book) == [1], "it began anew by that one"
    taken(book, chunk(2))
    assert inits(book) == []


def test_whether_a_stream_marks_keyframes_is_known_until_it_begins_anew() -> None:
    book = StreamBook()

    def marks() -> list[bool]:
        return [stream.marks_keyframes for stream in book.find(lambda _name: True).values()]

    taken(book, chunk(5))
    assert marks() == [False]
    taken(book, chunk(6, keyframe=True), chunk(7))
    assert marks() == [True]
    taken(book, chunk(7))
    assert marks() == [False]


def test_with_a_session_inits_are_told_anew_and_places_stay() -> None:
    book = StreamBook()
    taken(book, chunk(1, init=True), chunk(2))
    book.restart()
    assert inits(book) == []
    assert taken(book, chunk(1, init=True), chunk(9, keyframe=True)) == [1, (2, 9), 9]
    assert inits(book) == [1]


def test_a_channel_that_is_left_is_forgotten() -> None:
    book = StreamBook()
    taken(book, chunk(1), chunk(1, channel_id=HALL))
    book.forget(DEN)
    assert [name[0] for name in book.find(lambda _name: True)] == [HALL]
    assert taken(book, chunk(9)) == [9]


def test_what_is_kept_is_bounded() -> None:
    book = StreamBook()
    for number in range(STREAMS_MAX + 1):
        taken(book, chunk(1, stream_id=f"s{number}"))
    assert len(book) == STREAMS_MAX
    assert (DEN, UserId(BOB), StreamId("s0")) not in book.find(lambda _name: True)
    third = bytes(INIT_BYTES_MAX // 3)
    for number, stream_id in enumerate("abcd"):
        taken(book, chunk(number, init=True, stream_id=stream_id, data=third))
    assert inits(book) == [1, 2, 3]
    taken(book, chunk(9, init=True, data=bytes(INIT_BYTES_MAX + 1)))
    assert inits(book) == []


def test_a_chunk_and_its_gap_are_of_one_stream() -> None:
    book = StreamBook()
    book.take(chunk(1))
    assert {name_of(each) for each in book.take(chunk(3))} == {(DEN, BOB, CAM)}
