"""What each endpoint is and what is wrong with it, with the one line that mends it."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cortex_pipelines.lanes.errors import AttemptError, LaneUnresolved, Loading, ModelNotFound, Unauthorised
from cortex_pipelines.lanes.health import Effect, State
from cortex_pipelines.lanes.replies import Held, Served
from cortex_pipelines.lanes.resolution import Endpoint, Resolved
from cortex_pipelines.lanes.router import Lanes
from cortex_pipelines.names import Backend, Lane

# How each kind of server is asked for an answer of a given shape, and whether it counts a prompt before it is sent.
_STRUCTURED = {
    Backend.VLLM: "json_schema",
    Backend.LLAMA_CPP: "json_schema",
    Backend.TGI: "json_schema, in TGI's form",
    Backend.OPENAI: "json_schema",
}
_COUNTS = {Backend.VLLM: "/tokenize", Backend.LLAMA_CPP: "/v1/chat/completions/input_tokens"}


@dataclass(frozen=True)
class Examined:
    """An endpoint of some lanes, what it says it is, and how it took a request for one token.

    `fault` and `fix` are empty where all is well; `drift` is what changed since it was examined last. `keeper` is who
    can load its model and let go of it.
    """

    lanes: tuple[Lane, ...]
    endpoint: str
    model: str | None = None
    backend: Backend | None = None
    version: str | None = None
    served: tuple[str, ...] = ()
    window: int | None = None
    slots: int | None = None
    structured: str = "unknown"
    counts_prompts: str = "no"
    keeper: str = ""
    in_memory: bool = True
    state: State = State.UNKNOWN
    seconds: float | None = None
    fault: str = ""
    fix: str = ""
    drift: tuple[str, ...] = ()


async def examine(lanes: Lanes, seen_before: Path | None = None, tokens: bool = True) -> list[Examined]:
    """Every endpoint of every lane, each once, all at the same time; without `tokens` no completion is asked for.

    What they are is kept in `seen_before`, so that the next time what changed is told.
    """
    known = _read(seen_before)
    # What a large job left that was killed.
    await lanes.residency.recover()
    asked: dict[tuple[str, str | None], tuple[list[Lane], Endpoint, Resolved]] = {}
    unresolved = []
    for lane in Lane:
        try:
            resolved = lanes.resolve(lane)
        except LaneUnresolved as error:
            # No fault: what the lane would do is done without a model.
            unresolved.append(Examined((lane,), "", fix=str(error)))
            continue
        for endpoint in resolved.endpoints:
            asked.setdefault((endpoint.name, endpoint.model), ([], endpoint, resolved))[0].append(lane)
    found = await asyncio.gather(*[_one(lanes, *what, known, tokens) for what in asked.values()])
    if seen_before is not None:
        told = {_named(one): _facts(one) for one in found if one.served or not one.fault}
        _write(seen_before, {**known, **told})
    return [*found, *unresolved]


async def _one(
    lanes: Lanes, serving: list[Lane], endpoint: Endpoint, resolved: Resolved, known: Mapping[str, Any], tokens: bool
) -> Examined:
    examined = Examined(tuple(serving), endpoint.name, endpoint.model, endpoint.backend)
    try:
        served = await lanes.probe(endpoint)
        examined = _described(examined, served, endpoint)
        if fault := _mismatch(endpoint, served, resolved):
            examined = replace(examined, fault=fault[0], fix=fault[1])
        # The next call loads what is not in memory: that is no fault, and no reason to load it now.
        if tokens and examined.in_memory:
            began = time.monotonic()
            await lanes.one_token(endpoint)
            examined = replace(examined, seconds=round(time.monotonic() - began, 3))
            # Whatever was known of it before, it answers.
            lanes.health.probed(endpoint.name, endpoint.model, Effect.ANSWERED)
    except AttemptError as error:
        examined = replace(examined, fault=f"{error.kind}: {error}", fix=_fix(error, endpoint, resolved))
    state = lanes.health.status(endpoint.name, endpoint.model).state
    examined = replace(examined, state=state)
    before = known.get(_named(examined), {})
    now = _facts(examined)
    changed = [what for what in now if what in before and before[what] != now[what]]
    drift = tuple(f"{what}: was {before[what]}, is {now[what]}" for what in changed)
    return replace(examined, drift=drift if examined.served else ())


def _described(examined: Examined, served: Served, endpoint: Endpoint) -> Examined:
    backend = endpoint.backend if endpoint.backend not in (None, Backend.EMBEDDED) else served.backend
    return replace(
        examined,
        backend=backend,
        version=served.version,
        served=served.models,
        window=served.window,
        slots=served.slots,
        structured=_STRUCTURED.get(backend, "unknown") if backend else "unknown",
        counts_prompts=_COUNTS.get(backend, "no") if backend else "no",
        keeper=str(served.keeper or ""),
        in_memory=served.held in (Held.LOADED, None),
    )


def _mismatch(endpoint: Endpoint, served: Served, resolved: Resolved) -> tuple[str, str] | None:
    """What a server answers to although it is not what was set: only llama.cpp takes any model's name."""
    if endpoint.model and served.models and endpoint.model not in served.models:
        listed = ", ".join(served.models[:5])
        fix = f"set {_variable(resolved, 'model')}={served.models[0]}, or start that model there"
        return f"it serves {listed}, not {endpoint.model}", fix
    kinds = {endpoint.backend, served.backend}
    if None not in kinds and len(kinds) > 1 and not kinds & {Backend.OPENAI, Backend.EMBEDDED}:
        variable = _variable(resolved, "backend")
        return f"it is {served.backend}, not {endpoint.backend}", f"set {variable}={served.backend}, or leave it empty"
    return None


def _fix(error: AttemptError, endpoint: Endpoint, resolved: Resolved) -> str:
    match error:
        case Unauthorised():
            return f"set {_variable(resolved, 'api_key')} to the server's key"
        case ModelNotFound():
            return f"set {_variable(resolved, 'model')} to a model that it serves, or leave it empty"
        case Loading():
            return "wait until it has loaded its model"
    match error.kind:
        case "connection" | "timeout":
            return f"start the server at {endpoint.name}, or set {_variable(resolved, 'url')} to where it is"
        case "bad request":
            return f"set {_variable(resolved, 'url')} to the address of an OpenAI-compatible server, without a path"
        case "embedded":
            return f"mend {_variable(resolved, 'model_path')}, or serve the file and set the lane's URL"
    return "look into the server's own log"


def _variable(resolved: Resolved, part: str) -> str:
    return resolved.origins[part].variable if part in resolved.origins else f"ARGOS_LANE_{resolved.lane}_{part.upper()}"


def _named(examined: Examined) -> str:
    return f"{examined.endpoint} {examined.model or ''}".strip()


def _facts(examined: Examined) -> dict[str, Any]:
    return {
        "server": str(examined.backend or "unknown"),
        "version": examined.version,
        "models": list(examined.served),
        "window": examined.window,
        "slots": examined.slots,
    }


def _read(path: Path | None) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        if path is not None and isinstance(known := json.loads(path.read_text(encoding="utf-8")), dict):
            return {name: facts for name, facts in known.items() if isinstance(facts, dict)}
    return {}


def _write(path: Path, known: Mapping[str, Any]) -> None:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(known, indent=1), encoding="utf-8")
        unfinished.replace(path)
