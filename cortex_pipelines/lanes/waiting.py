"""Calls of this process that wait for a place at an endpoint: whoever is due first at a busy one has the next place."""

import asyncio
import time
from bisect import insort
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

# A batch call counts as if it had come so many seconds later: it lets interactive ones pass, but not for ever.
BATCH_HANDICAP_SECONDS = 30.0

T = TypeVar("T")
# What a look finds, else when to look again, and the endpoints whose next place it queues for.
Looked = tuple[T | None, float, frozenset[str]]


@dataclass(eq=False, slots=True)
class _Waiter:
    order: float
    queues_at: frozenset[str] = frozenset()
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Waiting:
    """Who waits, in the order of their turns. Between processes whoever looks first has the place."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []

    @property
    def empty(self) -> bool:
        """Whether nobody waits: then nobody's turn is taken."""
        return not self._waiters

    async def turn(self, order: float, look: Callable[[frozenset[str]], Looked[T]], until: float) -> T | None:
        """What `look` finds, now or later; None after `until`.

        `look` is told at which endpoints others are first: it does not take a place there. Whoever waits for a server
        to recover, and not for a place, is in nobody's way. Times are of `time.time`.
        """
        mine = _Waiter(order)
        insort(self._waiters, mine, key=lambda waiter: waiter.order)
        try:
            while True:
                mine.woken.clear()
                found, again, mine.queues_at = look(self._ahead_of(mine))
                now = time.time()
                if found is not None or now >= until:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, min(again, until) - now)):
                        await mine.woken.wait()
        finally:
            self._waiters.remove(mine)
            self.wake()

    def wake(self) -> None:
        """A place may be free: whoever is first at any endpoint looks."""
        met: set[str] = set()
        for waiter in self._waiters:
            if waiter.queues_at - met:
                waiter.woken.set()
            met |= waiter.queues_at

    def wake_all(self) -> None:
        """A server may be well again."""
        for waiter in self._waiters:
            waiter.woken.set()

    def _ahead_of(self, mine: _Waiter) -> frozenset[str]:
        ahead: set[str] = set()
        for waiter in self._waiters:
            if waiter is mine:
                break
            ahead |= waiter.queues_at
        return frozenset(ahead)
