"""Owns the rules of messages, nonces and read positions.

It must not know any database, nor who may do what (`permissions`).
"""

from __future__ import annotations

from functools import partial

from livechat.error import NonceConflict, ProtocolError
from livechat.store import file_rows
from livechat.store.operations import CreateMessage, FileClaim, MarkRead
from livechat.store.permissions import Deed
from livechat.store.records import ChannelRecord, MemberRecord, NonceRecord, Records
from livechat.store.rows import MessageRow, ReadMark, Stored
from livechat.store.rules import Rules
from livechat.store.side import Transact


class MessageRules(Rules):
    """Append messages, once each; move read positions."""

    def __init__(self, records: Records, *, nonce_ttl_ms: int) -> None:
        super().__init__(records)
        self._nonce_ttl_ms = nonce_ttl_ms
        self._newest_ms: int | None = None

    @property
    def nonces_until(self) -> int | None:
        """The newest time at which a nonce has expired by now; None before there was any.

        Age is measured by the callers' clock, the only one the log knows.
        """
        return None if self._newest_ms is None else self._newest_ms - self._nonce_ttl_ms

    def create(self, operation: CreateMessage) -> Stored:
        """See `CreateMessage`."""
        if operation.nonce is not None:
            duplicate = self._first_result(operation, operation.nonce)
            if duplicate is not None:
                return duplicate
        if operation.problem is not None:
            raise operation.problem
        channel, author = self.allowed(
            Deed.MESSAGE, operation.channel_id, operation.author_id, admin=operation.admin
        )
        mentioned = self._mentioned(channel, operation) if operation.mentions else []
        attachment = operation.attachment
        if operation.file is not None:
            # Last of all that may refuse, for it changes the file.
            attachment = self._claim(channel, operation, operation.file) or attachment
        return self._append(channel, author, mentioned, operation, attachment)

    def _first_result(self, operation: CreateMessage, nonce: str) -> Stored | None:
        """Return the first result of the operation's nonce, if there is one."""
        first = self._records.nonce((operation.author_id, operation.channel_id, nonce))
        if first is None or operation.now_ms - first.timestamp >= self._nonce_ttl_ms:
            return None
        if first.body_digest != operation.body_digest:
            raise NonceConflict("this nonce was used for another message")
        return Stored(
            message_id=first.message_id,
            channel_id=operation.channel_id,
            seq=first.seq,
            timestamp=first.timestamp,
            duplicate=True,
            message=None,
        )

    def _mentioned(self, channel: ChannelRecord, operation: CreateMessage) -> list[MemberRecord]:
        """Return the other members whom a message mentions."""
        return [
            member
            for user_id in dict.fromkeys(operation.mentions)
            if user_id != operation.author_id and (member := self._records.member(channel, user_id)) is not None
        ]

    def _claim(
        self, channel: ChannelRecord, operation: CreateMessage, file: FileClaim
    ) -> dict[str, object] | None:
        """Return the attachment to store, if the file is ours; it is from now on attached."""
        work = partial(
            file_rows.claim,
            claimed=file,
            channel_key=channel.channel_key,
            author_id=operation.author_id,
            now_ms=operation.now_ms,
        )
        return self._records.transact(Transact(work))

    def _append(
        self,
        channel: ChannelRecord,
        author: MemberRecord | None,
        mentioned: list[MemberRecord],
        operation: CreateMessage,
        attachment: dict[str, object] | None,
    ) -> Stored:
        records = self._records
        channel.last_seq = seq = channel.last_seq + 1
        channel.last_ordinal += 1
        if author is not None:
            self._move(channel, author, seq, channel.last_ordinal)
        for member in mentioned:
            member.mention_count += 1
            records.add_mention(member, seq)
            records.touch_member(member)
        message = MessageRow(
            operation.message_id,
            operation.channel_id,
            seq,
            operation.author_id,
            operation.message_type,
            operation.content,
            attachment,
            operation.mentions,
            operation.nonce,
            operation.now_ms,
            None,
        )
        records.add_message(channel, message)
        records.touch_channel(channel)
        if operation.nonce is not None:
            self._keep_nonce(operation, operation.nonce, seq)
        return Stored(
            operation.message_id,
            operation.channel_id,
            seq,
            operation.now_ms,
            False,
            message,
            tuple([member.user_id for member in mentioned]),
        )

    def _keep_nonce(self, operation: CreateMessage, nonce: str, seq: int) -> None:
        key = (operation.author_id, operation.channel_id, nonce)
        record = NonceRecord(key, operation.body_digest, operation.message_id, seq, operation.now_ms)
        self._records.put_nonce(record)
        self._newest_ms = max(self._newest_ms or operation.now_ms, operation.now_ms)

    # --- read positions ---------------------------------------------------------------------------

    def mark_read(self, operation: MarkRead) -> ReadMark:
        """See `MarkRead`."""
        channel, member = self.member(Deed.READ, operation.channel_id, operation.user_id, admin=operation.admin)
        if operation.seq > channel.last_seq:
            raise ProtocolError(f"seq: expected at most {channel.last_seq}, got {operation.seq}")
        moved = operation.seq > member.read_seq
        if moved:
            # A member's position starts in this life of the channel, so what lies after it is of this life too.
            at_end = operation.seq == channel.last_seq
            ordinal = channel.last_ordinal if at_end else self._records.ordinal_at(channel, operation.seq)
            self._move(channel, member, operation.seq, ordinal)
        return ReadMark(channel.row(), member.row(channel), moved)

    def _move(self, channel: ChannelRecord, member: MemberRecord, seq: int, ordinal: int) -> None:
        """Move a read position forward; what mentioned the member up to there has been read."""
        member.read_seq = seq
        member.read_ordinal = ordinal
        if member.mention_count:
            member.mention_count = self._records.remove_mentions(member, seq)
        self._records.touch_member(member)
