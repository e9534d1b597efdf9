"""Which job is started next: in order, within the bounds, nobody in the way of another kind."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.jobs.queue import JobQueue, Ticket
from livechat.protocol.types import JobId, UserId


def ticket(name: str, kind: str = "k", user_id: str = "ann") -> Ticket:
    return Ticket(JobId(name), kind, UserId(user_id))


def make_queue(*, concurrency: int = 2, queue_max: int = 10, per_user: int = 10) -> JobQueue:
    queue = JobQueue(concurrency=concurrency, queue_max=queue_max, per_user=per_user)
    queue.allow("k", None)
    return queue


def taken(queue: JobQueue) -> list[str]:
    """Take all that can be started."""
    names: list[str] = []
    while (next_one := queue.take()) is not None:
        names.append(next_one.job_id)
    return names


def test_jobs_start_in_the_order_in_which_they_came() -> None:
    queue = make_queue(concurrency=9)
    for name in ("b", "a", "c"):
        queue.add(ticket(name))
    assert taken(queue) == ["b", "a", "c"]
    assert (queue.waiting, queue.running) == (0, 3)


def test_so_many_run_at_a_time() -> None:
    queue = make_queue(concurrency=2)
    for name in ("a", "b", "c"):
        queue.add(ticket(name))
    assert taken(queue) == ["a", "b"]
    queue.end(JobId("a"))
    assert taken(queue) == ["c"]


def test_a_kind_that_has_no_room_lets_the_others_pass() -> None:
    queue = make_queue(concurrency=9)
    queue.allow("narrow", 1)
    for name, kind in (("a", "narrow"), ("b", "narrow"), ("c", "k"), ("d", "narrow")):
        queue.add(ticket(name, kind))
    assert taken(queue) == ["a", "c"]
    queue.end(JobId("a"))
    assert taken(queue) == ["b"]


def test_a_kind_that_nobody_has_registered_waits_until_somebody_does() -> None:
    queue = make_queue()
    queue.add(ticket("a", "later"))
    queue.add(ticket("b"))
    assert taken(queue) == ["b"]
    queue.allow("later", None)
    assert taken(queue) == ["a"]


def test_a_job_that_was_removed_is_not_started() -> None:
    queue = make_queue()
    queue.add(ticket("a"))
    queue.add(ticket("b"))
    assert queue.remove(JobId("a"))
    assert not queue.remove(JobId("a"))
    assert not queue.remove(JobId("nobody"))
    assert taken(queue) == ["b"]
    assert not queue.remove(JobId("b"))


def test_a_job_is_in_the_queue_once() -> None:
    queue = make_queue()
    queue.add(ticket("a"))
    queue.add(ticket("a"))
    assert queue.waiting == 1
    assert taken(queue) == ["a"]
    queue.add(ticket("a"))
    assert queue.waiting == 0


def test_there_is_room_up_to_the_bound_and_what_is_being_stored_counts() -> None:
    queue = make_queue(queue_max=2)
    ann = UserId("ann")
    queue.add(ticket("a"))
    assert queue.problem(ann) is None
    queue.reserve(ann)
    assert queue.problem(ann) == "2 jobs wait, the most allowed"
    queue.release(ann)
    assert queue.problem(ann) is None


def test_a_user_has_so_many_jobs_that_wait_or_run() -> None:
    queue = make_queue(per_user=2)
    ann, bob = UserId("ann"), UserId("bob")
    queue.add(ticket("a"))
    queue.reserve(ann)
    assert queue.problem(ann) == "the user has 2 jobs that wait or run, the most allowed"
    assert queue.problem(bob) is None
    assert taken(queue) == ["a"]
    assert queue.problem(ann) is not None
    queue.end(JobId("a"))
    assert queue.problem(ann) is None


class QueueModel(RuleBasedStateMachine):
    """Against a list of what waits and a list of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = JobQueue(concurrency=3, queue_max=100, per_user=100)
        self.limits = {"a": 2, "b": 3}
        for kind, limit in self.limits.items():
            self.queue.allow(kind, limit)
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []
        self.made = 0

    @rule(kind=st.sampled_from(["a", "b", "unknown"]), user_id=st.sampled_from(["ann", "bob"]))
    def add(self, kind: str, user_id: str) -> None:
        self.made += 1
        new = ticket(f"j{self.made}", kind, user_id)
        self.queue.add(new)
        self.waiting.append(new)

    @rule()
    def take(self) -> None:
        ready = [
            each
            for each in self.waiting
            if sum(other.kind == each.kind for other in self.running) < self.limits.get(each.kind, 0)
        ]
        expected = ready[0] if ready and len(self.running) < 3 else None
        assert self.queue.take() == expected
        if expected is not None:
            self.waiting.remove(expected)
            self.running.append(expected)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.running))
        self.queue.end(one.job_id)
        self.running.remove(one)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        assert self.queue.remove(one.job_id)
        self.waiting.remove(one)

    @invariant()
    def counts_are_right(self) -> None:
        assert (self.queue.waiting, self.queue.running) == (len(self.waiting), len(self.running))


QueueModel.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
TestQueueModel = QueueModel.TestCase
