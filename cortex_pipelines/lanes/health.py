"""What is known of each endpoint, shared by all processes of a machine through one mapped file: breakers and leases.

Nothing here waits and nothing is a service: every process reads and writes the same page under a file lock, and what a
killed process held goes with its lock on a byte of the file. Without a file the same holds within one process.
"""

import fcntl
import hashlib
import mmap
import os
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from operator import attrgetter
from pathlib import Path

# A breaker opens after so many hard failures in a row, or when this share of at least so many calls in the two latest
# spans failed (facts of inference servers, G).
FAILURES_IN_A_ROW = 3
FAILED_SHARE = 0.5
CALLS_FOR_A_SHARE = 10
SPAN_SECONDS = 15.0
# It stays open for 5 s, then twice as long each time, with a fifth more or less so that processes do not come together.
OPEN_SECONDS = 5.0
OPEN_SECONDS_AT_MOST = 60.0
JITTER = 0.2
# A probe that takes longer is no longer waited for by others.
PROBE_SECONDS = 20.0
# A server that loads or sleeps is asked again after a second, then twice as long each time.
LOADING_SECONDS = 1.0
LOADING_SECONDS_AT_MOST = 15.0
# What somebody drains or put to sleep is left alone for so long: who drains says it again, and a killed one does not.
ASIDE_SECONDS = 5.0
# A large model takes minutes to load; whoever loads it is alone for so long.
LOAD_SECONDS = 600.0
# One that is set up wrongly is not asked again before somebody can have mended it; `cortex lanes doctor` asks at once.
MISCONFIGURED_SECONDS = 10.0
# An overloaded one without a Retry-After.
OVERLOADED_SECONDS = 0.25
OVERLOADED_SECONDS_AT_MOST = 4.0
# Calls in flight: halved at most once a second when the server is overloaded, one more for each full round that is not.
LIMIT = 256
LIMIT_SECONDS = 1.0
# How long to wait for a place, or for a probe, before looking again.
LOOK_AGAIN_SECONDS = 0.02
# A model is loaded in seconds to minutes.
LOADED_SECONDS = 0.2

ENDPOINTS = 64
PROCESSES = 64
# Of a reason.
REASON_BYTES = 96
_VERSION = b"cortex lanes 2\n"
_HEAD = 4096
_STRIDE = 512
_LEASES = _HEAD + ENDPOINTS * _STRIDE
_SIZE = _LEASES + PROCESSES * ENDPOINTS * 4
# Bytes past the end are locked, not written: one for the page, one for each process.
_PAGE_LOCK = _SIZE
_PROCESS_LOCK = _SIZE + 1
# And far beyond, one for each thing that a process may claim by its name.
_CLAIM_LOCK = 2**40
_LOCK_SECONDS = 0.05
# Whoever holds the page that long was stopped in the middle. We go on without the lock: at worst a count is lost.
_STUCK_SECONDS = 2.0


class State(StrEnum):
    """What an endpoint is good for."""

    UNKNOWN = "unknown"
    READY = "ready"
    SATURATED = "saturated"
    OVERLOADED = "overloaded"
    LOADING = "loading"
    MISCONFIGURED = "misconfigured"
    OPEN = "open"
    PROBING = "probing"
    DRAINING = "draining"
    ASLEEP = "asleep"


class Effect(StrEnum):
    """What the end of an attempt says of its endpoint."""

    ANSWERED = "answered"
    FAILED = "failed"
    OVERLOADED = "overloaded"
    LOADING = "loading"
    MISCONFIGURED = "misconfigured"
    ASLEEP = "asleep"
    # The server is well and the request was not; or the caller gave up.
    WELL = "well"
    NOTHING = "nothing"


@dataclass(slots=True)
class Record:
    """One endpoint, as it stands in the page. Times are in seconds of the system's clock."""

    key: bytes
    name: bytes
    model: bytes
    reason: bytes
    failures: int = 0
    trips: int = 0
    waits: int = 0
    shut_until: float = 0.0
    prober: int = 0
    probe_until: float = 0.0
    span: float = 0.0
    answered_before: int = 0
    failed_before: int = 0
    answered_now: int = 0
    failed_now: int = 0
    limit: float = LIMIT
    limited_at: float = 0.0
    seen_at: float = 0.0
    tokens_per_byte: float = 0.0
    attempts: int = 0
    answered: int = 0
    failed: int = 0
    overloaded: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    changed_at: float = 0.0


_LAYOUT = struct.Struct("<16s120s120s96sIIIdIddIIIIddddQQQQQQdd")
_VALUES = attrgetter(*(field.name for field in fields(Record)))


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an endpoint is not to be asked now, and when to look again."""

    state: State
    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class Breaker:
    """What machines tell each other of an endpoint: how often it opened since it was well, until when, why, and when.

    Times are in seconds of the system's clock, which machines are taken to agree on.
    """

    trips: int
    shut_until: float
    reason: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class Status:
    """What an endpoint looks like from outside."""

    name: str
    model: str
    state: State
    reason: str
    in_flight: int
    limit: int
    until: float
    record: Record


@cache
def health_at(path: Path | None) -> "Health":
    """The page at `path`: one object for each file and process, since a process has its locks once."""
    return Health(path)


if hasattr(os, "register_at_fork"):
    # A forked child has the page, but not the locks.
    os.register_at_fork(after_in_child=health_at.cache_clear)


class Health:
    """The page at `path`, or one of this process alone. Take it from `health_at`.

    A page that cannot be had costs knowledge, never a call: then, too, this process knows what it sees itself.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.thread = threading.Lock()
        self.file, self._page = _mapped(path)
        self._counts = memoryview(self._page)[_LEASES:_SIZE].cast("I")
        self._keys: dict[tuple[str, str | None], bytes] = {}
        self._slots: dict[bytes, int] = {}
        self._claimed: set[int] = set()
        self.had = clock()
        self._row = self._own_row()

    def enter(self, name: str, model: str | None = None, cap: int | None = None) -> "Refused | None":
        """Take a place at an endpoint, which `leave` gives back; or why there is none now.

        `cap`: as many calls in flight as the server has slots for.
        """
        with self._locked() as held:
            # The clock is read with the page in hand: what others wrote meanwhile is not of the future.
            now = self.clock()
            if not held and now - self.had < _STUCK_SECONDS:
                return Refused(State.SATURATED, "others look", now + LOOK_AGAIN_SECONDS)
            slot = self._slot(name, model)
            record = self._read(slot)
            if refused := self._shut(record, now):
                return refused
            limit = int(max(1.0, min(record.limit, cap or LIMIT)))
            if record.trips:
                state = self._between(record)
                again = LOADED_SECONDS if state is State.LOADING else LOOK_AGAIN_SECONDS
                return Refused(state, _unpacked(record.reason), now + again)
            if not record.seen_at or record.failures:
                # Nobody knows whether it is there: not more are sent than may fail.
                limit = min(limit, max(1, FAILURES_IN_A_ROW - record.failures))
            if self._in_flight(slot) >= limit:
                return Refused(State.SATURATED, f"{limit} in flight", now + LOOK_AGAIN_SECONDS)
            self._add(slot, 1)
        return None

    def leave(
        self,
        name: str,
        model: str | None,
        effect: Effect,
        *,
        reason: str = "",
        seconds: float = 0.0,
        retry_after: float | None = None,
        prompt: tuple[int, int] | None = None,
        completion_tokens: int = 0,
    ) -> None:
        """Give a place back and say how it went; `prompt` is its size in bytes and in tokens, where it was counted."""
        with self._locked():
            now = self.clock()
            slot = self._slot(name, model)
            record = self._read(slot)
            busy = self._in_flight(slot)
            self._add(slot, -1)
            if effect is not Effect.NOTHING:
                record.attempts += 1
                record.seconds += seconds
            _span(record, now)
            _learn(record, effect, reason, now, busy, retry_after)
            if prompt:
                record.prompt_tokens += prompt[1]
                _weigh(record, *prompt)
            record.completion_tokens += completion_tokens
            self._write(slot, record)

    def alive(self, name: str, model: str | None) -> None:
        """The endpoint answered something in time, whatever: it is there."""
        with self._locked():
            slot = self._slot(name, model)
            record = self._read(slot)
            if not record.seen_at:
                record.seen_at = self.clock()
                self._write(slot, record)

    def put_aside(self, name: str, model: str | None, state: State, reason: str, seconds: float = ASIDE_SECONDS) -> int:
        """Let no call have a place at an endpoint for so long: its model is `DRAINING` or `ASLEEP`.

        Gives how many calls are under way there. `probed` ends it; otherwise whoever needs it may wake it afterwards.
        """
        with self._locked():
            slot = self._slot(name, model)
            record = self._read(slot)
            record.trips = max(1, record.trips)
            record.prober = 0
            record.reason = _packed(f"{state}: {reason}", REASON_BYTES)
            record.shut_until = self.clock() + seconds
            self._write(slot, record)
            return self._in_flight(slot)

    def claim(self, what: str) -> bool:
        """Take hold of a thing by its name, until `release` or the end of this process; False where somebody has it.

        Two names share a hold once in 2^56.
        """
        byte = _claimed_byte(what)
        with self.thread:
            if byte in self._claimed or (self.file is not None and not _try_lock(self.file, byte)):
                return False
            self._claimed.add(byte)
            return True

    def release(self, what: str) -> None:
        """Let go of what `claim` gave."""
        byte = _claimed_byte(what)
        with self.thread:
            self._claimed.discard(byte)
            if self.file is not None:
                fcntl.lockf(self.file, fcntl.LOCK_UN, 1, byte)

    def probed(self, name: str, model: str | None, effect: Effect, reason: str = "", wait: float = 0.0) -> None:
        """The end of a probe whose lease `probe` gave: the breaker closes or opens for longer.

        With `NOTHING` it stays as it was, and is looked at again after `wait` seconds.
        """
        with self._locked():
            now = self.clock()
            slot = self._slot(name, model)
            record = self._read(slot)
            record.prober, record.probe_until = 0, 0.0
            if effect in (Effect.ANSWERED, Effect.WELL):
                if record.trips:
                    record.changed_at = now
                record.failures = record.trips = record.waits = 0
                record.shut_until, record.reason, record.seen_at = 0.0, b"", now
            elif effect is Effect.ASLEEP:
                record.trips = max(1, record.trips)
                record.reason = _packed(f"{State.ASLEEP}: {reason}", REASON_BYTES)
                record.shut_until = now + ASIDE_SECONDS
            elif effect is Effect.NOTHING:
                record.shut_until = max(record.shut_until, now + wait)
            else:
                record.failures += 1
                record.reason = _packed(reason, REASON_BYTES)
                _trip(record, now)
            self._write(slot, record)

    def probe(self, name: str, model: str | None) -> bool:
        """Take the one lease to probe an endpoint whose breaker is half open."""
        with self._locked() as held:
            now = self.clock()
            slot = self._slot(name, model)
            record = self._read(slot)
            if not held or not record.trips or self._shut(record, now) or self._probing(record, now):
                return False
            loads = _unpacked(record.reason).startswith(State.ASLEEP)
            record.prober, record.probe_until = self._row + 1, now + (LOAD_SECONDS if loads else PROBE_SECONDS)
            self._write(slot, record)
        return True

    def breakers(self) -> dict[str, Breaker]:
        """The breakers that have opened or closed on this machine, by a digest of their endpoints."""
        found = {}
        with self._locked():
            for slot in range(ENDPOINTS):
                if self._key(slot) == bytes(16):
                    continue
                record = self._read(slot)
                reason = _unpacked(record.reason)
                # A key that is refused here, a full queue or a model on its way is no other machine's business.
                if record.changed_at and reason.partition(": ")[0] not in _TOLD:
                    told = Breaker(record.trips, record.shut_until, reason, record.changed_at)
                    found[record.key.hex()] = told
        return found

    def adopt(self, told: Mapping[str, Breaker]) -> None:
        """Take over the breakers that changed later than ours, of endpoints that this machine has met."""
        with self._locked():
            now = self.clock()
            for slot in range(ENDPOINTS):
                breaker = told.get(self._key(slot).hex())
                record = self._read(slot) if breaker else None
                # What is of the future comes from a clock that is wrong.
                if breaker and record and record.changed_at < breaker.changed_at <= now + OPEN_SECONDS:
                    record.trips, record.shut_until = breaker.trips, breaker.shut_until
                    record.changed_at, record.reason = breaker.changed_at, _packed(breaker.reason, REASON_BYTES)
                    record.failures, record.seen_at = 0, record.seen_at or now
                    self._write(slot, record)

    def known(self) -> list[str]:
        """The digests of the endpoints that any process of this machine has met."""
        with self._locked():
            return [key.hex() for slot in range(ENDPOINTS) if (key := self._key(slot)) != bytes(16)]

    def key(self, name: str, model: str | None) -> str:
        """The digest that names an endpoint among machines."""
        return _digest(name, model).hex()

    def status(self, name: str, model: str | None = None, cap: int | None = None) -> Status:
        """How an endpoint stands; nothing is changed."""
        with self._locked():
            slot = self._find(name, model)
            if slot is None:
                return Status(name, model or "", State.UNKNOWN, "", 0, cap or LIMIT, 0.0, _new(name, model, b""))
            return self._status(slot, cap)

    def statuses(self) -> list[Status]:
        """How every endpoint stands that any process has met."""
        with self._locked():
            used = [slot for slot in range(ENDPOINTS) if self._key(slot) != bytes(16)]
            return [self._status(slot, None) for slot in used]

    def tokens_per_byte(self, name: str, model: str | None) -> float | None:
        """What prompts weighed at this endpoint lately; None before any was counted."""
        with self._locked():
            slot = self._find(name, model)
            return None if slot is None else self._read(slot).tokens_per_byte or None

    def _status(self, slot: int, cap: int | None) -> Status:
        record, now = self._read(slot), self.clock()
        busy = self._in_flight(slot)
        limit = int(max(1.0, min(record.limit, cap or LIMIT)))
        reason = _unpacked(record.reason)
        if refused := self._shut(record, now):
            state, reason = refused.state, refused.reason
        elif record.trips:
            state = self._between(record)
        elif not record.seen_at:
            state = State.UNKNOWN
        else:
            state = State.SATURATED if busy >= limit else State.READY
        return Status(
            _unpacked(record.name), _unpacked(record.model), state, reason, busy, limit, record.shut_until, record
        )

    def _shut(self, record: Record, now: float) -> Refused | None:
        # A clock that was set back must not shut an endpoint for hours.
        if not now < record.shut_until <= now + 2 * OPEN_SECONDS_AT_MOST:
            return None
        reason = _unpacked(record.reason)
        kind, _, told = reason.partition(": ")
        state = State(kind) if kind in _TOLD else State.OPEN
        return Refused(state, told or reason, record.shut_until)

    def _between(self, record: Record) -> State:
        """What an endpoint is that is neither shut nor well: its breaker is half open, or whoever looks wakes it."""
        return State.LOADING if _unpacked(record.reason).startswith(State.ASLEEP) else State.PROBING

    def _probing(self, record: Record, now: float) -> bool:
        if not record.prober or not now < record.probe_until <= now + 2 * LOAD_SECONDS:
            return False
        return record.prober == self._row + 1 or self._lives(record.prober - 1)

    # Places: a column for each endpoint, a row for each process.

    def _in_flight(self, slot: int) -> int:
        column = self._counts[slot::ENDPOINTS].tolist()
        busy = sum(column)
        if busy == column[self._row]:
            return busy
        for row, held in enumerate(column):
            if held and row != self._row and not self._lives(row):
                self._clear(row)
                busy -= held
        return busy

    def _add(self, slot: int, change: int) -> None:
        place = self._row * ENDPOINTS + slot
        self._counts[place] = max(0, self._counts[place] + change)

    def _clear(self, row: int) -> None:
        for place in range(row * ENDPOINTS, (row + 1) * ENDPOINTS):
            self._counts[place] = 0

    def _own_row(self) -> int:
        """A row that no living process has; where all are taken the last is shared, and its leases do not expire."""
        for row in range(PROCESSES - 1):
            if self.file is None or _try_lock(self.file, _PROCESS_LOCK + row):
                self._clear(row)
                return row
        return PROCESSES - 1

    def _lives(self, row: int) -> bool:
        if self.file is None or row == PROCESSES - 1:
            return True
        if not _try_lock(self.file, _PROCESS_LOCK + row):
            return True
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, _PROCESS_LOCK + row)
        return False

    # Records.

    def _slot(self, name: str, model: str | None) -> int:
        """The slot of an endpoint, which it is given where it has none."""
        found = self._find(name, model)
        if found is not None:
            return found
        free = next((slot for slot in range(ENDPOINTS) if self._key(slot) == bytes(16)), None)
        slot = self._oldest() if free is None else free
        key = self._keys[name, model]
        self._write(slot, _new(name, model, key))
        self._slots[key] = slot
        return slot

    def _find(self, name: str, model: str | None) -> int | None:
        key = self._keys.get((name, model))
        if key is None:
            key = self._keys[name, model] = _digest(name, model)
        slot = self._slots.get(key)
        if slot is None or self._key(slot) != key:
            slot = next((slot for slot in range(ENDPOINTS) if self._key(slot) == key), None)
            if slot is not None:
                self._slots[key] = slot
        return slot

    def _oldest(self) -> int:
        idle = [slot for slot in range(ENDPOINTS) if not self._in_flight(slot)] or list(range(ENDPOINTS))
        return min(idle, key=lambda slot: self._read(slot).seen_at)

    def _key(self, slot: int) -> bytes:
        start = _HEAD + slot * _STRIDE
        return self._page[start : start + 16]

    def _read(self, slot: int) -> Record:
        start = _HEAD + slot * _STRIDE
        record = Record(*_LAYOUT.unpack_from(self._page, start))
        (told,) = _COUNT.unpack_from(self._page, start + _LAYOUT.size)
        if told != zlib.crc32(self._page[start : start + _LAYOUT.size]):
            # Its writer was killed in the middle: what an endpoint is called stays, what was known of it goes.
            return Record(record.key, record.name, record.model, b"")
        return record

    def _write(self, slot: int, record: Record) -> None:
        packed = _LAYOUT.pack(*_VALUES(record))
        start = _HEAD + slot * _STRIDE
        self._page[start : start + _LAYOUT.size + 4] = packed + _COUNT.pack(zlib.crc32(packed))

    def _locked(self) -> "_Locked":
        return _Locked(self)


class _Locked:
    """The page for this thread of this process; gives whether it could be had. No generator, as it is in every call."""

    __slots__ = ("_health", "_held")

    def __init__(self, health: Health) -> None:
        self._health = health

    def __enter__(self) -> bool:
        health = self._health
        health.thread.acquire()
        self._held = health.file is None or _lock(health.file)
        if self._held:
            health.had = health.clock()
        return self._held

    def __exit__(self, *_: object) -> None:
        health = self._health
        try:
            if self._held and health.file is not None:
                _unlock(health.file)
        finally:
            health.thread.release()


_COUNT = struct.Struct("<I")
# The states whose name stands before the reason.
_TOLD = {State.LOADING, State.OVERLOADED, State.MISCONFIGURED, State.DRAINING, State.ASLEEP}


def _digest(name: str, model: str | None) -> bytes:
    return hashlib.blake2b(f"{name}\n{model or ''}".encode(), digest_size=16).digest()


def _claimed_byte(what: str) -> int:
    return _CLAIM_LOCK + int.from_bytes(hashlib.blake2b(what.encode(), digest_size=7).digest())


def _new(name: str, model: str | None, key: bytes) -> Record:
    return Record(key, _packed(name, 120), _packed(model or "", 120), b"")


def _span(record: Record, now: float) -> None:
    """Let the counts be of the latest two spans."""
    age = now - record.span
    if 0 <= age < SPAN_SECONDS:
        return
    kept = 0 <= age < 2 * SPAN_SECONDS
    record.answered_before = record.answered_now if kept else 0
    record.failed_before = record.failed_now if kept else 0
    record.answered_now = record.failed_now = 0
    record.span = now


def _learn(record: Record, effect: Effect, reason: str, now: float, busy: int, retry_after: float | None) -> None:
    if effect in (Effect.ANSWERED, Effect.WELL):
        record.failures = record.waits = 0
        record.seen_at = now
        record.answered_now += 1
        record.answered += effect is Effect.ANSWERED
        if busy >= int(record.limit):
            record.limit = min(float(LIMIT), record.limit + 1.0 / max(record.limit, 1.0))
    elif effect is Effect.FAILED:
        record.failures += 1
        record.failed += 1
        record.failed_now += 1
        record.reason = _packed(reason, REASON_BYTES)
        failed = record.failed_now + record.failed_before
        calls = failed + record.answered_now + record.answered_before
        often = calls >= CALLS_FOR_A_SHARE and failed >= FAILED_SHARE * calls
        # Calls that were under way when it opened say nothing new.
        if (often or record.failures >= FAILURES_IN_A_ROW) and not record.trips:
            _trip(record, now)
    elif effect is Effect.OVERLOADED:
        record.overloaded += 1
        record.waits += 1
        record.seen_at = now
        if now - record.limited_at > LIMIT_SECONDS:
            record.limit, record.limited_at = max(1.0, min(record.limit, busy) / 2), now
        wait = min(OVERLOADED_SECONDS * 2.0 ** min(record.waits - 1, 8), OVERLOADED_SECONDS_AT_MOST)
        _shut(record, State.OVERLOADED, reason, now + (_jittered(wait) if retry_after is None else retry_after))
    elif effect is Effect.LOADING:
        record.waits += 1
        record.seen_at = now
        wait = min(LOADING_SECONDS * 2.0 ** min(record.waits - 1, 8), LOADING_SECONDS_AT_MOST)
        _shut(record, State.LOADING, reason, now + _jittered(wait))
    elif effect is Effect.ASLEEP:
        # Whoever looks next may wake it.
        record.trips = max(1, record.trips)
        record.seen_at = now
        record.reason = _packed(f"{State.ASLEEP}: {reason}", REASON_BYTES)
    elif effect is Effect.MISCONFIGURED:
        record.failed += 1
        _shut(record, State.MISCONFIGURED, reason, now + MISCONFIGURED_SECONDS)


def _shut(record: Record, state: State, reason: str, until: float) -> None:
    record.reason = _packed(f"{state}: {reason}", REASON_BYTES)
    record.shut_until = max(record.shut_until, until)


def _trip(record: Record, now: float) -> None:
    wait = min(OPEN_SECONDS * 2.0 ** min(record.trips, 8), OPEN_SECONDS_AT_MOST / (1 + JITTER))
    record.trips += 1
    record.changed_at = now
    record.shut_until = now + _jittered(wait)
    record.answered_before = record.failed_before = record.answered_now = record.failed_now = 0


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311


def _weigh(record: Record, size: int, tokens: int) -> None:
    """Learn how many tokens a byte of a prompt makes: quickly upwards, slowly downwards, since too few is the fault."""
    if size < 64 or tokens <= 0:
        return
    seen = tokens / size
    known = record.tokens_per_byte
    share = 1.0 if not known else 0.5 if seen > known else 0.05
    record.tokens_per_byte = known + share * (seen - known)


def _packed(text: str, room: int) -> bytes:
    return text.encode("utf-8", "replace")[:room]


def _unpacked(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "ignore")


def _mapped(path: Path | None) -> "tuple[int | None, mmap.mmap]":
    """The page in a file, made where it is not there; where it cannot be, one in memory."""
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _lock(file)
            if os.fstat(file).st_size != _SIZE or os.pread(file, len(_VERSION), 0) != _VERSION:
                os.ftruncate(file, _SIZE)
                os.pwrite(file, bytes(_SIZE), 0)
                os.pwrite(file, _VERSION, 0)
            _unlock(file)
            return file, mmap.mmap(file, _SIZE)
    return None, mmap.mmap(-1, _SIZE)


def _lock(file: int) -> bool:
    """The page for this process; False where somebody keeps it for longer than anybody needs it."""
    for attempt in range(1000):
        if _try_lock(file, _PAGE_LOCK):
            return True
        time.sleep(0.00005 if attempt else 0)
        if attempt * 0.00005 > _LOCK_SECONDS:
            break
    return False


def _unlock(file: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_UN, 1, _PAGE_LOCK)


def _try_lock(file: int, byte: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError:
        return False
    return True
