"""Owns the bounds of jobs; the configuration holds one of these."""

from __future__ import annotations

import attrs


@attrs.frozen
class JobSettings:
    """How many jobs there may be, how long they may take and how much they may tell."""

    concurrency: int = 16
    """Jobs that run at a time, of all kinds together; a kind may have a bound of its own."""
    queue_max: int = 1_000
    """Jobs that wait; more get 9001."""
    per_user: int = 20
    """Jobs of one user that wait or run; more get 9001."""
    timeout_ms: int = 600_000
    """How long a job may run whose kind does not say; past it, it has failed."""
    cleanup_ms: int = 5_000
    """How long the handler of a job that is ended may take to clean up."""
    attempts_max: int = 3
    """How often a job that is safe to run again is started, if the server stops in the middle of it each time."""
    progress_interval_ms: int = 250
    """How long changes of progress gather before they are told, the newest alone."""
    input_bytes: int = 65_536
    """Of a job's input, as JSON; more gets 1005."""
    partial_bytes: int = 65_536
    """Of one part of a result; with a larger one the job has failed."""
    result_bytes: int = 262_144
    """Of a job's result, as JSON; with a larger one the job has failed."""
    output_bytes: int = 268_435_456
    """Of the file that a job makes; with a larger one the job has failed."""
    outputs_bytes: int = 1_073_741_824
    """Of all files that jobs of one user have made and that are kept; then the next that makes one has failed."""
    retention_ms: int = 604_800_000
    """How long a job is kept after it has ended, with its events, its result and its file."""
