"""A call of a lane: a place at an endpoint of the lane or its chain, an attempt there, and what the attempt teaches."""

import asyncio
import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from typing_extensions import TypeVar

from cortex_pipelines.lanes.cache import Cache, key_of
from cortex_pipelines.lanes.calls import Attempt, Completion, Limits, Request, Shape
from cortex_pipelines.lanes.errors import (
    Asleep,
    AttemptError,
    ContextOverflow,
    EmptyAnswer,
    LaneError,
    LaneFailed,
    LoadFailed,
    Loading,
    ModelNotFound,
    Overloaded,
    SchemaViolated,
    TimedOut,
    Truncated,
)
from cortex_pipelines.lanes.health import Effect, Health, Refused, State, health_at
from cortex_pipelines.lanes.records import Records
from cortex_pipelines.lanes.replies import Held, Reply, Served, embedded, reranked
from cortex_pipelines.lanes.resolution import Endpoint, Resolved, chain, resolve
from cortex_pipelines.lanes.tracing import trace_call
from cortex_pipelines.lanes.waiting import BATCH_HANDICAP_SECONDS, Looked, Waiting
from cortex_pipelines.names import Backend, Lane

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

    from cortex_pipelines.lanes.board import Board, Exchange
    from cortex_pipelines.lanes.client import Client
    from cortex_pipelines.lanes.residency import Residency
    from cortex_pipelines.settings import Settings

TIMEOUT_SECONDS = 600.0
# Each endpoint has one attempt, and the call so many more, where a second attempt may go well.
SECOND_ATTEMPTS = 2
# Before a second attempt at the same endpoint, doubled each time, and any part of it (full jitter).
BACKOFF_SECONDS = 0.2
# So long a loading server keeps a call in its lane; then another lane's model may answer.
LOADING_PATIENCE_SECONDS = 30.0
# A server may come back with another model or window.
SERVED_SECONDS = 60.0
# Common tokenizers make a token of three bytes of text or more. Where a server counts, its count is taken.
TOKENS_PER_BYTE = 1 / 3
# On top of what prompts weighed at an endpoint so far.
LEARNED_MARGIN = 1.2
# No text has so many bytes a token: it is not sent to be counted.
MOST_BYTES_PER_TOKEN = 16
# What a chat template adds, beside the messages, to a prompt and to each message.
TEMPLATE_TOKENS = 256
MESSAGE_TOKENS = 8
# The slowest that a prompt of the reference models is read: a 270M model read 80 to 158 tokens a second on one core.
READ_TOKENS_PER_SECOND = 100
# A probe of a breaker that is half open: one token, in the time that a slow server needs for it.
PROBE_SECONDS = 15.0

# How long to wait for a probe of another machine before asking again what came of it.
ELSEWHERE_SECONDS = 1.0
# How long to wait for an equal request of another process before looking again.
FLIGHT_SECONDS = 0.05

# A server embeds a request at once: what it holds meanwhile stays small.
EMBEDDED_BYTES = 32 * 2**10
EMBEDDED_TEXTS = 64

# Whoever frees a place wakes the first of those who wait for it.
_OTHERS_FIRST = Refused(State.SATURATED, "others are first", 0.0)

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Candidate:
    """An endpoint that may take a call, and how it went so far."""

    step: int
    lane: Lane
    endpoint: Endpoint
    tries: int = 0
    not_before: float = 0.0
    done: bool = False
    refused: Refused | None = None


@dataclass(slots=True)
class _Call:
    """One call under way. `work` is what is done at an endpoint, given the seconds to its first token and in all.

    It gives a reply, what was made of it, and whether it was cached.
    """

    lane: Lane
    size: int
    work: "Callable[[_Call, Endpoint, float, float], Awaitable[tuple[Reply, Any, bool]]]"
    began: float
    deadline: float
    order: float
    candidates: list[_Candidate]
    attempts: list[Attempt] = field(default_factory=list)
    spent: int = 0


class Lanes:
    """The lanes of a team. Nothing is connected, nor any client imported, before a lane is called.

    `transport` is what HTTP goes through, of httpx's kind; without one, connections that are kept (transport.py).
    `board` is where machines tell each other of endpoints; without one, Redis where `CORTEX_LANE_BOARD` names it.
    """

    def __init__(
        self,
        settings: "Settings",
        limits: Limits | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
        board: "Board | None" = None,
    ) -> None:
        self._settings = settings
        self._limits = limits or Limits()
        self._transport = transport
        self._board = board
        self._exchange: Exchange | None = None
        self._client: Client | None = None
        self._process = 0
        self._waiting = Waiting()
        self._served: dict[tuple[str, str | None], tuple[float, Served]] = {}
        self._chains: dict[Lane, tuple[tuple[int, Lane, Endpoint], ...]] = {}
        self._met: set[Endpoint] = set()
        self._flights: dict[str, asyncio.Future[Reply | None]] = {}
        self._probes: set[asyncio.Task[None]] = set()
        self.folder = (settings.state / "lanes").absolute()
        self._page = self.folder / "health"
        self._cache = Cache(self.folder / "answers.db", settings.lane_cache, int(settings.lane_cache_bytes))
        self.records = Records()

    @property
    def configured(self) -> bool:
        """Whether any lane has an endpoint."""
        return any(chain(self._settings, lane) for lane in Lane)

    def with_settings(self, settings: "Settings") -> "Lanes":
        """The same lanes with other settings; what their calls take is counted together."""
        other = Lanes(settings, self._limits, self._transport, self._board)
        other.records = self.records
        return other

    async def share(self, board: "Board | None" = None) -> None:
        """Exchange with the other machines now, where there is a board: `board`, if these lanes had none."""
        self._board = self._board or board
        if talk := self._talk():
            await talk.exchange()

    @property
    def residency(self) -> "Residency":
        """Which models are in memory, where their servers can be told."""
        from cortex_pipelines.lanes.residency import Residency

        return Residency(self, self._settings)

    @property
    def health(self) -> Health:
        """What is known of the endpoints, by all processes of this machine."""
        return health_at(self._page)

    def served_by(self, lane: Lane) -> str:
        """The endpoints and models that a call of the lane may go to, in order, as one text."""
        return "; ".join(
            f"{endpoint.name} {endpoint.model or ''}"
            for step in chain(self._settings, lane)
            for endpoint in step.endpoints
        )

    def resolve(self, lane: Lane) -> Resolved:
        """The endpoints of a lane; `LaneUnresolved` names the variables that would give it one."""
        return resolve(self._settings, lane)

    async def probe(self, endpoint: Endpoint) -> Served:
        """What an endpoint says of itself now; raises an `AttemptError` where it does not."""
        client, real = self._connected(), await self._real(endpoint, TIMEOUT_SECONDS)
        told = await client.probe(real, self._limits.connect)
        if told is None:
            raise TimedOut(f"it did not say within {self._limits.connect:.0f} s what it serves")
        self._alive(endpoint)
        if told.version is None and (real.backend or told.backend) is Backend.VLLM:
            told = replace(told, version=await client.version(real, self._limits.connect))
        return told

    async def tell(self, endpoint: Endpoint, served: Served, *, load: bool, seconds: float) -> None:
        """Tell the keeper of an endpoint's model to load it or to let go of it; see `residency`."""
        assert served.keeper is not None
        model = endpoint.model or next(iter(served.models), "")
        self._served.pop((endpoint.name, endpoint.model), None)
        level = self._settings.sleep_level
        await self._connected().tell(endpoint, served.keeper, model, load, seconds, level)

    async def one_token(self, endpoint: Endpoint) -> None:
        """Ask an endpoint for one token; raises an `AttemptError` where it gives none."""
        request = Request(({"role": "user", "content": "Say yes."},), max_tokens=1)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._ask(endpoint, request, PROBE_SECONDS, PROBE_SECONDS, cached=False)
        except (Truncated, EmptyAnswer):
            # One token was wanted, and it came.
            return
        except TimeoutError:
            raise TimedOut(f"no token within {PROBE_SECONDS:.0f} s") from None

    def complete(
        self,
        lane: Lane,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: type[Shape] | None = None,
        timeout: float = TIMEOUT_SECONDS,
        patience: float | None = None,
        prompt_version: str = "",
    ) -> Completion[Shape]:
        """A whole answer from the lane or its chain, within `timeout` seconds in all; see `acomplete`."""
        from cortex_pipelines.lanes.client import run

        request = Request(messages, max_tokens, temperature, schema, prompt_version)
        return cast(Completion[Shape], run(self.acomplete(lane, request, timeout=timeout, patience=patience)))

    def map(
        self,
        lane: Lane,
        requests: Sequence[Request],
        *,
        in_flight: int = 8,
        timeout: float = TIMEOUT_SECONDS,
        report: Callable[[int, int], None] = lambda done, of: None,
    ) -> list[Completion[Any] | LaneError]:
        """An answer to each of many requests, in their order, `in_flight` at a time; what failed is its `LaneError`.

        `timeout` is each request's own. Behind interactive calls. Run again, what was answered comes from the cache.
        """
        from cortex_pipelines.lanes.client import run

        return run(self.amap(lane, requests, in_flight=in_flight, timeout=timeout, report=report))

    async def amap(
        self,
        lane: Lane,
        requests: Sequence[Request],
        *,
        in_flight: int = 8,
        timeout: float = TIMEOUT_SECONDS,
        report: Callable[[int, int], None] = lambda done, of: None,
    ) -> list[Completion[Any] | LaneError]:
        """As `map`, for a caller that has an event loop."""
        self.resolve(lane)
        answers: list[Completion[Any] | LaneError] = [LaneFailed("not asked")] * len(requests)
        left, done = iter(range(len(requests))), 0

        async def work() -> None:
            nonlocal done
            for number in left:
                try:
                    answers[number] = await self.acomplete(lane, requests[number], timeout=timeout, batch=True)
                except LaneError as error:
                    answers[number] = error
                done += 1
                report(done, len(requests))

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(in_flight, len(requests))):
                workers.create_task(work())
        return answers

    def embed(
        self, lane: Lane, texts: Sequence[str], *, timeout: float = TIMEOUT_SECONDS, batch_bytes: int = EMBEDDED_BYTES
    ) -> list[list[float]]:
        """A vector for each text from the lane's embedding server, in requests of about `batch_bytes` of text.

        Raises as `complete` does; of all batches, so that no vector is of another model than its neighbour.
        """
        from cortex_pipelines.lanes.client import run

        return run(self._embed(lane, texts, timeout, batch_bytes))

    async def _embed(self, lane: Lane, texts: Sequence[str], timeout: float, batch_bytes: int) -> list[list[float]]:
        vectors: list[list[float]] = []
        models = set()
        for batch in batched(texts, batch_bytes):

            async def work(
                call: _Call, endpoint: Endpoint, first: float, left: float, batch: Sequence[str] = batch
            ) -> tuple[Reply, Any, bool]:
                return *await self._vectors(endpoint, "/v1/embeddings", {"input": batch}, embedded, left), False

            size = sum(len(text) for text in batch)
            done = await self._called(lane, size, work, timeout, None, batch=True)
            found = cast(list[list[float]], done.parsed)
            if len(found) != len(batch):
                told = f"{done.endpoint} gave {len(found)} vectors for {len(batch)} texts"
                raise LaneFailed(told, done.attempts)
            models.add((done.model, len(found[0])))
            vectors += found
        if len(models) > 1:
            raise LaneFailed(f"the vectors are of several models: {', '.join(sorted(name for name, _ in models))}")
        return vectors

    def rerank(self, lane: Lane, query: str, texts: Sequence[str], *, timeout: float = TIMEOUT_SECONDS) -> list[float]:
        """How well each text answers a query, from 0 to 1, by the lane's reranking server.

        vLLM's scores are taken as they are; llama.cpp's are raw logits, which the logistic function brings into the
        same range (facts of inference servers, C2).
        """
        from cortex_pipelines.lanes.client import run

        async def work(call: _Call, endpoint: Endpoint, first: float, left: float) -> tuple[Reply, Any, bool]:
            asked = {"query": query, "documents": list(texts)}
            return *await self._vectors(endpoint, "/v1/rerank", asked, reranked, left), False

        size = len(query) + sum(len(text) for text in texts)
        done = run(self._called(lane, size, work, timeout, None, batch=False))
        scores = cast(dict[int, float], done.parsed)
        if sorted(scores) != list(range(len(texts))):
            raise LaneFailed(f"{done.endpoint} did not score every text", done.attempts)
        ordered = [scores[number] for number in range(len(texts))]
        if any(not 0 <= score <= 1 for score in ordered):
            ordered = [1 / (1 + math.exp(-max(-700.0, min(700.0, score)))) for score in ordered]
        return ordered

    async def _vectors(
        self,
        endpoint: Endpoint,
        path: str,
        asked: Mapping[str, Any],
        read: Callable[[bytes], tuple[Reply, T]],
        left: float,
    ) -> tuple[Reply, T]:
        client, real = self._connected(), await self._real(endpoint, left)
        began = time.time()
        served = await self._serving(client, endpoint, real, left)
        model = real.model or next(iter(served.models), None)
        sent = {**asked, **({"model": model} if model else {})}
        return read(await client.post(real, path, sent, left - (time.time() - began)))

    async def acomplete(
        self,
        lane: Lane,
        request: Request,
        *,
        timeout: float = TIMEOUT_SECONDS,
        patience: float | None = None,
        batch: bool = False,
    ) -> Completion[Any]:
        """A whole answer from the first endpoint of the lane's chain that gives one, within `timeout` seconds in all.

        Where every endpoint is shut, the call waits at most `patience` seconds for one to recover (all of `timeout`
        where none are given). `batch` calls let others pass. All calls of one object belong to one event loop.

        Raises `LaneUnresolved` when nothing is configured, `LaneFailed` with the trail when nobody answered.
        """

        async def work(call: _Call, endpoint: Endpoint, first: float, left: float) -> tuple[Reply, Any, bool]:
            return await self._answer(call, request, endpoint, first, left)

        return await self._called(lane, request.size, work, timeout, patience, batch)

    async def _called(
        self,
        lane: Lane,
        size: int,
        work: "Callable[[_Call, Endpoint, float, float], Awaitable[tuple[Reply, Any, bool]]]",
        timeout: float,
        patience: float | None,
        batch: bool,
    ) -> Completion[Any]:
        candidates = self._candidates(lane)
        if not candidates:
            self.resolve(lane)
        talk = self._talk()
        now = time.time()
        order = now + BATCH_HANDICAP_SECONDS if batch else now
        call = _Call(lane, size, work, now, now + timeout, order, candidates)
        completion = await self._somewhere(call, timeout if patience is None else patience)
        if talk and (completion is None or len(call.attempts) > 1):
            # Something failed that others may want to know.
            talk.look()
        trace_call(lane, call.attempts, completion, now)
        if completion is None:
            self.records.failed(lane, call.attempts, time.time() - now)
            raise LaneFailed(_told(call), call.attempts)
        self.records.answered(lane, completion, time.time() - now)
        return completion

    async def _somewhere(self, call: _Call, patience: float) -> "Completion[Any] | None":
        budget = len(call.candidates) + SECOND_ATTEMPTS
        while call.spent < budget and time.time() < call.deadline:
            if call.attempts and all(candidate.done for candidate in call.candidates):
                return None
            chosen = self._look(call, frozenset())[0] if self._waiting.empty else None
            if chosen is None:
                until = min(call.deadline, time.time() + patience)
                chosen = await self._waiting.turn(call.order, lambda ahead: self._look(call, ahead), until)
            if chosen is None:
                return None
            self._note_passed(call, chosen)
            completion = await self._attempt(call, chosen)
            if completion is not None:
                return completion
        return None

    def _look(self, call: _Call, ahead: frozenset[str]) -> "Looked[_Candidate]":
        """The first candidate that has a place now, or when to look again; `ahead` is where others are first.

        An endpoint is not asked twice while one that was not asked is well, and a call does not leave its lane for a
        place in another that it could wait for.
        """
        now = time.time()
        again = call.deadline
        queues_at = []
        stay: int | None = None
        well = False
        candidates = call.candidates
        if call.attempts:
            candidates = sorted(candidates, key=lambda candidate: (bool(candidate.tries), candidate.step))
        for candidate in candidates:
            if candidate.done or (stay is not None and candidate.step > stay) or (candidate.tries and well):
                continue
            if candidate.not_before > now:
                again = min(again, candidate.not_before)
                continue
            name = candidate.endpoint.name
            refused = _OTHERS_FIRST if name in ahead else self._enter(candidate)
            if refused is None:
                return candidate, now, frozenset()
            candidate.refused = refused
            if refused is not _OTHERS_FIRST:
                again = min(again, refused.until)
            if refused.state is State.SATURATED:
                queues_at.append(name)
                well = well or not candidate.tries
                stay = candidate.step
            elif refused.state is State.LOADING and now - call.began < LOADING_PATIENCE_SECONDS:
                stay = candidate.step
        return None, again, frozenset(queues_at)

    def _enter(self, candidate: _Candidate) -> Refused | None:
        endpoint = candidate.endpoint
        known = self._served.get((endpoint.name, endpoint.model))
        refused = self.health.enter(endpoint.name, endpoint.model, known[1].slots if known else None)
        suspect = refused and refused.state in (State.PROBING, State.LOADING)
        if suspect and self.health.probe(endpoint.name, endpoint.model):
            task = asyncio.get_running_loop().create_task(self._probe(endpoint))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)
        return refused

    async def _probe(self, endpoint: Endpoint) -> None:
        """Whether an endpoint whose breaker is half open gives one token again; a model that sleeps is woken."""
        effect, reason = Effect.NOTHING, ""
        talk, key = self._talk(), self.health.key(endpoint.name, endpoint.model)
        if talk and not await talk.may_probe(key):
            self.health.probed(endpoint.name, endpoint.model, effect, wait=ELSEWHERE_SECONDS)
            return
        if talk:
            # Another machine may just have ended its probe.
            await talk.exchange()
            if not self.health.status(endpoint.name, endpoint.model).record.trips:
                self.health.probed(endpoint.name, endpoint.model, effect)
                await talk.probed(key)
                return
        try:
            if not endpoint.url or not await self.residency.load(endpoint):
                await self.one_token(endpoint)
            effect = Effect.ANSWERED
        except AttemptError as error:
            effect, reason = error.effect, str(error) if isinstance(error, (Asleep, LoadFailed)) else error.kind
        finally:
            self.health.probed(endpoint.name, endpoint.model, effect, reason)
            self._waiting.wake_all()
            if talk:
                await talk.probed(key)

    async def _attempt(self, call: _Call, chosen: _Candidate) -> "Completion[Any] | None":
        """One attempt at a candidate where the call has a place, which is given back; None where it failed."""
        began = time.time()
        chosen.tries += 1
        effect, reason, reply = Effect.NOTHING, "", None
        retry_after = None
        try:
            left = call.deadline - began
            waiting = len(call.candidates) > 1
            others = waiting and any(not other.tries and not other.done for other in call.candidates)
            # A server that hangs must leave time for those after it.
            reply, made, cached = await call.work(call, chosen.endpoint, left / 2 if others else left, left)
            effect = Effect.NOTHING if cached else Effect.ANSWERED
        except AttemptError as error:
            effect, reason = error.effect, error.kind
            retry_after = error.retry_after if isinstance(error, Overloaded) else None
            self._learn(call, chosen, error, began)
            return None
        finally:
            counted = reply.prompt_tokens if reply and effect is Effect.ANSWERED else None
            self.health.leave(
                chosen.endpoint.name,
                chosen.endpoint.model,
                effect,
                reason=reason,
                seconds=time.time() - began,
                retry_after=retry_after,
                prompt=(call.size, counted) if counted else None,
                completion_tokens=(reply.completion_tokens or 0) if reply and effect is Effect.ANSWERED else 0,
            )
            self._waiting.wake()
        call.attempts.append(_recorded(chosen, "cached" if cached else "answered", "", began))
        return Completion(
            reply.text,
            reply.reasoning,
            chosen.lane,
            chosen.endpoint.name,
            reply.model or chosen.endpoint.model or "unknown",
            tuple(call.attempts),
            0 if cached else reply.prompt_tokens,
            0 if cached else reply.completion_tokens,
            made,
            cached,
        )

    def _learn(self, call: _Call, chosen: _Candidate, error: AttemptError, began: float) -> None:
        if isinstance(error, (ContextOverflow, ModelNotFound, TimedOut, Loading, Asleep)):
            # It is another one than it was, or sleeps.
            self._served.pop((chosen.endpoint.name, chosen.endpoint.model), None)
        call.attempts.append(_recorded(chosen, error.kind, str(error), began))
        if not isinstance(error, (Overloaded, Loading, Asleep)):
            call.spent += 1
        if isinstance(error, (Loading, Asleep)):
            # It was not tried yet; when to look again is known of its health.
            chosen.tries -= 1
            return
        backoff = BACKOFF_SECONDS * 2 ** min(chosen.tries, 6)
        chosen.not_before = time.time() + random.uniform(0, backoff)  # noqa: S311
        chosen.done = not error.again
        if error.final:
            for candidate in call.candidates:
                candidate.done = True
        elif error.server_wide:
            for candidate in call.candidates:
                if candidate.endpoint.name == chosen.endpoint.name and candidate is not chosen:
                    candidate.tries, candidate.not_before = candidate.tries + 1, chosen.not_before
                    candidate.done = candidate.done or chosen.done

    def _note_passed(self, call: _Call, chosen: _Candidate) -> None:
        """Put those into the trail that were passed by because they are shut."""
        if len(call.candidates) == 1 or not any(candidate.refused for candidate in call.candidates):
            return
        met = {(attempt.endpoint, attempt.model) for attempt in call.attempts}
        for candidate in call.candidates:
            refused, candidate.refused = candidate.refused, None
            known = candidate is chosen or (candidate.endpoint.name, candidate.endpoint.model) in met
            if refused and not known and refused.state is not State.SATURATED:
                call.attempts.append(_recorded(candidate, "passed by", _why(refused), time.time()))

    async def _answer(
        self, call: _Call, request: Request, endpoint: Endpoint, patience: float, left: float
    ) -> "tuple[Reply, BaseModel | None, bool]":
        """The endpoint's reply, parsed where a shape is asked for, and whether it was in the cache."""
        reply, cached = await self._ask(endpoint, request, patience, left)
        if request.schema is None:
            return reply, None, cached
        from cortex_pipelines.lanes.structured import Violation, parse, repair

        try:
            return reply, parse(request.schema, reply.text), cached
        except Violation as violation:
            call.spent += 1
            again = replace(request, messages=[*request.messages, *repair(reply.text, violation)])
            left = call.deadline - time.time()
            reply, cached = await self._ask(endpoint, again, left, left)
        try:
            return reply, parse(request.schema, reply.text), cached
        except Violation as violation:
            raise SchemaViolated(str(violation)) from None

    async def _ask(
        self, endpoint: Endpoint, request: Request, patience: float, left: float, cached: bool = True
    ) -> tuple[Reply, bool]:
        """One request to one server: nothing is sent to a window too small for it.

        The first token comes within `patience`, all of it within `left` seconds.
        """
        began = time.time()
        client, real = self._connected(), await self._real(endpoint, left)
        reading = request.size * TOKENS_PER_BYTE / READ_TOKENS_PER_SECOND
        patience = min(patience, self._limits.first + reading)
        served = await self._serving(client, endpoint, real, patience)
        model = real.model or next(iter(served.models), None)
        asked: dict[str, Any] = {"messages": request.messages, **({"model": model} if model else {})}
        backend = real.backend or served.backend
        if served.window is not None and request.size + TEMPLATE_TOKENS + request.max_tokens > served.window:
            counted = None
            if request.size <= served.window * MOST_BYTES_PER_TOKEN:
                counted = await client.count(real, backend, asked, max(0.0, patience - (time.time() - began)))
            _check_window(request, counted, self._estimate(endpoint, request), served.window)
        sent = {**asked, "max_tokens": request.max_tokens, **_sampling(request, backend)}
        if request.schema is not None:
            from cortex_pipelines.lanes.structured import response_format

            sent["response_format"] = response_format(request.schema, backend)
        taken = time.time() - began
        identity = served.identity or endpoint.name
        limits = {"first": max(0.0, patience - taken), "whole": max(0.0, left - taken)}
        if not cached or not self._cache.used:
            return await client.complete(real, sent, **limits, heard=lambda: self._alive(endpoint)), False
        key = key_of(sent, identity, request.prompt_version)
        try:
            # Others who are asked the same may take their time.
            async with asyncio.timeout(limits["whole"]):
                return await self._cached(
                    key, lambda: client.complete(real, sent, **limits, heard=lambda: self._alive(endpoint))
                )
        except TimeoutError:
            raise TimedOut(f"the answer was not whole within {left:.1f} s") from None

    def _alive(self, endpoint: Endpoint) -> None:
        """Let others know of an endpoint that answers; once is enough."""
        if endpoint not in self._met:
            self._met.add(endpoint)
            self.health.alive(endpoint.name, endpoint.model)

    async def _cached(self, key: str, ask: Callable[[], Awaitable[Reply]]) -> tuple[Reply, bool]:
        """What `ask` gives, or gave before; of equal requests at the same time one is asked and the others wait.

        Those of other processes of the machine too, where answers are read and kept.
        """
        if (known := self._cache.get(key)) is not None:
            return known, True
        if (flight := self._flights.get(key)) is not None:
            if (shared := await asyncio.shield(flight)) is not None:
                return shared, True
            # The one that was under way failed: this one asks for itself.
            return await ask(), False
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        reply, claimed = None, False
        try:
            if self._cache.shares:
                while not (claimed := self.health.claim(key)):
                    await asyncio.sleep(FLIGHT_SECONDS)
                # Whoever had it may have answered it.
                if (reply := self._cache.get(key)) is not None:
                    return reply, True
            reply = await ask()
            self._cache.put(key, reply)
            return reply, False
        finally:
            if claimed:
                self.health.release(key)
            del self._flights[key]
            flight.set_result(reply)

    async def _real(self, endpoint: Endpoint, seconds: float) -> Endpoint:
        """The endpoint itself, or the server of this process that a GGUF is loaded into."""
        if endpoint.url or endpoint.model_path is None:
            return endpoint
        from cortex_pipelines.lanes.embedded import serve

        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(serve, endpoint.model_path, endpoint.model, self._settings.llama_cpp)
        except TimeoutError:
            raise Loading(f"it is not loaded after {seconds:.1f} s") from None

    def _talk(self) -> "Exchange | None":
        """What other machines know of endpoints, where they tell each other; looked at in the background."""
        if self._exchange is None and (self._board or self._settings.lane_board):
            from cortex_pipelines.lanes.board import Exchange, redis_board

            url = self._settings.lane_board.get_secret_value() if self._settings.lane_board else ""
            # Dagster's instance is handed in by whoever has it.
            if board := self._board or (redis_board(url) if url != "dagster" else None):
                self._exchange = Exchange(board, self.health)
        if self._exchange is not None:
            self._exchange.look()
        return self._exchange

    def _connected(self) -> "Client":
        if self._client is None or self._process != os.getpid():
            # A forked child must not share connections.
            self._process = os.getpid()
            from cortex_pipelines.lanes.client import Client

            self._client = Client(self._limits, self._transport)
        return self._client

    def _estimate(self, endpoint: Endpoint, request: Request) -> int:
        """Tokens of a prompt, where nobody counts them."""
        learned = self.health.tokens_per_byte(endpoint.name, endpoint.model)
        rate = learned * LEARNED_MARGIN if learned else TOKENS_PER_BYTE
        return int(request.size * rate) + MESSAGE_TOKENS * len(request.messages)

    async def _serving(self, client: "Client", endpoint: Endpoint, real: Endpoint, seconds: float) -> Served:
        """What the server says of itself, asked at most once a minute; raises where its model is not in memory."""
        key, now = (endpoint.name, endpoint.model), time.time()
        known = self._served.get(key)
        if known is None or now - known[0] > SERVED_SECONDS:
            told = await client.probe(real, seconds)
            if told is None:
                return Served()
            self._alive(endpoint)
            if told.held not in (None, Held.LOADED):
                raise (Loading if told.held is Held.LOADING else Asleep)(f"its model is {told.held}")
            known = self._served[key] = now, told
        return known[1]

    def _candidates(self, lane: Lane) -> list[_Candidate]:
        """The endpoints of the chain in order, each once; the default endpoint serves for the lane itself."""
        if lane not in self._chains:
            found: dict[tuple[str, str | None], tuple[int, Lane, Endpoint]] = {}
            for number, step in enumerate(chain(self._settings, lane)):
                for endpoint in step.endpoints:
                    found.setdefault((endpoint.name, endpoint.model), (number, step.served_by or lane, endpoint))
            self._chains[lane] = tuple(found.values())
        return [_Candidate(*place) for place in self._chains[lane]]


def batched(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Texts in their order, in batches of about `size` bytes and at most `EMBEDDED_TEXTS` texts."""
    start, held = 0, 0
    for number, text in enumerate(texts):
        if number > start and (held + len(text) > size or number - start >= EMBEDDED_TEXTS):
            yield texts[start:number]
            start, held = number, 0
        held += len(text)
    if start < len(texts):
        yield texts[start:]


def _sampling(request: Request, backend: Backend | None) -> dict[str, Any]:
    # TGI takes no temperature that is not positive; without one it is as greedy.
    return {} if backend is Backend.TGI and request.temperature == 0 else {"temperature": request.temperature}


def _check_window(request: Request, counted: int | None, estimate: int, window: int) -> None:
    tokens = estimate if counted is None else counted
    if tokens + request.max_tokens > window:
        about = "about " if counted is None else ""
        raise ContextOverflow(
            f"not sent: {about}{tokens} tokens and {request.max_tokens} for the answer do not fit {window}"
        )


def _recorded(candidate: _Candidate, outcome: str, detail: str, began: float) -> Attempt:
    endpoint = candidate.endpoint
    return Attempt(candidate.lane, endpoint.name, endpoint.model, outcome, detail, time.time() - began, began)


def _why(refused: Refused) -> str:
    return f"{refused.state} after {refused.reason}" if refused.reason else str(refused.state)


def _told(call: _Call) -> str:
    trail = [f"{attempt.endpoint}: {attempt.outcome}: {attempt.detail}" for attempt in call.attempts]
    for candidate in call.candidates:
        if not candidate.tries and not candidate.done:
            refused = candidate.refused
            trail.append(f"{candidate.endpoint.name}: not asked: {_why(refused) if refused else 'no time was left'}")
    return f"no model answered for the lane {call.lane}: {'; '.join(trail)}"
