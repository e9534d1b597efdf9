"""Owns the statements on the tables of jobs. All are constants, so that each is compiled once.

It must not hold rules (see `jobs`).
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects.postgresql import insert

from livechat.store.schema import JOB, JOB_EVENT, JOB_RUNNER

_JOB = JOB.c
_EVENT = JOB_EVENT.c

UNFINISHED: Final = ("queued", "running")

JOB_COLUMNS: Final = (
    _JOB.job_id,
    _JOB.user_id,
    _JOB.kind,
    _JOB.state,
    _JOB.progress,
    _JOB.event_seq,
    _JOB.input,
    _JOB.session_id,
    _JOB.is_admin,
    _JOB.safe_to_rerun,
    _JOB.attempts,
    _JOB.runner_id,
    _JOB.created_at,
    _JOB.started_at,
    _JOB.finished_at,
    _JOB.result,
    _JOB.error_code,
    _JOB.error_reason,
    _JOB.output_name,
    _JOB.output_mime,
    _JOB.output_bytes,
)

# --- handing in -----------------------------------------------------------------------------------

FIND_KEY: Final = sa.select(_JOB.job_id, _JOB.body_digest, _JOB.created_at).where(
    _JOB.user_id == bindparam("user"), _JOB.idempotency_key == bindparam("key")
)
FREE_KEY: Final = sa.update(JOB).where(_JOB.job_id == bindparam("job")).values(idempotency_key=None)

INSERT_JOB: Final = sa.insert(JOB).values(
    job_id=bindparam("job"),
    user_id=bindparam("user"),
    kind=bindparam("kind_"),
    state=bindparam("state_"),
    progress=0,
    event_seq=1,
    input=bindparam("input_"),
    session_id=bindparam("session"),
    is_admin=bindparam("admin"),
    safe_to_rerun=bindparam("safe"),
    attempts=0,
    runner_id=bindparam("runner"),
    created_at=bindparam("now"),
    idempotency_key=bindparam("key"),
    body_digest=bindparam("digest"),
)
INSERT_EVENT: Final = sa.insert(JOB_EVENT).values(
    job_id=bindparam("job"),
    event_seq=bindparam("seq"),
    state=bindparam("state_"),
    progress=bindparam("progress_"),
    partial_text=bindparam("text_"),
    partial_bytes=bindparam("bytes_"),
)

# --- steps ----------------------------------------------------------------------------------------

LOCK_JOB: Final = sa.select(*JOB_COLUMNS).where(_JOB.job_id == bindparam("job")).with_for_update()
MOVE_JOB: Final = (
    sa.update(JOB)
    .where(_JOB.job_id == bindparam("job"))
    .values(
        state=bindparam("state_"),
        progress=bindparam("progress_"),
        event_seq=bindparam("seq"),
        attempts=bindparam("attempts_"),
        runner_id=bindparam("runner"),
        started_at=bindparam("started"),
        finished_at=bindparam("finished"),
        result=bindparam("result_"),
        error_code=bindparam("code"),
        error_reason=bindparam("reason"),
        output_name=bindparam("name_"),
        output_mime=bindparam("mime_"),
        output_bytes=bindparam("size_"),
    )
)
TRIM_EVENTS: Final = sa.delete(JOB_EVENT).where(
    _EVENT.job_id == bindparam("job"), _EVENT.event_seq <= bindparam("until")
)

# --- reading --------------------------------------------------------------------------------------

GET_JOB: Final = sa.select(*JOB_COLUMNS).where(_JOB.job_id == bindparam("job"))
LIST_JOBS: Final = (
    sa.select(*JOB_COLUMNS)
    .where(_JOB.user_id == bindparam("user"), _JOB.job_id < bindparam("before"))
    .order_by(_JOB.job_id.desc())
    .limit(bindparam("most"))
)
SUM_OUTPUTS: Final = sa.select(sa.func.sum(_JOB.output_bytes)).where(_JOB.user_id == bindparam("user"))
READ_EVENTS: Final = (
    sa.select(_EVENT.event_seq, _EVENT.state, _EVENT.progress, _EVENT.partial_text, _EVENT.partial_bytes)
    .where(_EVENT.job_id == bindparam("job"), _EVENT.event_seq > bindparam("after"))
    .order_by(_EVENT.event_seq)
    .limit(bindparam("most"))
)

# --- servers that are gone ------------------------------------------------------------------------

_living = sa.select(JOB_RUNNER.c.runner_id).where(JOB_RUNNER.c.seen_at >= bindparam("alive_since"))
ORPHANS: Final = (
    sa.select(*JOB_COLUMNS)
    .where(
        _JOB.state.in_([sa.literal_column(f"'{state}'") for state in UNFINISHED]),
        _JOB.runner_id != bindparam("runner"),
        _JOB.runner_id.not_in(_living),
    )
    .order_by(_JOB.job_id)
    .limit(bindparam("most"))
    .with_for_update(of=JOB)
)
ADOPT: Final = sa.update(JOB).where(_JOB.job_id == bindparam("job")).values(runner_id=bindparam("runner"))
_seen = insert(JOB_RUNNER).values(runner_id=bindparam("runner"), seen_at=bindparam("now"))
SEE_RUNNER: Final = _seen.on_conflict_do_update(
    index_elements=[JOB_RUNNER.c.runner_id], set_={"seen_at": _seen.excluded.seen_at}
)
FORGET_RUNNERS: Final = sa.delete(JOB_RUNNER).where(JOB_RUNNER.c.seen_at < bindparam("seen_before"))

# --- upkeep ---------------------------------------------------------------------------------------

FIND_OLD: Final = (
    sa.select(_JOB.job_id)
    .where(
        _JOB.finished_at < bindparam("finished_before"),
        sa.or_(_JOB.idempotency_key.is_(None), _JOB.created_at < bindparam("created_before")),
    )
    .order_by(_JOB.finished_at)
    .limit(bindparam("most"))
)
DELETE_EVENTS: Final = sa.delete(JOB_EVENT).where(_EVENT.job_id == bindparam("job"))
DELETE_JOB: Final = sa.delete(JOB).where(_JOB.job_id == bindparam("job"))
