"""Several batches of spend events on their way into the ledger at once, without two of them sharing an account.

    offered -> waiting in its lane -> being posted -> done
                     |                     | failed
                     +--- discarded <------+

Each lane posts one batch at a time, in the order in which they were offered; whatever waits for a lane by the time that
it is free becomes one batch. The caller gives each account a lane for good, so the order per account is kept.

Few events do not pay for several transactions. While no more than FEW of them wait, one lane posts them for all, alone:
no other lane begins until it is done, because it may have their accounts. A lane that is free while another is busy
waits a moment for that, and then posts its own.

A failure ends everything that waits, in every lane, and no batch begins until the caller was told. It is told when the
last batch in hand is over, one way or the other: from then on nothing is in flight, and what is still pending in the
stream can be read again from its start.

What is in flight is bounded, in events and in bytes. The caller offers only where there is room.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from worker.batch import Batch, joined

FEW: Final = 250  # from about here on, what two transactions cost is little beside what their events cost
COMPANY_S: Final = 0.02  # the longest that a few events wait to be posted in company
BATCHES_PER_LANE: Final = 2  # one is being posted, one waits

Post = Callable[[Batch], None]


class _Waiting(NamedTuple):
    since: float
    batch: Batch


class Lanes:
    """A thread for each lane. Offering and waiting is for one other thread, the caller's."""

    def __init__(self, posts: Sequence[Post], batch_max: int, bytes_max: int) -> None:
        self._batch_max = batch_max
        self._events_max = BATCHES_PER_LANE * batch_max * len(posts)
        self._bytes_max = bytes_max
        lock = threading.Lock()  # one for all; several conditions, so that nobody is woken for nothing
        self._over = threading.Condition(lock)  # something that the caller may wait for
        self._work = [threading.Condition(lock) for _ in posts]
        self._waiting: list[deque[_Waiting]] = [deque() for _ in posts]
        self._posting: list[Batch | None] = [None] * len(posts)
        self._is_alone = False  # one lane posts for all
        self._failure: BaseException | None = None
        self._is_closed = False
        self.posted = 0  # batches since the start
        self._threads = [
            threading.Thread(target=self._run, args=(lane, post), name=f"lane-{lane}", daemon=True)
            for lane, post in enumerate(posts)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def count(self) -> int:
        """How many lanes there are."""
        return len(self._threads)

    def offer(self, parts: Sequence[Batch]) -> None:
        """Gives each lane its part, which may be empty."""
        with self._over:
            for queue, part in zip(self._waiting, parts, strict=True):
                if part.events or part.put_aside:
                    queue.append(_Waiting(time.monotonic(), part))
            if self._is_for_one():
                self._work[0].notify()
            else:
                self._wake()

    def wait_for_a_free_lane(self, timeout_s: float) -> bool:
        """Whether a lane could begin at once, waiting for it. Raises the failure of a lane, once."""
        return self._wait(lambda: not self._is_alone and None in self._posting, timeout_s)

    def wait_for_room(self, events: int, timeout_s: float) -> bool:
        """Whether so many events may be offered, waiting for it. Raises the failure of a lane, once."""
        return self._wait(lambda: self._has_room(events), timeout_s)

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether nothing waits and nothing is being posted, waiting for it. Raises the failure of a lane, once."""
        return self._wait(lambda: not any(self._waiting) and not self._is_posting(), timeout_s)

    def discard(self) -> None:
        """Forgets what waits; what is being posted goes on."""
        with self._over:
            self._forget()

    def close(self, timeout_s: float) -> bool:
        """Ends the lanes after the batches that they are posting; whether that was in time."""
        with self._over:
            self._is_closed = True
            for work in self._work:
                work.notify()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _wait(self, fact: Callable[[], bool], timeout_s: float) -> bool:
        with self._over:
            self._over.wait_for(lambda: self._is_failed_and_quiet() or (self._failure is None and fact()), timeout_s)
            if self._is_failed_and_quiet():
                self._forget()
                error, self._failure = self._failure, None
                if error is not None:
                    raise error
            return self._failure is None and fact()

    def _run(self, lane: int, post: Post) -> None:
        """Whatever goes wrong is raised where the caller waits. A lane that ended without a word would look busy for
        ever."""
        while True:
            try:
                batch = self._take(lane)
                if batch is None:
                    return
                post(batch)
            except BaseException as error:  # noqa: BLE001  also what is to end a thread: a process of such lanes is to end
                self._end(lane, error)
            else:
                self._end(lane, None)

    def _take(self, lane: int) -> Batch | None:
        """What this lane has to post next, waiting for it; None where it is to end."""
        with self._work[lane]:
            while not self._is_closed:
                parts = self._next(lane)
                if parts:
                    batch = self._posting[lane] = joined(parts)
                    return batch
                self._work[lane].wait(self._patience_s(lane))
        return None

    def _next(self, lane: int) -> list[Batch]:
        if self._failure is not None or self._is_alone:
            return []
        if self._is_for_one():
            self._is_alone = any(self._waiting)
            return self._take_all()
        return self._take_own(lane) if not self._are_few() or self._patience_s(lane) == 0 else []

    def _take_all(self) -> list[Batch]:
        parts = [waiting.batch for queue in self._waiting for waiting in queue]
        self._forget()
        return parts

    def _take_own(self, lane: int) -> list[Batch]:
        queue, events = self._waiting[lane], 0
        parts: list[Batch] = []
        while queue and (not parts or events + queue[0].batch.events <= self._batch_max):
            parts.append(queue.popleft().batch)
            events += parts[-1].events
        return parts

    def _patience_s(self, lane: int) -> float | None:
        """How much longer the first that waits for this lane may wait for company; None where nothing waits."""
        if not self._waiting[lane] or self._failure is not None or self._is_alone:
            return None
        return max(0.0, self._waiting[lane][0].since + COMPANY_S - time.monotonic())

    def _end(self, lane: int, failure: BaseException | None) -> None:
        """The batch in hand is over. This lane looks for its next one itself; others are told where there is theirs."""
        with self._over:
            self._posting[lane] = None
            self._is_alone = False
            if failure is None:
                self.posted += 1
            else:
                self._failure = self._failure or failure
                self._forget()
            self._over.notify()
            if not self._is_for_one():
                self._wake()

    def _wake(self) -> None:
        for work, queue, batch in zip(self._work, self._waiting, self._posting, strict=True):
            if queue and batch is None and not self._is_alone:
                work.notify()

    def _is_for_one(self) -> bool:
        """Whether all that waits is for one lane to post, and none is posting."""
        return self._are_few() and not self._is_posting()

    def _are_few(self) -> bool:
        return sum(map(_events, self._waiting)) <= min(FEW, self._batch_max)

    def _forget(self) -> None:
        for queue in self._waiting:
            queue.clear()

    def _is_failed_and_quiet(self) -> bool:
        return self._failure is not None and not self._is_posting()

    def _is_posting(self) -> bool:
        return any(batch is not None for batch in self._posting)

    def _has_room(self, events: int) -> bool:
        in_flight, in_bytes = self._in_flight()
        return in_flight + events <= self._events_max and in_bytes < self._bytes_max

    def _in_flight(self) -> tuple[int, int]:
        batches = [waiting.batch for queue in self._waiting for waiting in queue] + [
            b for b in self._posting if b is not None
        ]
        return sum(batch.events for batch in batches), sum(batch.size for batch in batches)


def _events(queue: deque[_Waiting]) -> int:
    return sum(waiting.batch.events for waiting in queue)
