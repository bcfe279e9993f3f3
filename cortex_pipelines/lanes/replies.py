"""What vLLM, llama.cpp and TGI say, in one shape: an answer gathered from a stream, or a typed error."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cortex_pipelines.lanes.errors import (
    AttemptError,
    BadRequest,
    ContextOverflow,
    EmptyAnswer,
    Loading,
    ModelNotFound,
    Overloaded,
    ServerFailed,
    StreamCut,
    TimedOut,
    Truncated,
    Unauthorised,
)
from cortex_pipelines.settings import Backend

# What an error may quote of a server's words.
MESSAGE_CHARACTERS = 300

# How each server and version words it that a prompt is too long for its window.
_OVERFLOW = re.compile(
    r"maximum context length"  # vLLM, OpenAI
    r"|exceeds the available context size"  # llama.cpp
    r"|longer than the maximum model length"  # vLLM, in its engine
    r"|context length is only"  # vLLM 0.16 to 0.2x
    r"|cannot be greater than max_model_len"  # vLLM, of max_tokens alone
    r"|`inputs` (tokens \+ `max_new_tokens` must be <=|must have less than)",  # TGI
    re.IGNORECASE,
)
_OVERFLOW_PARAMETERS = ("input_tokens", "input_text")
# llama.cpp's router says it with 400: "model 'x' not found", "model is not loaded".
_NO_MODEL = re.compile(r"\bmodel\b.*(does not exist|not found|is not loaded)", re.IGNORECASE)
_NOT_READY = re.compile(r"loading model|generation is paused|not ready", re.IGNORECASE)
_BUSY = re.compile(r"currently busy|overloaded|backlog limit|no slot available|try again later", re.IGNORECASE)

_FINISHED = {"stop", "eos_token", "stop_sequence", "tool_calls"}
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
_OPEN, _CLOSE = "<think>", "</think>"
_BACKENDS = {"vllm": Backend.VLLM, "llamacpp": Backend.LLAMA_CPP}


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself: its models, the window of the one in question in tokens, its kind."""

    models: tuple[str, ...] = ()
    window: int | None = None
    backend: Backend | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: reasoning apart from text, the model and the tokens as the server names and counts them."""

    text: str
    reasoning: str
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass
class Gathering:
    """The answer that a stream adds up to, which may be `room` bytes long."""

    room: int
    finish: str | None = None
    begun: bool = False
    done: bool = False
    _rest: bytearray = field(default_factory=bytearray)
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _model: str | None = None
    _usage: Mapping[str, Any] = field(default_factory=dict)

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes; whether they brought the answer further. A ping does not."""
        self.room -= len(piece)
        if self.room < 0:
            raise ServerFailed("it streamed far more than was asked for")
        self._rest += piece
        if b"\n" not in piece:
            return False
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        taken = [self._take(line) for line in lines]
        return any(taken)

    def _take(self, line: bytes) -> bool:
        if self.done or not line.startswith(b"data:"):
            return False
        self.begun = True
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return True
        event = _parsed(data)
        if not isinstance(event, dict):
            raise ServerFailed("its stream holds what is no event")
        if event.get("error") is not None:
            raise refusal(_status(event), data)
        self._model = _string(event.get("model")) or self._model
        if isinstance(usage := event.get("usage"), dict):
            self._usage = usage
        for choice in _dicts(event.get("choices")):
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._text.append(_string(delta.get("content")))
                self._reasoning.append(_string(delta.get("reasoning")) or _string(delta.get("reasoning_content")))
            self.finish = _string(choice.get("finish_reason")) or self.finish
        return True

    def reply(self) -> Reply:
        """The whole answer; raises where there is none: cut off, truncated, given up or empty."""
        if self.finish is None:
            raise StreamCut("the stream ended without a finish reason")
        used = _count(self._usage.get("completion_tokens"))
        if self.finish == "length":
            raise Truncated(f"the answer was cut after {used or 'all allowed'} tokens: allow more of them")
        if self.finish not in _FINISHED:
            raise ServerFailed(f"the answer was given up ({_shown(self.finish)})")
        thought, text = split_reasoning("".join(self._text), told_apart=any(self._reasoning))
        if not text:
            raise EmptyAnswer("the answer holds no text")
        reasoning = "\n".join(part for part in ("".join(self._reasoning).strip(), thought) if part)
        return Reply(text, reasoning, self._model, _count(self._usage.get("prompt_tokens")), used)


def split_reasoning(said: str, told_apart: bool = False) -> tuple[str, str]:
    """Reasoning and text of what a model said.

    Reasoning is in `<think>` blocks at the beginning. Some chat templates open the first block themselves, so that only
    its end is said; that is not looked for when the server has told reasoning apart. A block left open is reasoning.
    """
    thoughts = []
    while block := _THOUGHT.match(said):
        thoughts.append(block.group(1).strip())
        said = said[block.end() :]
    if said.lstrip().startswith(_OPEN):
        thoughts.append(said.lstrip().removeprefix(_OPEN).strip())
        said = ""
    elif not thoughts and not told_apart and _CLOSE in said and _OPEN not in said:
        thought, said = said.split(_CLOSE, 1)
        thoughts.append(thought.strip())
    return "\n".join(thoughts), said.strip()


def served(body: bytes, model: str | None) -> Served:
    """What `/v1/models` says; of several models `model` is the one in question, else the first."""
    listed = _parsed(body)
    rows = _dicts(listed.get("data")) if isinstance(listed, dict) else []
    models = tuple(_string(row.get("id")) for row in rows)
    chosen = next((row for row in rows if row.get("id") == model), rows[0] if rows else {})
    meta = chosen.get("meta")
    window = _count(chosen.get("max_model_len")) or (_count(meta.get("n_ctx")) if isinstance(meta, dict) else None)
    return Served(models, window, _BACKENDS.get(_string(chosen.get("owned_by"))))


def counted(body: bytes) -> int | None:
    """How many tokens vLLM's `/tokenize` or llama.cpp's `input_tokens` says a prompt has."""
    said = _parsed(body)
    return (_count(said.get("count")) or _count(said.get("input_tokens"))) if isinstance(said, dict) else None


def refusal(status: int, body: bytes) -> AttemptError:
    """The typed error that an answer other than 200 stands for."""
    said = _parsed(body)
    error = said.get("error", said) if isinstance(said, dict) else said
    about: Mapping[str, Any] = error if isinstance(error, dict) else {}
    message = about.get("message") or about.get("detail") or error or body.decode("utf-8", "replace")
    words = _shown(str(message))
    told = f"{status} {words}".strip()
    overflow = _OVERFLOW.search(words) or about.get("param") in _OVERFLOW_PARAMETERS
    if overflow or about.get("type") == "exceed_context_size_error" or status == 413:
        return ContextOverflow(told)
    if status in (401, 403):
        return Unauthorised(told)
    if status in (400, 404) and (_NO_MODEL.search(words) or about.get("type") == "NotFoundError"):
        return ModelNotFound(told)
    if status in (408, 504):
        return TimedOut(told)
    if status == 429 or (status == 503 and _BUSY.search(words)):
        return Overloaded(told)
    if status == 503 and (_NOT_READY.search(words) or about.get("type") == "unavailable_error"):
        return Loading(told)
    # 424 is TGI's word for a generation that failed; a redirection is not followed.
    if status in (424, 501) or not 400 <= status < 500:
        return ServerFailed(told)
    return BadRequest(f"{told} (is the URL right?)" if status == 404 else told)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _status(event: Mapping[str, Any]) -> int:
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _shown(words: str) -> str:
    """A server's words in one short line, without what a terminal would obey."""
    printable = "".join(char if char.isprintable() else " " for char in words[: 4 * MESSAGE_CHARACTERS])
    return " ".join(printable.split())[:MESSAGE_CHARACTERS]
