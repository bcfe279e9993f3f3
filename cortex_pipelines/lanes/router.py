"""A call of a lane: its endpoints in order, then the chain's, each at most once, every attempt recorded."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cortex_pipelines.lanes.errors import (
    AttemptError,
    ContextOverflow,
    EmbeddedUnavailable,
    LaneFailed,
    ModelNotFound,
)
from cortex_pipelines.lanes.resolution import Endpoint, Resolved, chain, resolve
from cortex_pipelines.settings import Backend, Lane, Settings

if TYPE_CHECKING:
    from cortex_pipelines.lanes.client import Client
    from cortex_pipelines.lanes.replies import Reply, Served

TIMEOUT_SECONDS = 600.0
# A server may come back with another model or window.
SERVED_SECONDS = 60.0
# Common tokenizers make a token of three bytes of text or more. Where a server counts, its count is taken.
BYTES_PER_TOKEN = 3
# No text has so many bytes a token: it is not sent to be counted.
MOST_BYTES_PER_TOKEN = 16
# What a chat template adds, beside the messages, to a prompt and to each message.
TEMPLATE_TOKENS = 256
MESSAGE_TOKENS = 8
# The slowest that a prompt of the reference models is read: a 270M model read 80 to 158 tokens a second on one core.
READ_TOKENS_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that an attempt may take: to connect, to the first token of a short prompt, between two tokens."""

    connect: float = 5.0
    first: float = 60.0
    stall: float = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `outcome` is `answered` or an `AttemptError.kind`, `detail` says more of a failure."""

    lane: Lane
    endpoint: str
    model: str | None
    outcome: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Completion:
    """An answer, the lane, endpoint and model that gave it, every attempt it took, and tokens as the server counts."""

    text: str
    reasoning: str
    lane: Lane
    endpoint: str
    model: str
    attempts: tuple[Attempt, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class _Prompt:
    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int
    temperature: float
    size: int

    @property
    def estimate(self) -> int:
        """Tokens, where nobody counts them."""
        return self.size // BYTES_PER_TOKEN + MESSAGE_TOKENS * len(self.messages)


class Lanes:
    """The lanes of a team. Nothing is connected, nor any client imported, before a lane is called."""

    def __init__(self, settings: Settings, limits: Limits = Limits()) -> None:
        self._settings = settings
        self._limits = limits
        self._served: dict[tuple[str, str | None], tuple[float, Served]] = {}

    @property
    def configured(self) -> bool:
        """Whether any lane has an endpoint."""
        return any(chain(self._settings, lane) for lane in Lane)

    def resolve(self, lane: Lane) -> Resolved:
        """The endpoints of a lane; `LaneUnresolved` names the variables that would give it one."""
        return resolve(self._settings, lane)

    def complete(
        self,
        lane: Lane,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        timeout: float = TIMEOUT_SECONDS,
    ) -> Completion:
        """A whole answer from the first endpoint of the lane's chain that gives one, within `timeout` seconds in all.

        Raises `LaneUnresolved` when nothing is configured, `LaneFailed` with the trail when nobody answered.
        """
        self.resolve(lane)
        from cortex_pipelines.lanes.client import run

        size = sum(len(str(message.get("content") or "").encode("utf-8", "replace")) for message in messages)
        prompt = _Prompt(tuple(messages), max_tokens, temperature, size)
        return run(self._complete(lane, prompt, time.monotonic() + timeout))

    async def _complete(self, lane: Lane, prompt: _Prompt, deadline: float) -> Completion:
        from cortex_pipelines.lanes.client import Client

        attempts: list[Attempt] = []
        waiting = self._candidates(lane)
        async with Client(self._limits) as client:
            while waiting and (left := deadline - time.monotonic()) > 0:
                serving, endpoint = waiting.pop(0)
                began = time.monotonic()
                try:
                    # A server that hangs must leave time for those after it.
                    reply = await self._try(client, endpoint, prompt, deadline, left / 2 if waiting else left)
                except AttemptError as error:
                    attempts.append(_recorded(serving, endpoint, error.kind, str(error), began))
                    if error.final:
                        break
                    if error.server_wide:
                        waiting = [other for other in waiting if other[1].url != endpoint.url]
                    continue
                attempts.append(_recorded(serving, endpoint, "answered", "", began))
                model = reply.model or endpoint.model or "unknown"
                used = reply.prompt_tokens, reply.completion_tokens
                return Completion(reply.text, reply.reasoning, serving, endpoint.name, model, tuple(attempts), *used)
        trail = [f"{attempt.endpoint}: {attempt.outcome}: {attempt.detail}" for attempt in attempts]
        if time.monotonic() >= deadline and waiting:
            trail.append(f"no time was left for {', '.join(endpoint.name for _, endpoint in waiting)}")
        raise LaneFailed(f"no model answered for the lane {lane}: {'; '.join(trail)}", attempts)

    def _candidates(self, lane: Lane) -> list[tuple[Lane, Endpoint]]:
        """The endpoints of the chain in order, each once; the default endpoint serves for the lane itself."""
        found: dict[tuple[str, str | None], tuple[Lane, Endpoint]] = {}
        for step in chain(self._settings, lane):
            for endpoint in step.endpoints:
                found.setdefault((endpoint.name, endpoint.model), (step.served_by or lane, endpoint))
        return list(found.values())

    async def _try(
        self, client: "Client", endpoint: Endpoint, prompt: _Prompt, deadline: float, patience: float
    ) -> "Reply":
        """One attempt: nothing is sent to a window too small for it. The first token comes within `patience`."""
        if not endpoint.url:
            raise EmbeddedUnavailable("no GGUF can be loaded in-process yet: serve it and set the lane's URL")
        until = time.monotonic() + min(patience, self._limits.first + prompt.estimate / READ_TOKENS_PER_SECOND)
        served = await self._ask(client, endpoint, until - time.monotonic())
        model = endpoint.model or next(iter(served.models), None)
        named: dict[str, Any] = {"model": model} if model else {}
        asked = {**named, "messages": prompt.messages}
        backend = endpoint.backend or served.backend
        if served.window is not None and prompt.size + TEMPLATE_TOKENS + prompt.max_tokens > served.window:
            counted = None
            if prompt.size <= served.window * MOST_BYTES_PER_TOKEN:
                counted = await client.count(endpoint, backend, asked, until - time.monotonic())
            _check_window(prompt, counted, served.window)
        request = {**asked, "max_tokens": prompt.max_tokens, "temperature": prompt.temperature}
        if backend is Backend.TGI and prompt.temperature == 0:
            # TGI takes none that is not positive; without one it is as greedy.
            del request["temperature"]
        now = time.monotonic()
        try:
            return await client.complete(endpoint, request, first=until - now, whole=deadline - now)
        except (ContextOverflow, ModelNotFound):
            self._served.pop((endpoint.url, endpoint.model), None)
            raise

    async def _ask(self, client: "Client", endpoint: Endpoint, seconds: float) -> "Served":
        """What the server says of itself, asked at most once a minute."""
        from cortex_pipelines.lanes.replies import Served

        key, now = (endpoint.url, endpoint.model), time.monotonic()
        known = self._served.get(key)
        if known is None or now - known[0] > SERVED_SECONDS:
            told = await client.probe(endpoint, seconds)
            if told is None:
                return Served()
            known = self._served[key] = now, told
        return known[1]


def _check_window(prompt: _Prompt, counted: int | None, window: int) -> None:
    tokens = prompt.estimate if counted is None else counted
    if tokens + prompt.max_tokens > window:
        about = "about " if counted is None else ""
        raise ContextOverflow(
            f"not sent: {about}{tokens} tokens and {prompt.max_tokens} for the answer do not fit {window}"
        )


def _recorded(lane: Lane, endpoint: Endpoint, outcome: str, detail: str, began: float) -> Attempt:
    return Attempt(lane, endpoint.name, endpoint.model, outcome, detail, time.monotonic() - began)
