from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livechat.client.unread import COUNTED_MAX, UnreadCount


def stated(unread: int, read_seq: int, at: int, mentions: int = 0) -> UnreadCount:
    count = UnreadCount()
    count.state(unread, read_seq, at, mentions)
    return count


def test_messages_of_others_count_and_reading_them_all_resets() -> None:
    count = stated(0, 10, 10)
    count.heard(11, mentions_me=False)
    count.heard(12, mentions_me=True)
    assert (count.unread, count.mention_count) == (2, 1)
    count.read(12, 0)
    assert (count.unread, count.mention_count, count.read_seq) == (0, 0, 12)


def test_reading_some_leaves_the_rest() -> None:
    count = stated(0, 10, 10)
    for seq in (11, 12, 14):
        count.heard(seq, mentions_me=seq == 12)
    count.read(12, 1)
    assert (count.unread, count.mention_count) == (1, 0)


def test_what_the_server_has_counted_is_not_counted_again() -> None:
    count = stated(3, 5, 10)
    count.heard(8, mentions_me=True)
    assert (count.unread, count.mention_count) == (3, 0)
    count.heard(11, mentions_me=False)
    assert count.unread == 4


def test_within_what_was_stated_the_servers_count_is_taken() -> None:
    count = stated(5, 0, 10, mentions=4)
    count.heard(11, mentions_me=True)
    count.read(4, 3)
    assert (count.unread, count.mention_count) == (3, 3)


def test_writing_is_reading() -> None:
    count = stated(5, 0, 10, mentions=1)
    count.heard(11, mentions_me=True)
    count.read(12)
    assert (count.unread, count.mention_count) == (0, 0)


def test_an_old_message_of_ones_own_that_is_replayed_changes_nothing() -> None:
    count = stated(3, 5, 10)
    count.read(5)
    count.read(4)
    assert (count.unread, count.read_seq) == (3, 5)


def test_a_read_position_never_goes_back() -> None:
    count = stated(0, 10, 10)
    count.heard(11, mentions_me=False)
    count.read(3, 9)
    assert (count.unread, count.read_seq) == (1, 10)


def test_without_word_of_mentions_they_stay_as_far_as_they_can_be() -> None:
    count = stated(5, 0, 10, mentions=4)
    count.state(2, 6, 12)
    assert (count.unread, count.mention_count) == (2, 2)


def test_a_channel_that_nobody_reads_takes_no_more_and_more_memory() -> None:
    count = stated(0, 0, 0)
    for seq in range(1, COUNTED_MAX * 3):
        count.heard(seq, mentions_me=True)
    assert len(count._counted) == COUNTED_MAX
    assert count.unread == count.mention_count == COUNTED_MAX * 3 - 1
    count.read(COUNTED_MAX * 3 - 1, 0)
    assert (count.unread, count.mention_count) == (0, 0)


KINDS = st.sampled_from(["other", "mention", "mine", "system"])


@given(st.lists(KINDS, max_size=40), st.data())
def test_it_counts_as_the_server_does(kinds: list[str], data: st.DataObject) -> None:
    """From any point on, with any reads, the count is that of the messages after the read position."""
    begin = data.draw(st.integers(0, len(kinds)))

    def expected(read_seq: int, until: int) -> tuple[int, int]:
        seen = [kind for seq, kind in enumerate(kinds[:until], 1) if seq > read_seq]
        return sum(kind in ("other", "mention") for kind in seen), seen.count("mention")

    start_read = max([seq for seq, kind in enumerate(kinds[:begin], 1) if kind == "mine"], default=0)
    count = stated(*(expected(start_read, begin)[:1]), start_read, begin, expected(start_read, begin)[1])
    for seq, kind in enumerate(kinds[begin:], begin + 1):
        if kind == "mine":
            count.read(seq)
        elif kind != "system":
            count.heard(seq, mentions_me=kind == "mention")
        if data.draw(st.booleans()):
            read_seq = data.draw(st.integers(0, seq))
            count.read(read_seq, expected(read_seq, seq)[0])
        assert count.unread == expected(count.read_seq, seq)[0]
        assert count.mention_count >= expected(count.read_seq, seq)[1]
        if count.read_seq >= begin:
            assert count.mention_count == expected(count.read_seq, seq)[1]
