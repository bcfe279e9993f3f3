"""A call of a lane: its endpoints in order, then the chain, each at most once, every attempt recorded."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cortex_pipelines.lanes.errors import AttemptError, LaneFailed, LaneUnresolved, TooLarge
from cortex_pipelines.lanes.resolution import Endpoint, ResolvedLane, resolve
from cortex_pipelines.settings import Backend, Lane, Settings

if TYPE_CHECKING:
    from cortex_pipelines.lanes.client import Client

TIMEOUT_SECONDS = 120.0
# Text in common tokenizers has three bytes a token or more; a prompt is rather kept from a window than cut by it.
BYTES_PER_TOKEN = 3

# Where a call goes when its lane fails: to the lane that serves by default, then to the widest window.
CHAIN: Mapping[Lane, tuple[Lane, ...]] = {
    Lane.ORCHESTRATOR: (Lane.SUPER_READER,),
    Lane.CODER: (Lane.ORCHESTRATOR, Lane.SUPER_READER),
    Lane.SUPER_READER: (),
    Lane.FAST_RAG: (Lane.ORCHESTRATOR, Lane.SUPER_READER),
    Lane.GOVERNANCE: (Lane.ORCHESTRATOR, Lane.SUPER_READER),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: `outcome` is `answered`, or the kind and words of what went wrong; seconds it took."""

    lane: Lane
    endpoint: str
    outcome: str
    seconds: float


@dataclass(frozen=True)
class Completion:
    """An answer, who gave it, and every attempt it took."""

    text: str
    reasoning: str
    lane: Lane
    endpoint: str
    model: str
    attempts: tuple[Attempt, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Lanes:
    """The lanes of a team. Nothing is connected, nor any client imported, before a lane is called."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._windows: dict[str, int | None] = {}

    @property
    def configured(self) -> bool:
        """Whether any lane has an endpoint."""
        return any(self._maybe(lane) for lane in Lane)

    def resolve(self, lane: Lane) -> ResolvedLane:
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
        """An answer from the first endpoint of the lane's chain that gives one within `timeout` seconds in all.

        Raises `LaneUnresolved` when nothing is configured, `LaneFailed` with the trail when nobody answered.
        """
        self.resolve(lane)
        deadline = time.monotonic() + timeout
        attempts: list[Attempt] = []
        for serving, endpoint in self._candidates(lane):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            began = time.monotonic()
            shown = endpoint.url or str(endpoint.model_path)
            try:
                self._check_window(endpoint, messages, max_tokens)
                reply = self._opened().complete(
                    endpoint, messages, max_tokens=max_tokens, temperature=temperature, timeout=left
                )
            except AttemptError as error:
                attempts.append(Attempt(serving, shown, f"{error.kind}: {error}", time.monotonic() - began))
                continue
            attempts.append(Attempt(serving, shown, "answered", time.monotonic() - began))
            return Completion(
                reply.text,
                reply.reasoning,
                serving,
                shown,
                reply.model,
                tuple(attempts),
                reply.prompt_tokens,
                reply.completion_tokens,
            )
        trail = "; ".join(f"{attempt.endpoint}: {attempt.outcome}" for attempt in attempts) or "no time was left"
        raise LaneFailed(f"lane {lane}: nobody answered ({trail})")

    def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _candidates(self, lane: Lane) -> Iterator[tuple[Lane, Endpoint]]:
        seen = set()
        for serving in (lane, *CHAIN[lane]):
            resolved = self._maybe(serving)
            for endpoint in resolved.endpoints if resolved else ():
                if (endpoint.url, endpoint.model) not in seen:
                    seen.add((endpoint.url, endpoint.model))
                    yield serving, endpoint

    def _maybe(self, lane: Lane) -> ResolvedLane | None:
        try:
            return self.resolve(lane)
        except LaneUnresolved:
            return None

    def _check_window(self, endpoint: Endpoint, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> None:
        if endpoint.backend is Backend.EMBEDDED:
            raise AttemptError("models loaded in-process are not supported yet: serve the GGUF and set the lane's URL")
        if endpoint.url not in self._windows:
            self._windows[endpoint.url] = self._opened().window(endpoint)
        window = self._windows[endpoint.url]
        size = sum(len(str(message.get("content", "")).encode()) for message in messages) // BYTES_PER_TOKEN
        if window is not None and size + max_tokens > window:
            raise TooLarge(f"about {size} tokens and {max_tokens} for the answer do not fit {window}")

    def _opened(self) -> "Client":
        if self._client is None:
            from cortex_pipelines.lanes.client import Client

            self._client = Client()
        return self._client
