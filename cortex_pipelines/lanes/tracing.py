"""Spans of a lane's calls, as OpenTelemetry's conventions for generative AI name them; none without its package."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from cortex_pipelines.lanes.calls import Attempt, Completion
    from cortex_pipelines.names import Lane

_NANO = 1_000_000_000


def trace_call(lane: "Lane", attempts: "Sequence[Attempt]", completion: "Completion[Any] | None", began: float) -> None:
    """A span of a call that just ended, and one below it for each attempt. No prompt and no answer is part of it."""
    # Only what is loaded can have been told where spans go; without that they would cost a third of the call.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    tracer = trace.get_tracer("cortex_pipelines.lanes")
    model = completion.model if completion else next((a.model for a in reversed(attempts) if a.model), None)
    attributes = {"gen_ai.operation.name": "chat", "cortex.lane": str(lane)}
    if completion:
        attributes |= _server(completion.endpoint) | {
            "gen_ai.response.model": completion.model,
            "gen_ai.usage.input_tokens": completion.prompt_tokens,
            "gen_ai.usage.output_tokens": completion.completion_tokens,
            "cortex.cached": completion.cached,
        }
    elif attempts:
        attributes["error.type"] = attempts[-1].outcome
    call = tracer.start_span(f"chat {model or lane}", start_time=int(began * _NANO), attributes=_known(attributes))
    if completion is None:
        call.set_status(trace.StatusCode.ERROR)
    below = trace.set_span_in_context(call)
    for attempt in attempts:
        failed = attempt.outcome not in ("answered", "cached", "passed by")
        told = _server(attempt.endpoint) | {"cortex.outcome": attempt.outcome, "gen_ai.request.model": attempt.model}
        told |= {"error.type": attempt.outcome} if failed else {}
        span = tracer.start_span("attempt", below, start_time=int(attempt.began * _NANO), attributes=_known(told))
        if failed:
            span.set_status(trace.StatusCode.ERROR, attempt.detail)
        span.end(int((attempt.began + attempt.seconds) * _NANO))
    call.end(time.time_ns())


def _server(endpoint: str) -> dict[str, Any]:
    parts = urlsplit(endpoint)
    return {"server.address": parts.hostname, "server.port": parts.port} if parts.hostname else {}


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
