"""Servers that hold several models and can be told to load and to let go, in their own words, for `faults.serving`.

The router's and vLLM's words are those of real ones, which tests/lanes/test_router.py and test_vllm.py run; those of
llama-swap are read off its source of August 2026.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Told = tuple[int, bytes]


def _json(told: Mapping[str, Any], status: int = 200) -> Told:
    return status, json.dumps(told).encode()


def _error(status: int, message: str) -> Told:
    return _json({"error": {"code": status, "message": message, "type": "invalid_request_error"}}, status)


@dataclass
class Keeper:
    """Models and whether each is in memory. Loading takes `seconds`; `commands` is what it was told.

    A model in `broken` never comes up. `arguments` is what a model is started with.
    """

    models: list[str]
    loaded: set[str] = field(default_factory=set)
    seconds: float = 0.0
    broken: set[str] = field(default_factory=set)
    arguments: dict[str, list[str]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    most_loaded: int = 0
    _loading: dict[str, float] = field(default_factory=dict)

    hangs = False
    garbled = False

    def answer(self, method: str, path: str, body: bytes) -> Told | None:
        """The answer to a request that is the keeper's own; None for the others."""
        raise NotImplementedError

    def state(self, model: str) -> str:
        """In the router's words."""
        if model in self._loading and time.monotonic() >= self._loading[model]:
            del self._loading[model]
            if model not in self.broken:
                self._hold(model)
        return "loading" if model in self._loading else "loaded" if model in self.loaded else "unloaded"

    def load(self, model: str) -> None:
        self.commands.append(f"load {model}")
        if self.seconds or model in self.broken:
            self._loading[model] = time.monotonic() + self.seconds
        else:
            self._hold(model)

    def unload(self, model: str) -> None:
        self.commands.append(f"unload {model}")
        self.loaded.discard(model)

    def _hold(self, model: str) -> None:
        self.loaded.add(model)
        self.most_loaded = max(self.most_loaded, len(self.loaded))


class Router(Keeper):
    """llama.cpp's router, started with --no-models-autoload."""

    def answer(self, method: str, path: str, body: bytes) -> Told | None:
        if path == "/v1/models":
            return _json({"object": "list", "data": [self._row(model) for model in self.models]})
        if path.startswith("/props?"):
            return _json({"total_slots": 4, "default_generation_settings": {"n_ctx": 4096}, "build_info": "b1-0c1e570"})
        if method != "POST":
            return None
        model = json.loads(body).get("model")
        if model not in self.models and path == "/models/load":
            return _json({"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}, 404)
        if model not in self.models:
            return _error(400, "model is not found" if path == "/models/unload" else f"model '{model}' not found")
        state = self.state(model)
        if path == "/models/load":
            if state != "unloaded":
                return _error(400, "model is already running")
            self.load(model)
            return _json({"success": True})
        if path == "/models/unload":
            if state == "unloaded":
                return _error(400, "model is not running")
            self.unload(model)
            return _json({"success": True})
        return None if state == "loaded" else _error(400, "model is not loaded")

    def _row(self, model: str) -> dict[str, Any]:
        state = self.state(model)
        status = {"value": state, "args": ["llama-server", *self.arguments.get(model, [])], "preset": f"[{model}]\n"}
        row: dict[str, Any] = {"id": model, "object": "model", "owned_by": "llamacpp", "status": status}
        return row | ({"meta": {"n_ctx": 4096, "size": 430_336}} if state == "loaded" else {})


class Swap(Keeper):
    """llama-swap."""

    def answer(self, method: str, path: str, body: bytes) -> Told | None:
        if path == "/v1/models":
            rows = [{"id": model, "object": "model", "owned_by": "llama-swap"} for model in self.models]
            return _json({"object": "list", "data": rows})
        if path == "/running":
            words = {"loaded": "ready", "loading": "starting"}
            states = {model: self.state(model) for model in self.models}
            rows = [{"model": m, "state": words[state]} for m, state in states.items() if state != "unloaded"]
            return _json({"running": rows})
        if path.startswith("/upstream/"):
            self.load(unquote(path.removeprefix("/upstream/").removesuffix("/health")))
            return 200, b"OK"
        if path.startswith("/api/models/unload/"):
            self.unload(unquote(path.removeprefix("/api/models/unload/")))
            return 200, b"OK"
        return None


@dataclass
class Vllm(Keeper):
    """vLLM in development mode: while its model sleeps, /health is well and requests hang.

    At level 2 it discards its weights: woken without reading them again, it answers with noise. It takes requests
    again when weights and cache are both awake. With `unreadable`, weights cannot be read again.
    """

    level: int = 0
    asleep: set[str] = field(default_factory=set)
    noise: bool = False
    unreadable: bool = False

    @property
    def hangs(self) -> bool:  # type: ignore[override]
        return not self.loaded

    @property
    def garbled(self) -> bool:  # type: ignore[override]
        return self.noise

    def answer(self, method: str, path: str, body: bytes) -> Told | None:
        [model] = self.models
        route, _, query = path.partition("?")
        match route:
            case "/v1/models":
                row = {"id": model, "object": "model", "owned_by": "vllm", "max_model_len": 100_000}
                return _json({"object": "list", "data": [row]})
            case "/is_sleeping":
                return _json({"is_sleeping": self.state(model) != "loaded"})
            case "/metrics":
                states = {"awake": not self.level, "weights_offloaded": self.level == 1, "discard_all": self.level == 2}
                labels = f'engine="0",model_name="{model}",sleep_state='
                lines = [f'vllm:engine_sleep_state{{{labels}"{name}"}} {float(on)}' for name, on in states.items()]
                return 200, "\n".join(["# TYPE vllm:engine_sleep_state gauge", *lines, ""]).encode()
            case "/sleep" if query in ("level=1&mode=wait", "level=2&mode=wait"):
                level = int(query[6])
                if "weights" not in self.asleep:
                    self.level, self.noise, self.asleep = level, level == 2, {"weights", "kv_cache"}
                    self.unload(model)
                return _json({"status": "sleeping", "level": level})
            case "/wake_up":
                return self._wake(model, [part.removeprefix("tags=") for part in query.split("&") if part])
            case "/collective_rpc" if json.loads(body) == {"method": "reload_weights"}:
                if self.unreadable or "weights" in self.asleep:
                    return 500, b"Internal Server Error"
                self.commands.append(f"read {model}")
                self.noise = False
                return _json({"results": [None]})
        return None

    def _wake(self, model: str, tags: list[str]) -> Told:
        if not set(tags) - self.asleep:
            self.asleep -= set(tags) or self.asleep
        if not self.asleep and self.state(model) == "unloaded":
            self.level = 0
            self.load(model)
        return _json({"status": "sleeping" if self.asleep else "awake", "tags": tags or None})
