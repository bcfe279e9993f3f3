"""What can go wrong between a lane and its servers, and which of it another endpoint may mend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from cortex_pipelines.errors import CortexError

if TYPE_CHECKING:
    from cortex_pipelines.lanes.router import Attempt


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

    `server_wide`: the server's other models would fail the same way. `final`: so would every other server.
    """

    kind: ClassVar[str] = "failed"
    server_wide: ClassVar[bool] = False
    final: ClassVar[bool] = False


class ConnectionFailed(AttemptError):
    """No connection, or it broke before an answer began."""

    kind = "connection"
    server_wide = True


class TimedOut(AttemptError):
    """No first token, no next token or no whole answer in time."""

    kind = "timeout"


class ServerFailed(AttemptError):
    """The server answered 5xx, ran out of memory or reported an error in its stream."""

    kind = "server error"


class StreamCut(AttemptError):
    """The stream ended without a finish reason."""

    kind = "stream cut"


class Overloaded(AttemptError):
    """The server's queue is full."""

    kind = "overloaded"
    server_wide = True


class Loading(AttemptError):
    """The server is loading its model, or the model is asleep."""

    kind = "loading"
    server_wide = True


class ModelNotFound(AttemptError):
    """The server does not serve the model."""

    kind = "model not found"


class ContextOverflow(AttemptError):
    """The prompt does not fit the model's window."""

    kind = "context overflow"


class Unauthorised(AttemptError):
    """The server refused the key, or wants one."""

    kind = "unauthorised"
    server_wide = True


class BadRequest(AttemptError):
    """The server does not understand the request, or serves no chat completions."""

    kind = "bad request"
    server_wide = True


class Truncated(AttemptError):
    """The answer was cut at `max_tokens`: another model would be cut there too."""

    kind = "truncated"
    final = True


class EmptyAnswer(AttemptError):
    """The answer holds no text."""

    kind = "empty answer"


class EmbeddedUnavailable(AttemptError):
    """The endpoint is a GGUF to load in-process, which this version cannot."""

    kind = "embedded"
