"""What machines tell each other of endpoints, over Redis or another board: breakers that changed, and who probes."""

import asyncio
import json
import math
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from typing import Any, Protocol, cast

from cortex_pipelines.errors import CortexError
from cortex_pipelines.lanes.health import PROBE_SECONDS, Breaker, Health

# While calls are made, machines look so often; what one has learned another knows a second later.
LOOK_SECONDS = 1.0
# A board that cannot be reached is left alone for so long: it costs knowledge, never a call.
LEFT_ALONE_SECONDS = 30.0
TIMEOUT_SECONDS = 1.0
# Nobody needs to know of a breaker that changed so long ago.
KEPT_SECONDS = 3_600
_PREFIX = "cortex:lanes"


class BoardMissing(CortexError):
    """The package of the board that `CORTEX_LANE_BOARD` names is not installed."""


class Board(Protocol):
    """Where machines read what others wrote. Any exception means that it cannot be reached now."""

    def read(self, keys: list[str]) -> Mapping[str, str]:
        """The texts under these keys, as far as there are any."""
        ...

    def write(self, texts: Mapping[str, str]) -> None:
        """Put texts under their keys."""
        ...

    def lease(self, key: str, holder: str, seconds: float) -> bool:
        """Take a thing for so long, or until `release`; False where another holder has it."""
        ...

    def release(self, key: str, holder: str) -> None:
        """Give back what `lease` gave."""
        ...


class RedisBoard:
    """A board in Redis, or what speaks its protocol. `url` is `redis://HOST:PORT/N`."""

    def __init__(self, url: str) -> None:
        try:
            from redis import Redis
        except ImportError:
            raise BoardMissing("CORTEX_LANE_BOARD needs redis: pip install 'cortex-pipelines[redis]'") from None
        limits: dict[str, Any] = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
        self._redis = Redis.from_url(url, decode_responses=True, **limits)

    def read(self, keys: list[str]) -> Mapping[str, str]:
        """As `Board.read`."""
        found = cast(list[str | None], self._redis.mget([f"{_PREFIX}:{key}" for key in keys]) if keys else [])
        return {key: text for key, text in zip(keys, found, strict=True) if text}

    def write(self, texts: Mapping[str, str]) -> None:
        """As `Board.write`, for an hour."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for key, text in texts.items():
                pipeline.set(f"{_PREFIX}:{key}", text, ex=KEPT_SECONDS)
            pipeline.execute()

    def lease(self, key: str, holder: str, seconds: float) -> bool:
        """As `Board.lease`: exact, among any number of machines."""
        return bool(self._redis.set(f"{_PREFIX}:lease:{key}", holder, nx=True, px=math.ceil(seconds * 1_000)))

    def release(self, key: str, holder: str) -> None:
        """As `Board.release`."""
        name = f"{_PREFIX}:lease:{key}"
        if self._redis.get(name) == holder:
            self._redis.delete(name)


@cache
def redis_board(url: str) -> RedisBoard:
    """The board at a URL; one client for this process, whose connections are pooled."""
    return RedisBoard(url)


class Exchange:
    """The talk of one process with a board, in the background of its calls. Belongs to one event loop."""

    def __init__(self, board: Board, health: Health) -> None:
        self._board = board
        self._health = health
        self._holder = secrets.token_hex(8)
        self._next = 0.0
        self._looking: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Exchange what changed, in the background, as soon as the last time was long enough ago."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        await asyncio.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + LOOK_SECONDS
        await self.exchange()

    async def exchange(self) -> None:
        """Tell what changed here, and take over what changed elsewhere."""
        try:
            keys = self._health.known()
            found = await asyncio.to_thread(self._board.read, keys)
            theirs = {key: told for key, text in found.items() if (told := _breaker(text))}
            self._health.adopt(theirs)
            ours = self._health.breakers()
            newer = {
                key: json.dumps(asdict(told))
                for key, told in ours.items()
                if told.changed_at > (theirs[key].changed_at if key in theirs else 0.0)
            }
            if newer:
                await asyncio.to_thread(self._board.write, newer)
        except Exception:
            self._next = time.monotonic() + LEFT_ALONE_SECONDS

    async def may_probe(self, key: str) -> bool:
        """Whether no other machine probes an endpoint now; `probed` ends it. Where nobody can tell, it may."""
        try:
            return await asyncio.to_thread(self._board.lease, key, self._holder, PROBE_SECONDS)
        except Exception:
            return True

    async def probed(self, key: str) -> None:
        """Tell what came of a probe, and give its lease back."""
        await self.exchange()
        with suppress(Exception):
            await asyncio.to_thread(self._board.release, key, self._holder)


def _breaker(text: str) -> Breaker | None:
    """What another machine wrote, where it makes sense."""
    with suppress(ValueError, TypeError, KeyError):
        told = json.loads(text)
        numbers = [float(told[name]) for name in ("shut_until", "changed_at")]
        if all(math.isfinite(number) for number in numbers) and 0 <= int(told["trips"]) < 2**31:
            return Breaker(int(told["trips"]), numbers[0], str(told["reason"]), numbers[1])
    return None
