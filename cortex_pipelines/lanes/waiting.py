"""Calls of this process that wait for a place at an endpoint: the one that is due first looks first."""

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


@dataclass(eq=False, slots=True)
class _Waiter:
    order: float
    wants: frozenset[str]
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Waiting:
    """Who waits, in the order of their turns. Between processes whoever looks first has the place."""

    def __init__(self) -> None:
        self._waiters: list[_Waiter] = []

    @property
    def empty(self) -> bool:
        """Whether nobody waits: then nobody's turn is taken."""
        return not self._waiters

    async def turn(
        self, order: float, wants: frozenset[str], look: Callable[[], tuple[T | None, float]], until: float
    ) -> T | None:
        """What `look` finds, once it is this call's turn at one of the endpoints it `wants`; None after `until`.

        `look` gives what it found, or None and when to look again. Times are of `time.time`.
        """
        if not any(other.order <= order and other.wants & wants for other in self._waiters):
            found, again = look()
            if found is not None:
                return found
        else:
            again = until
        mine = _Waiter(order, wants)
        insort(self._waiters, mine, key=lambda waiter: waiter.order)
        try:
            while (now := time.time()) < until:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, min(again, until) - now)):
                        await mine.woken.wait()
                mine.woken.clear()
                again = until
                if self._first(mine):
                    found, again = look()
                    if found is not None:
                        return found
            return None
        finally:
            self._waiters.remove(mine)
            self.wake()

    def wake(self) -> None:
        """A place may be free: whoever is first at any endpoint looks."""
        met: set[str] = set()
        for waiter in self._waiters:
            if not waiter.wants & met:
                waiter.woken.set()
            met |= waiter.wants

    def _first(self, mine: _Waiter) -> bool:
        for waiter in self._waiters:
            if waiter is mine:
                return True
            if waiter.wants & mine.wants:
                return False
        return True
