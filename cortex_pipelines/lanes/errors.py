"""What can go wrong between a lane and its servers, and which of it another endpoint may mend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from cortex_pipelines.errors import CortexError
from cortex_pipelines.lanes.health import Effect

if TYPE_CHECKING:
    from cortex_pipelines.lanes.calls import Attempt


class LaneError(CortexError):
    """A call of a lane did not end in an answer."""


class LaneUnresolved(LaneError):
    """No endpoint is configured for a lane."""


class LaneFailed(LaneError):
    """No endpoint of the lane's chain answered; `attempts` is the trail."""

    def __init__(self, message: str, attempts: Sequence["Attempt"] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class AttemptError(LaneError):
    """One attempt failed; `kind` names how.

    `effect`: what it says of the endpoint. `again`: another attempt there may go well. `server_wide`: the server's
    other models would fail the same way. `final`: so would every other server.
    """

    kind: ClassVar[str] = "failed"
    effect: ClassVar[Effect] = Effect.FAILED
    again: ClassVar[bool] = False
    server_wide: ClassVar[bool] = False
    final: ClassVar[bool] = False


class ConnectionFailed(AttemptError):
    """No connection, or it broke before an answer began."""

    kind = "connection"
    again = True
    server_wide = True


class TimedOut(AttemptError):
    """No first token, no next token or no whole answer in time."""

    kind = "timeout"


class ServerFailed(AttemptError):
    """The server answered 5xx, ran out of memory or reported an error in its stream."""

    kind = "server error"
    again = True


class StreamCut(AttemptError):
    """The stream ended without a finish reason."""

    kind = "stream cut"
    again = True


class Overloaded(AttemptError):
    """The server's queue is full; `retry_after` is how many seconds it asks to be left alone, where it says so."""

    kind = "overloaded"
    effect = Effect.OVERLOADED
    again = True
    server_wide = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Loading(AttemptError):
    """The server is loading its model, or paused."""

    kind = "loading"
    effect = Effect.LOADING
    again = True
    server_wide = True


class Asleep(AttemptError):
    """The model is not in memory, and a request alone does not bring it back."""

    kind = "asleep"
    effect = Effect.ASLEEP
    again = True


class ModelNotFound(AttemptError):
    """The server does not serve the model."""

    kind = "model not found"
    effect = Effect.MISCONFIGURED


class LoadFailed(AttemptError):
    """The server could not load the model."""

    kind = "load failed"
    effect = Effect.MISCONFIGURED


class ContextOverflow(AttemptError):
    """The prompt does not fit the model's window."""

    kind = "context overflow"
    effect = Effect.WELL


class Unauthorised(AttemptError):
    """The server refused the key, or wants one."""

    kind = "unauthorised"
    effect = Effect.MISCONFIGURED
    server_wide = True


class BadRequest(AttemptError):
    """The server does not understand the request, or serves no chat completions."""

    kind = "bad request"
    effect = Effect.WELL
    server_wide = True


class Truncated(AttemptError):
    """The answer was cut at `max_tokens`: another model would be cut there too."""

    kind = "truncated"
    effect = Effect.WELL
    final = True


class EmptyAnswer(AttemptError):
    """The answer holds no text."""

    kind = "empty answer"
    effect = Effect.WELL


class SchemaViolated(AttemptError):
    """The answer is not of the shape that was asked for, also when it was asked to mend it."""

    kind = "schema violated"
    effect = Effect.WELL


class EmbeddedUnavailable(AttemptError):
    """The endpoint is a GGUF to load in-process, and it cannot be loaded."""

    kind = "embedded"
    effect = Effect.MISCONFIGURED
