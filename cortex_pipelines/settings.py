"""Every CORTEX_* and ARGOS_* variable, typed, with where each value came from."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cortex_pipelines.errors import CortexError
from cortex_pipelines.projects import project_names

PREFIXES = ("CORTEX_", "ARGOS_")
ENV_FILE = ".env"


class SettingsError(CortexError):
    """A variable that is unknown or has a bad value, by name."""


class Lane(StrEnum):
    """An intent, served by the model that suits it."""

    ORCHESTRATOR = "ORCHESTRATOR"
    CODER = "CODER"
    SUPER_READER = "SUPER_READER"
    FAST_RAG = "FAST_RAG"
    GOVERNANCE = "GOVERNANCE"


class Backend(StrEnum):
    """The kind of server behind an endpoint."""

    VLLM = "vllm"
    LLAMA_CPP = "llama_cpp"
    TGI = "tgi"
    OPENAI = "openai"
    EMBEDDED = "embedded"


def _words(value: object) -> object:
    """`a, b` as a list; an empty string is an empty list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _or_none(value: object) -> object:
    """An empty variable is an unset one."""
    return None if value == "" else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Text = Annotated[str | None, BeforeValidator(_or_none)]
Secret = Annotated[SecretStr | None, BeforeValidator(_or_none)]
ServerKind = Annotated[Backend | None, BeforeValidator(_or_none)]
Count = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_or_none)]
Projects = Annotated[tuple[str, ...], BeforeValidator(lambda value: project_names(_words(value)))]  # type: ignore[arg-type]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LaneSettings(_Values):
    """One lane's own endpoint, `ARGOS_LANE_<LANE>_*`. Empty means: fall back."""

    url: Words = ()
    model: Text = None
    model_path: Annotated[Path | None, BeforeValidator(_or_none)] = None
    backend: ServerKind = None
    api_key: Secret = None


class DefaultEndpoint(_Values):
    """The endpoint of lanes that have none, `ARGOS_LLM_*`."""

    base_url: Words = ()
    model: Text = None
    api_key: Secret = None
    backend: ServerKind = None
    default_lane: Annotated[Lane, BeforeValidator(lambda value: str(value).upper())] = Lane.ORCHESTRATOR


class LlamaCpp(_Values):
    """How an embedded GGUF is loaded, `ARGOS_LLAMA_CPP_*`. Unset means the library's default.

    `n_ctx` is in tokens, `n_gpu_layers` in layers of the model.
    """

    n_ctx: Count = None
    n_threads: Count = None
    n_gpu_layers: Annotated[int | None, BeforeValidator(_or_none)] = None


class Downloads(_Values):
    """Which models are downloaded, `ARGOS_DOWNLOAD_*`."""

    super_reader: bool = True
    governance: bool = True
    vllm: bool = True
    embeddings: bool = True


class Settings(BaseSettings):
    """Where things lie, what runs them, and the lanes. Read it with `load_settings`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_file=None)

    inbox: Path = Path("inbox")
    store: str = "store"
    reports: Path = Path("reports")
    state: Path = Path(".cortex")
    projects: Projects = ()
    deep_ingest_bytes: ByteSize = ByteSize(50 * 2**20)
    executor: Annotated[Literal["in_process", "multiprocess", "docker", "k8s"], BeforeValidator(_lower)] = "in_process"
    lanes: dict[Lane, LaneSettings] = Field(default_factory=lambda: {lane: LaneSettings() for lane in Lane})
    llm: DefaultEndpoint = DefaultEndpoint()
    llama_cpp: LlamaCpp = LlamaCpp()
    downloads: Downloads = Downloads()
    models_dir: Path = Path("models")
    hf_token: Secret = None

    origin: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """Where each variable that is set was set: `environment` or the file's path. The others are at their default."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **_: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    def value(self, name: str) -> Any:
        """The value of a variable by its name, such as `ARGOS_LANE_CODER_URL`."""
        found: Any = self
        for step in VARIABLES[name]:
            found = found[step] if isinstance(found, dict) else getattr(found, step)
        return found

    def source(self, name: str) -> str:
        """Where the value of a variable came from: `environment`, a file's path, or `default`."""
        return self.origin.get(name, "default")


def _variables() -> dict[str, tuple[Any, ...]]:
    """Each variable's name and the path of its value in `Settings`."""
    flat = ("inbox", "store", "reports", "state", "projects", "deep_ingest_bytes", "executor")
    names: dict[str, tuple[Any, ...]] = {f"CORTEX_{name.upper()}": (name,) for name in flat}
    for lane in Lane:
        names |= {f"ARGOS_LANE_{lane}_{part.upper()}": ("lanes", lane, part) for part in LaneSettings.model_fields}
    for field, prefix in (("llm", "LLM"), ("llama_cpp", "LLAMA_CPP"), ("downloads", "DOWNLOAD")):
        group: FieldInfo = Settings.model_fields[field]
        parts = group.annotation.model_fields  # type: ignore[union-attr]
        names |= {f"ARGOS_{prefix}_{part.upper()}": (field, part) for part in parts}
    return names | {"ARGOS_MODELS_DIR": ("models_dir",), "HF_TOKEN": ("hf_token",)}


VARIABLES = _variables()


def load_settings(environ: Mapping[str, str] | None = None, env_file: Path | None = Path(ENV_FILE)) -> Settings:
    """Settings from the environment, then from `.env`; an unknown name or a bad value is a `SettingsError`.

    In the file only the names with our prefixes are looked at: other programs may keep theirs there.
    """
    environ = os.environ if environ is None else environ
    filed = dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    given: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, values in ((str(env_file), filed), ("environment", environ)):
        for name, value in values.items():
            if name in VARIABLES:
                _put(given, VARIABLES[name], value)
                origin[name] = where
            elif name.startswith(PREFIXES):
                raise SettingsError(f"{name} (from {where}) is no setting{_suggestion(name)}: see `cortex settings`")
    given["lanes"] = {lane: given.get("lanes", {}).get(lane, {}) for lane in Lane}
    try:
        return Settings(**given, origin=origin)
    except ValidationError as error:
        raise SettingsError(_explain(error, origin)) from None


def _put(tree: dict[Any, Any], path: tuple[Any, ...], value: object) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = value


def _suggestion(name: str) -> str:
    close = get_close_matches(name, VARIABLES, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _explain(error: ValidationError, origin: Mapping[str, str]) -> str:
    names = {path: name for name, path in VARIABLES.items()}
    lines = []
    for fault in error.errors(include_url=False):
        path = next((path for path in names if path == tuple(fault["loc"])[: len(path)]), None)
        name = names[path] if path else ".".join(map(str, fault["loc"]))
        shown = (
            "" if isinstance(fault["input"], (dict, list)) or "KEY" in name or "TOKEN" in name else f"={fault['input']}"
        )
        lines.append(f"{name}{shown} (from {origin.get(name, 'default')}): {fault['msg']}")
    return "; ".join(lines)
