"""What vLLM, llama.cpp and TGI say, in one shape: an answer gathered from a stream, or a typed error."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

from pydantic_core import from_json

from cortex_pipelines.lanes.errors import (
    Asleep,
    AttemptError,
    BadRequest,
    ContextOverflow,
    EmptyAnswer,
    LoadFailed,
    Loading,
    ModelNotFound,
    Overloaded,
    SchemaViolated,
    ServerFailed,
    StreamCut,
    TimedOut,
    Truncated,
    Unauthorised,
)
from cortex_pipelines.names import Backend

# What an error may quote of a server's words.
MESSAGE_CHARACTERS = 300
# No JSON that a model writes on purpose holds so much whitespace at a stretch.
BLANK_CHARACTERS = 400

# How each server and version words it that a prompt is too long for its window.
_OVERFLOW = re.compile(
    r"maximum context length"  # vLLM, OpenAI
    r"|exceeds the available context size"  # llama.cpp
    r"|longer than the maximum model length"  # vLLM, in its engine
    r"|context length is only"  # vLLM 0.16 to 0.2x
    r"|cannot be greater than max_model_len"  # vLLM, of max_tokens alone
    r"|too large to process"  # llama.cpp, of what is embedded
    r"|`inputs` (tokens \+ `max_new_tokens` must be <=|must have less than)",  # TGI
    re.IGNORECASE,
)
_OVERFLOW_PARAMETERS = ("input_tokens", "input_text")
# llama.cpp's router says both with 400: "model 'x' not found", and "model is not loaded" where it loads none by itself.
_NO_MODEL = re.compile(r"\bmodel\b.*(does not exist|not found)", re.IGNORECASE)
_UNLOADED = re.compile(r"\bmodel\b.*is not loaded", re.IGNORECASE)
_NOT_READY = re.compile(r"loading model|generation is paused|not ready", re.IGNORECASE)
# llama.cpp's router, of a model it was to load.
_NOT_LOADED = re.compile(r"\bfailed to load\b", re.IGNORECASE)
# llama.cpp says 500 of requests that it will never take.
_NEVER_TAKEN = re.compile(r"cannot use both|cannot use custom", re.IGNORECASE)
_BUSY = re.compile(r"currently busy|overloaded|backlog limit|no slot available|try again later", re.IGNORECASE)

_FINISHED = {"stop", "eos_token", "stop_sequence", "tool_calls"}
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
_OPEN, _CLOSE = "<think>", "</think>"
_BACKENDS = {"vllm": Backend.VLLM, "llamacpp": Backend.LLAMA_CPP}


class Keeper(StrEnum):
    """Who can be told to load a model and to let go of it, and in which words."""

    VLLM = "vLLM's sleep mode"
    LLAMA_ROUTER = "llama.cpp's router"
    LLAMA_SWAP = "llama-swap"


class Held(StrEnum):
    """Whether a model is in memory."""

    LOADED = "loaded"
    LOADING = "loading"
    UNLOADED = "unloaded"


# In the router's words, and in llama-swap's.
_HELD = {"loaded": Held.LOADED, "ready": Held.LOADED, "loading": Held.LOADING, "starting": Held.LOADING}


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself: its models, the window of the one in question in tokens, its kind.

    `identity` is what it says of the model; `slots` is how many requests it works on at once, where it says so. Of a
    server with a `keeper`, `held` says whether the model is in memory; `size` is what its weights take, in bytes, and
    `arguments` what llama.cpp's router starts it with.
    """

    models: tuple[str, ...] = ()
    window: int | None = None
    backend: Backend | None = None
    identity: str = ""
    slots: int | None = None
    version: str | None = None
    keeper: Keeper | None = None
    held: Held | None = None
    size: int | None = None
    arguments: tuple[str, ...] = ()

    def argument(self, name: str) -> str | None:
        """The value of one of the `arguments`."""
        at = self.arguments.index(name) + 1 if name in self.arguments else len(self.arguments)
        return self.arguments[at] if at < len(self.arguments) else None


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
    structured: bool = False
    finish: str | None = None
    begun: bool = False
    done: bool = False
    _rest: bytearray = field(default_factory=bytearray)
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _model: str | None = None
    _usage: Mapping[str, Any] = field(default_factory=dict)
    _blank: int = 0

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
        taken = [self._take(line) for line in lines if line]
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
        # This runs for every token: it looks at what is there, and calls nothing for what is not.
        if self._model is None:
            self._model = _string(event.get("model")) or None
        usage, choices = event.get("usage"), event.get("choices")
        if type(usage) is dict:
            self._usage = usage
        for choice in choices if type(choices) is list else ():
            if type(choice) is not dict:
                continue
            delta = choice.get("delta")
            if type(delta) is dict:
                if text := delta.get("content"):
                    self._say(text)
                if thought := delta.get("reasoning") or delta.get("reasoning_content"):
                    self._reasoning.append(_string(thought))
            if finish := choice.get("finish_reason"):
                self.finish = _string(finish) or self.finish
        return True

    def _say(self, text: object) -> None:
        if type(text) is not str:
            return
        self._text.append(text)
        if self.structured:
            # A grammar lets whitespace through without end, and some models then say nothing else (vLLM #38696).
            self._blank = 0 if text.strip() else self._blank + len(text)
            if self._blank > BLANK_CHARACTERS:
                raise SchemaViolated("it said nothing but whitespace any more")

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
    named = next((row for row in rows if row.get("id") == model or model in _strings(row.get("aliases"))), None)
    chosen = named or (rows[0] if rows else {})
    meta = chosen.get("meta")
    window = _count(chosen.get("max_model_len")) or (_count(meta.get("n_ctx")) if isinstance(meta, dict) else None)
    status = chosen.get("status")
    keeper, held = None, None
    arguments: tuple[str, ...] = ()
    # Of a model that is not there nobody can be told anything.
    if isinstance(status, dict) and (named or not model):
        arguments = _strings(status.get("args"))
        keeper, held = Keeper.LLAMA_ROUTER, _HELD.get(_string(status.get("value")), Held.UNLOADED)
        # What a router tells of a model that is not loaded is all that stays the same when it is.
        meta = status.get("preset")
    elif chosen.get("owned_by") == "llama-swap" and (named or not model):
        keeper = Keeper.LLAMA_SWAP
    told = {"id": chosen.get("id"), "root": chosen.get("root"), "meta": meta}
    about = chosen.get("meta")
    return Served(
        models,
        window,
        _BACKENDS.get(_string(chosen.get("owned_by"))),
        json.dumps(told, sort_keys=True),
        keeper=keeper,
        held=held,
        size=_count(about.get("size")) if isinstance(about, dict) else None,
        arguments=arguments,
    )


def sleeping(told: Served, body: bytes) -> Served:
    """What vLLM's `/is_sleeping` adds."""
    said = _parsed(body)
    if not isinstance(said, dict) or not isinstance(said.get("is_sleeping"), bool):
        return told
    return replace(told, keeper=Keeper.VLLM, held=Held.UNLOADED if said["is_sleeping"] else Held.LOADED)


def running(told: Served, model: str | None, body: bytes) -> Served:
    """What llama-swap's `/running` adds: it lists the models that are in memory, or on their way."""
    said = _parsed(body)
    rows = _dicts(said.get("running")) if isinstance(said, dict) else []
    name = model or next(iter(told.models), None)
    state = next((_string(row.get("state")) for row in rows if row.get("model") == name), "stopped")
    return replace(told, held=_HELD.get(state, Held.UNLOADED))


def props(told: Served, body: bytes) -> Served:
    """What llama.cpp's `/props` adds: slots, the build, and the window where `/v1/models` did not tell it."""
    said = _parsed(body)
    if not isinstance(said, dict):
        return told
    generation = said.get("default_generation_settings")
    window = told.window or (_count(generation.get("n_ctx")) if isinstance(generation, dict) else None)
    return replace(
        told,
        window=window,
        slots=_count(said.get("total_slots")),
        version=_shown(_string(said.get("build_info"))) or None,
    )


def info(told: Served, body: bytes) -> Served:
    """What TGI's `/info` adds; another server has no such answer."""
    said = _parsed(body)
    if not isinstance(said, dict) or _count(said.get("max_total_tokens")) is None:
        return told
    return replace(
        told,
        backend=Backend.TGI,
        window=_count(said.get("max_total_tokens")),
        slots=_count(said.get("max_concurrent_requests")),
        version=_shown(_string(said.get("version"))) or None,
    )


def embedded(body: bytes) -> tuple[Reply, list[list[float]]]:
    """The vectors of `/v1/embeddings`, in the order of the texts."""
    said = _parsed(body)
    rows = _dicts(said.get("data")) if isinstance(said, dict) else []
    vectors = [row.get("embedding") for row in sorted(rows, key=lambda row: _index(row.get("index")))]
    if not vectors or not all(_is_vector(vector) for vector in vectors):
        raise ServerFailed("its answer holds no vectors")
    return _reply_of(said), cast(list[list[float]], vectors)


def reranked(body: bytes) -> tuple[Reply, dict[int, float]]:
    """The scores of `/v1/rerank` by the number of the text."""
    said = _parsed(body)
    rows = _dicts(said.get("results")) if isinstance(said, dict) else []
    scores = {_index(row.get("index")): row.get("relevance_score") for row in rows}
    if not scores or not _is_vector(list(scores.values())):
        raise ServerFailed("its answer holds no scores")
    return _reply_of(said), cast(dict[int, float], scores)


def _reply_of(said: Mapping[str, Any]) -> Reply:
    usage = said.get("usage")
    tokens = _count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return Reply("", "", _string(said.get("model")) or None, tokens, None)


def _index(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(number, (int, float)) and math.isfinite(number) for number in value
    )


def version(body: bytes) -> str | None:
    """What vLLM's `/version` says."""
    said = _parsed(body)
    return (_shown(_string(said.get("version"))) or None) if isinstance(said, dict) else None


def counted(body: bytes) -> int | None:
    """How many tokens vLLM's `/tokenize` or llama.cpp's `input_tokens` says a prompt has."""
    said = _parsed(body)
    return (_count(said.get("count")) or _count(said.get("input_tokens"))) if isinstance(said, dict) else None


def refusal(status: int, body: bytes, retry_after: float | None = None) -> AttemptError:
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
    if status == 400 and _UNLOADED.search(words):
        return Asleep(told)
    if status in (400, 404) and (_NO_MODEL.search(words) or about.get("type") == "NotFoundError"):
        return ModelNotFound(told)
    if status in (408, 504):
        return TimedOut(told)
    if status == 429 or (status in (500, 503) and _BUSY.search(words)):
        return Overloaded(told, retry_after)
    if status == 500 and _NOT_LOADED.search(words):
        return LoadFailed(told)
    if status == 500 and _NEVER_TAKEN.search(words):
        return BadRequest(told)
    if status == 503 and (_NOT_READY.search(words) or about.get("type") == "unavailable_error"):
        return Loading(told)
    # 424 is TGI's word for a generation that failed; a redirection is not followed; 501 is what it will never do.
    if status == 424 or not (400 <= status < 500 or status == 501):
        return ServerFailed(told)
    return BadRequest(f"{told} (is the URL right?)" if status == 404 else told)


def _parsed(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:
        return None


def _status(event: Mapping[str, Any]) -> int:
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _strings(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _shown(words: str) -> str:
    """A server's words in one short line, without what a terminal would obey."""
    printable = "".join(char if char.isprintable() else " " for char in words[: 4 * MESSAGE_CHARACTERS])
    return " ".join(printable.split())[:MESSAGE_CHARACTERS]
