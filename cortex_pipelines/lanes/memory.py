"""What a model takes in memory: weights and KV cache, from its own metadata; the window that fits, the speed."""

import json
import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from pathlib import Path
from typing import Any

from cortex_pipelines.errors import CortexError

# Buffers for computing, beside weights and KV cache: an allowance of a tenth of the weights, and not less than this.
# What a server really takes it prints when it starts; it depends on its batch sizes.
OVERHEAD_SHARE = 0.1
OVERHEAD_BYTES = 300 * 10**6
# A file says how long things are; no real model's metadata is larger.
METADATA_BYTES = 256 * 2**20
ITEMS = 10_000_000
TENSORS = 100_000
LAYERS = 10_000


class ModelUnreadable(CortexError):
    """A model's files do not say what it takes; names the file and what is wrong with it."""


class CannotFit(CortexError):
    """A model does not fit its budget, with the arithmetic."""


class CacheType(StrEnum):
    """How keys or values are kept."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


# Bytes for a block of 32 values, as llama.cpp stores them: quantised blocks carry a scale of two bytes.
_BLOCK = 32
_BLOCK_BYTES = {CacheType.F16: 64, CacheType.Q8_0: 34, CacheType.Q4_0: 18}


@dataclass(frozen=True)
class Geometry:
    """The shape of a model. Sizes are in values, one for each layer where they are tuples; weights are in bytes.

    `active_bytes` are the weights that one token reads: of a mixture of experts only those that are used. `window` is
    the context in tokens that the model was made for.
    """

    name: str
    weights_bytes: int
    kv_heads: tuple[int, ...]
    key_size: int
    value_size: int
    window: int | None
    active_bytes: int

    def kv_bytes_per_token(self, key: CacheType = CacheType.F16, value: CacheType = CacheType.F16) -> int:
        """Bytes of KV cache that a token takes in all layers."""
        heads = sum(self.kv_heads)
        values = {key: 0, value: 0}
        values[key] += heads * self.key_size
        values[value] += heads * self.value_size
        return sum(-(-count // _BLOCK) * _BLOCK_BYTES[kind] for kind, count in values.items())


@dataclass(frozen=True)
class Fit:
    """A model in a budget of bytes: what is left for the KV cache, and the window that it holds at each cache type."""

    geometry: Geometry
    budget_bytes: int
    overhead_bytes: int
    windows: Mapping[CacheType, int]
    bandwidth: float

    def speed(self, kind: CacheType, filled: int) -> float:
        """Tokens a second at most with `filled` tokens in the cache: each reads the weights in use and the whole cache.

        The bound of memory bandwidth alone, for one sequence; batches read the weights once for all.
        """
        read = self.geometry.active_bytes + filled * self.geometry.kv_bytes_per_token(kind, kind)
        return self.bandwidth / max(read, 1)

    def arithmetic(self, kind: CacheType, window: int) -> str:
        """The sum that a window comes to, in one line."""
        each = self.geometry.kv_bytes_per_token(kind, kind)
        total = self.geometry.weights_bytes + self.overhead_bytes + window * each
        fits = "fits" if total <= self.budget_bytes else "does not fit"
        return (
            f"{_gb(self.geometry.weights_bytes)} weights + {_gb(self.overhead_bytes)} buffers + {window:,} tokens x "
            f"{each:,} bytes = {_gb(total)} {fits} {_gb(self.budget_bytes)}"
        )


def fit(geometry: Geometry, budget_bytes: int, bandwidth: float) -> Fit:
    """What a budget of bytes, read at `bandwidth` bytes a second, makes of a model."""
    buffers = overhead(geometry.weights_bytes)
    left = budget_bytes - geometry.weights_bytes - buffers
    windows = {}
    for kind in CacheType:
        each = geometry.kv_bytes_per_token(kind, kind)
        tokens = max(0, left) // each if each else (geometry.window or 0) * (left >= 0)
        windows[kind] = min(tokens, geometry.window) if geometry.window else tokens
    return Fit(geometry, budget_bytes, buffers, windows, bandwidth)


def overhead(weights_bytes: int) -> int:
    """The allowance in bytes for a server's buffers, beside weights and KV cache."""
    return max(OVERHEAD_BYTES, int(weights_bytes * OVERHEAD_SHARE))


def require_fit(planned: Fit, kind: CacheType, window: int) -> None:
    """Raise `CannotFit`, with the arithmetic, where a window does not fit."""
    if window > planned.windows[kind]:
        possible = f"{planned.windows[kind]:,} tokens are possible at {kind}"
        raise CannotFit(f"{planned.geometry.name}: {planned.arithmetic(kind, window)}; {possible}")


def read_geometry(path: Path) -> Geometry:
    """The shape of the model at `path`: a GGUF file, or a folder with `config.json` and its weights.

    Raises `ModelUnreadable`.
    """
    try:
        return _of_folder(path) if path.is_dir() else _of_gguf(path)
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error.strerror or error}") from None


# Folders as Hugging Face lays them out.


def _of_folder(folder: Path) -> Geometry:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelUnreadable(f"{folder} holds no config.json: name a GGUF file or a model's folder")
    try:
        told = json.loads(config.read_bytes()[:METADATA_BYTES])
    except (ValueError, RecursionError):
        raise ModelUnreadable(f"{config} is no JSON") from None
    if isinstance(told, dict) and isinstance(told.get("text_config"), dict):
        told = told["text_config"]
    if not isinstance(told, dict):
        raise ModelUnreadable(f"{config} holds no object")
    files = [*folder.glob("*.safetensors")] or [*folder.glob("*.bin")]
    weights = sum(file.stat().st_size for file in files)
    if not weights:
        raise ModelUnreadable(f"{folder} holds no weights (*.safetensors or *.bin): download them first")
    layers = _number(told, config, "num_hidden_layers", most=LAYERS)
    heads = _number(told, config, "num_attention_heads")
    kv_heads = _number(told, config, "num_key_value_heads", usual=heads)
    size = _number(told, config, "head_dim", usual=_number(told, config, "hidden_size") // max(heads, 1))
    window = _number(told, config, "max_position_embeddings", usual=0) or None
    experts = _number(told, config, "num_local_experts", usual=0) or _number(told, config, "num_experts", usual=0)
    active = weights
    if experts:
        expert = _number(
            told, config, "moe_intermediate_size", usual=_number(told, config, "intermediate_size", usual=0)
        )
        hidden = _number(told, config, "hidden_size")
        used = min(experts, _number(told, config, "num_experts_per_tok", usual=experts))
        # Three matrices an expert; the width of a weight follows from the files, whose other parts are read whole.
        values = layers * experts * 3 * hidden * expert
        width = _WIDTHS.get(str(told.get("torch_dtype") or told.get("dtype")), 2)
        idle = min(weights, values * width) * (experts - used) // experts
        active = weights - idle
    return Geometry(folder.name, weights, (kv_heads,) * layers, size, size, window, active)


_WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1}


def _number(told: Mapping[str, Any], where: Path, name: str, usual: int | None = None, most: int = 2**31) -> int:
    value = told.get(name)
    if value is None and usual is not None:
        return usual
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ModelUnreadable(f"{where} gives no usable {name}: {str(value)[:40]}")
    return value


# GGUF, versions 2 and 3 (ggml/docs/gguf.md in llama.cpp's repository).

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def _of_gguf(path: Path) -> Geometry:
    parts = _parts(path)
    told: dict[str, Any] = {}
    tensors: list[tuple[str, int]] = []
    for part in parts:
        with part.open("rb") as file:
            size = part.stat().st_size
            if size < 24:
                raise ModelUnreadable(f"{part} is no GGUF: it is {size} bytes long")
            with closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
                reader = _Reader(data, part)
                found, held = reader.metadata()
                told = {**found, **told}
                tensors += held
    kind = told.get("general.architecture")
    if not isinstance(kind, str):
        raise ModelUnreadable(f"{path} does not say its general.architecture")
    given = {name.removeprefix(f"{kind}."): value for name, value in told.items()}
    layers = _number(given, path, "block_count", most=LAYERS)
    heads = given.get("attention.head_count")
    most = max(heads) if isinstance(heads, list) and heads else heads
    kv = given.get("attention.head_count_kv", heads)
    listed: list[Any] = kv if isinstance(kv, list) else [kv] * layers
    kv_heads = tuple(count for count in listed if isinstance(count, int) and 0 <= count < 2**20)
    if len(kv_heads) != layers or len(listed) != layers:
        raise ModelUnreadable(f"{path} gives no usable attention.head_count_kv")
    if not isinstance(most, int) or most <= 0:
        raise ModelUnreadable(f"{path} gives no usable attention.head_count")
    size = _number(given, path, "embedding_length") // most
    weights = sum(part.stat().st_size for part in parts)
    experts, used = (_number(given, path, name, usual=0) for name in ("expert_count", "expert_used_count"))
    idle = sum(length for name, length in tensors if "_exps." in name) * max(0, experts - used) // max(experts, 1)
    name = given.get("general.name")
    return Geometry(
        name if isinstance(name, str) and name.isprintable() and name else path.name,
        weights,
        kv_heads,
        _number(given, path, "attention.key_length", usual=size),
        _number(given, path, "attention.value_length", usual=size),
        _number(given, path, "context_length", usual=0) or None,
        max(0, weights - idle),
    )


def _parts(path: Path) -> list[Path]:
    if not (split := _SPLIT.search(path.name)):
        return [path]
    count = int(split[2])
    if not 0 < count <= 1_000:
        raise ModelUnreadable(f"{path} says that it is one of {count} parts")
    parts = [path.with_name(f"{path.name[: split.start()]}-{n:05d}-of-{count:05d}.gguf") for n in range(1, count + 1)]
    if missing := [part for part in parts if not part.is_file()]:
        raise ModelUnreadable(f"{missing[0]} is missing: {len(parts)} parts make the model")
    return parts


class _Reader:
    """Reads the head of a GGUF; nothing that it says is believed before it is within the file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._at = 4
        self._room = min(len(data), METADATA_BYTES)
        self._order = "<"
        if data[:4] != b"GGUF":
            raise self._broken("it does not begin with GGUF")
        (version,) = self._numbers("I", 1)
        if version not in (2, 3):
            # A file of the other byte order says its version backwards.
            self._order, self._at = ">", 4
            (version,) = self._numbers("I", 1)
        if version not in (2, 3):
            raise self._broken("its version is none that is known (2 or 3)")

    def metadata(self) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        """The values by key, long arrays left out, and the bytes of each tensor."""
        tensors, items = self._numbers("Q", 2)
        if tensors > TENSORS or items > TENSORS:
            raise self._broken(f"it says that it holds {tensors} tensors and {items} values")
        found = {}
        for _ in range(items):
            key = self._string()
            (kind,) = self._numbers("I", 1)
            found[key] = self._value(kind)
        return found, list(self._sizes(tensors, found.get("general.alignment", 32)))

    def _sizes(self, count: int, alignment: object) -> Iterator[tuple[str, int]]:
        """Each tensor's bytes: what lies between its offset and the next one's."""
        listed = []
        for _ in range(count):
            name = self._string()
            (dimensions,) = self._numbers("I", 1)
            if dimensions > 8:
                raise self._broken(f"a tensor has {dimensions} dimensions")
            shape = self._numbers("Q", dimensions)
            _, offset = *self._numbers("I", 1), *self._numbers("Q", 1)
            if prod(shape, start=1) > 2**50 or offset > len(self._data):
                raise self._broken("a tensor lies outside of it")
            listed.append((offset, name))
        listed.sort()
        step = alignment if isinstance(alignment, int) and 0 < alignment <= 2**20 else 32
        end = len(self._data) - (self._at + -self._at % step)
        borders = [*(offset for offset, _ in listed), max(end, 0)]
        for number, (offset, name) in enumerate(listed):
            yield name, max(0, borders[number + 1] - offset)

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._numbers(self._code(kind), 1)[0]
        (inner,) = self._numbers("I", 1)
        (count,) = self._numbers("Q", 1)
        if count > ITEMS:
            raise self._broken(f"an array says that it holds {count} values")
        if inner == _STRING:
            for _ in range(count):
                self._skip(self._numbers("Q", 1)[0])
            return None
        code = self._code(inner)
        if count > LAYERS:
            self._skip(count * struct.calcsize(code))
            return None
        return list(self._numbers(code, count))

    def _code(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise self._broken(f"a value has the unknown type {kind}")
        return _SCALARS[kind]

    def _string(self) -> str:
        (length,) = self._numbers("Q", 1)
        start = self._at
        self._skip(length)
        return self._data[start : self._at].decode("utf-8", "replace")

    def _numbers(self, code: str, count: int) -> tuple[Any, ...]:
        layout = f"{self._order}{count}{code}"
        start = self._at
        self._skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, start)

    def _skip(self, length: int) -> None:
        if length > self._room - self._at:
            raise self._broken("it ends in the middle of its metadata")
        self._at += length

    def _broken(self, why: str) -> ModelUnreadable:
        return ModelUnreadable(f"{self._path} is no GGUF that can be read: {why}")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
