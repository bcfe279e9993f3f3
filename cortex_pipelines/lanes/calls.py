"""What goes through a lane: a request, the attempts that it took, the answer, and how long they may take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from typing_extensions import TypeVar

from cortex_pipelines.names import Lane

if TYPE_CHECKING:
    from pydantic import BaseModel

Shape = TypeVar("Shape", bound="BaseModel", default="BaseModel")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that an attempt may take: to connect, to the first token of a short prompt, between two tokens."""

    connect: float = 5.0
    first: float = 60.0
    stall: float = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `outcome` is `answered`, `cached`, `passed by` or an `AttemptError.kind`, `detail` says more of it.

    `began` is in seconds of the system's clock.
    """

    lane: Lane
    endpoint: str
    model: str | None
    outcome: str
    detail: str
    seconds: float
    began: float


@dataclass(frozen=True)
class Completion(Generic[Shape]):
    """An answer, the lane, endpoint and model that gave it, every attempt it took, and tokens as the server counts.

    `parsed` is the instance of the schema that was asked for. `cached`: the model gave it to the same request before.
    """

    text: str
    reasoning: str
    lane: Lane
    endpoint: str
    model: str
    attempts: tuple[Attempt, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    parsed: Shape | None = None
    cached: bool = False


@dataclass(frozen=True)
class Request:
    """What is asked of a model: at most `max_tokens` of answer, of the shape `schema` where one is given.

    `prompt_version` is part of the cache's key: raise it where the same words should be answered anew.
    """

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int
    temperature: float = 0.0
    schema: "type[BaseModel] | None" = None
    prompt_version: str = ""

    @cached_property
    def size(self) -> int:
        """The bytes of the messages' texts."""
        texts = (str(message.get("content") or "") for message in self.messages)
        return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
