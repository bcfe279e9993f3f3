"""Which endpoints serve a lane, and which variables said so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cortex_pipelines.lanes.errors import LaneUnresolved
from cortex_pipelines.names import Backend, Lane

if TYPE_CHECKING:
    from pydantic import SecretStr

    from cortex_pipelines.settings import Settings

# The two lanes whose reference models are GGUFs.
USUAL_BACKENDS = {Lane.SUPER_READER: Backend.LLAMA_CPP, Lane.GOVERNANCE: Backend.LLAMA_CPP}
# The lane with the widest window, where a prompt goes that fits nowhere else.
WIDEST = Lane.SUPER_READER


@dataclass(frozen=True, slots=True)
class Origin:
    """The variable that gave a value, and where it was set: `environment`, a file's path, or `default`."""

    variable: str
    source: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one server. `url` is without `/v1`; where it is empty, the GGUF `model_path` is meant.

    Beside a URL `model_path` says where the model's files lie, so that what it takes in memory can be computed.

    `model` None is whatever the server serves, `backend` None is to be detected.
    """

    url: str
    model: str | None = None
    backend: Backend | None = None
    api_key: "SecretStr | None" = field(default=None, repr=False)
    model_path: Path | None = None

    @property
    def name(self) -> str:
        """What to call it: its address, or its file."""
        return self.url or str(self.model_path)


@dataclass(frozen=True)
class Resolved:
    """The endpoints of a lane in order, whose they are, and the origin of each of an endpoint's values.

    `served_by` is None where they are the default endpoint, `ARGOS_LLM_*`, which is no lane's own.
    """

    lane: Lane
    served_by: Lane | None
    endpoints: tuple[Endpoint, ...]
    origins: Mapping[str, Origin]


def resolve(settings: "Settings", lane: Lane) -> Resolved:
    """The lane's own endpoints; else the default lane's; else `ARGOS_LLM_*`; else `LaneUnresolved`."""
    default = settings.llm.default_lane
    for resolved in (_own(settings, lane, lane), _own(settings, lane, default), _default(settings, lane)):
        if resolved is not None:
            return resolved
    wanted = dict.fromkeys((f"ARGOS_LANE_{lane}_URL", f"ARGOS_LANE_{default}_URL", "ARGOS_LLM_BASE_URL"))
    first, *rest = wanted
    model = f"ARGOS_LANE_{lane}_MODEL"
    without = f" ({model} names a model, but no server)" if settings.value(model) else ""
    raise LaneUnresolved(f"no model serves the lane {lane}{without}: set {first}, or {' or '.join(rest)}")


def chain(settings: "Settings", lane: Lane) -> tuple[Resolved, ...]:
    """Where a call of the lane goes, in order: the lane, the default lane, the widest, the default endpoint.

    Each lane at most once, so that no chain has a cycle; empty when nothing is configured.
    """
    lanes = dict.fromkeys((lane, settings.llm.default_lane, WIDEST))
    steps = (*(_own(settings, lane, serving) for serving in lanes), _default(settings, lane))
    return tuple(step for step in steps if step is not None)


def base(url: str) -> str:
    """A server's address without the `/v1` that people add."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _own(settings: "Settings", lane: Lane, serving: Lane) -> Resolved | None:
    """What the variables of the lane `serving` give: a URL, else a GGUF, else a model at the default endpoint."""
    own, shared = f"ARGOS_LANE_{serving}", "ARGOS_LLM"
    usual = USUAL_BACKENDS.get(serving)
    if settings.value(f"{own}_URL"):
        names = _named(own) | {"model_path": f"{own}_MODEL_PATH"}
        return _resolved(settings, lane, serving, names, usual)
    if settings.value(f"{own}_MODEL_PATH"):
        names = {part: f"{own}_{part.upper()}" for part in ("model_path", "model", "backend")}
        return _resolved(settings, lane, serving, names, Backend.EMBEDDED)
    if settings.value(f"{own}_MODEL") and settings.value(f"{shared}_BASE_URL"):
        mine, theirs = _named(own), _named(shared, "BASE_URL")
        names = {
            part: theirs[part] if settings.value(theirs[part]) and not settings.value(name) else name
            for part, name in mine.items()
        }
        return _resolved(settings, lane, serving, names, usual)
    return None


def _default(settings: "Settings", lane: Lane) -> Resolved | None:
    names = _named("ARGOS_LLM", "BASE_URL")
    return _resolved(settings, lane, None, names, None) if settings.value(names["url"]) else None


def _named(prefix: str, url: str = "URL") -> dict[str, str]:
    """The variables that give an endpoint's values."""
    return {"url": f"{prefix}_{url}", **{part: f"{prefix}_{part.upper()}" for part in ("model", "backend", "api_key")}}


def _resolved(
    settings: "Settings", lane: Lane, serving: Lane | None, names: Mapping[str, str], usual: Backend | None
) -> Resolved:
    """Endpoints with the values of the named variables: where a value came from cannot be told wrongly."""
    values = {part: settings.value(name) for part, name in names.items()}
    values["backend"] = values["backend"] or usual
    urls = [base(url) for url in values.pop("url", ())] or [""]
    endpoints = tuple(Endpoint(url, **values) for url in dict.fromkeys(urls))
    origins = {part: Origin(name, settings.source(name)) for part, name in names.items()}
    return Resolved(lane, serving, endpoints, origins)
