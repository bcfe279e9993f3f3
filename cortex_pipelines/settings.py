"""Every CORTEX_* and ARGOS_* variable, typed, with where each value came from."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cortex_pipelines.errors import CortexError
from cortex_pipelines.names import Backend, CacheMode, Lane
from cortex_pipelines.projects import project_names

PREFIXES = ("CORTEX_", "ARGOS_")
ENV_FILE = ".env"
# Of a bad value an error shows no more than this.
SHOWN_CHARACTERS = 100


class SettingsError(CortexError):
    """A variable that is unknown or has a bad value, by name."""


def _words(value: object) -> object:
    """`a, b` as a list; an empty string is an empty list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _place(value: str) -> str:
    if "/" in value and not value.startswith("/"):
        raise ValueError("should be a host such as github.com, or an absolute folder such as /srv/git")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _server(url: str) -> str:
    """The address of a server: without credentials, which are set by their own variable, or a query."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be http://HOST:PORT or https://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ValueError("should hold no credentials: set the API_KEY variable beside it")
    if any(char in url for char in "?# ") or not url.isascii() or parts.port == 0:
        raise ValueError("should hold no '?', '#', space or character that is no ASCII, and a port of 1 to 65535")
    parts.hostname.encode("idna")
    return url


def _header(key: SecretStr) -> SecretStr:
    """A key goes into a header, which takes nothing but ASCII."""
    if not key.get_secret_value().isascii():
        raise ValueError("should be ASCII")
    return key


def _webhook(url: SecretStr) -> SecretStr:
    """The address of a webhook is often its secret."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be http://HOST/PATH or https://HOST/PATH")
    return url


def _mail_server(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("smtp", "smtps", "smtp+starttls") or not parts.hostname:
        raise ValueError("should be smtp://, smtps:// or smtp+starttls://, with USER:PASSWORD@ where needed, HOST:PORT")
    return url


def _broker(url: SecretStr) -> SecretStr:
    """Celery's broker, which keeps the results too."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("redis", "rediss", "amqp", "amqps") or not parts.hostname:
        raise ValueError("should be redis://HOST:PORT/NUMBER or amqp://USER:PASSWORD@HOST:PORT//")
    return url


def _mailbox(address: str) -> str:
    if not re.fullmatch(r"[^\s@,<>]+@[^\s@,<>]+", address):
        raise ValueError("should be NAME@HOST")
    return address


def _board(url: SecretStr) -> SecretStr:
    """Redis's address may hold a password."""
    told = url.get_secret_value()
    if told != "dagster" and not (told.startswith(("redis://", "rediss://")) and urlsplit(told).hostname):
        raise ValueError("should be redis://HOST:PORT/NUMBER, or dagster")
    return url


def _store(uri: str) -> str:
    if "://" in uri and not uri.startswith("s3://"):
        raise ValueError("should be a folder or s3://BUCKET/PREFIX")
    return uri


Servers = Annotated[tuple[Annotated[str, AfterValidator(_server)], ...], BeforeValidator(_words)]
Secret = Annotated[SecretStr, AfterValidator(_header)] | None
ServerKind = Annotated[Backend, BeforeValidator(_lower)] | None
Count = Annotated[int, Field(ge=0)] | None
Projects = Annotated[tuple[str, ...], BeforeValidator(lambda value: project_names(_words(value)))]


Executor = Literal["in_process", "multiprocess", "docker", "k8s", "celery"]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LaneSettings(_Values):
    """One lane's own endpoint, `ARGOS_LANE_<LANE>_*`. Empty means: fall back."""

    url: Servers = ()
    model: str | None = None
    model_path: Path | None = None
    backend: ServerKind = None
    api_key: Secret = None

    @field_validator("backend")
    @classmethod
    def _embedded_is_a_file_and_no_server(cls, backend: Backend | None, info: ValidationInfo) -> Backend | None:
        if backend is Backend.EMBEDDED and (info.data.get("url") or not info.data.get("model_path")):
            raise ValueError("should go with this lane's MODEL_PATH and no URL")
        return backend


class DefaultEndpoint(_Values):
    """The endpoint of lanes that have none, `ARGOS_LLM_*`."""

    base_url: Servers = ()
    model: str | None = None
    api_key: Secret = None
    backend: ServerKind = None
    default_lane: Annotated[Lane, BeforeValidator(lambda value: str(value).upper())] = Lane.ORCHESTRATOR


class LlamaCpp(_Values):
    """How an embedded GGUF is loaded, `ARGOS_LLAMA_CPP_*`. Unset means the library's default.

    `n_ctx` is in tokens, `n_gpu_layers` in layers of the model.
    """

    n_ctx: Count = None
    n_threads: Count = None
    n_gpu_layers: int | None = None


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
    store: Annotated[str, AfterValidator(_store)] = "store"
    reports: Path = Path("reports")
    state: Path = Path(".cortex")
    projects: Projects = ()
    deep_ingest_bytes: ByteSize = ByteSize(50 * 2**20)
    archive_members: Annotated[int, Field(gt=0)] = 100_000
    archive_bytes: ByteSize = ByteSize(4 * 2**30)
    archive_member_bytes: ByteSize = ByteSize(50 * 2**20)
    archive_ratio: Annotated[int, Field(gt=0)] = 200
    archive_depth: Annotated[int, Field(gt=0)] = 3
    archive_name_bytes: Annotated[int, Field(gt=0)] = 1_000
    remotes: Annotated[tuple[Annotated[str, AfterValidator(_place)], ...], BeforeValidator(_words)] = ()
    mask_secrets: bool = False
    better_descriptions: bool = False
    executor: Annotated[Executor, BeforeValidator(_lower)] = "in_process"
    celery_url: Annotated[SecretStr, AfterValidator(_broker)] | None = None
    lane_cache: Annotated[CacheMode, BeforeValidator(_lower)] = CacheMode.WRITE
    lane_cache_bytes: ByteSize = ByteSize(256 * 2**20)
    alert_webhook: Annotated[SecretStr, AfterValidator(_webhook)] | None = None
    alert_email: Annotated[tuple[Annotated[str, AfterValidator(_mailbox)], ...], BeforeValidator(_words)] = ()
    alert_from: Annotated[str, AfterValidator(_mailbox)] = "cortex@localhost"
    smtp_url: Annotated[SecretStr, AfterValidator(_mail_server)] = SecretStr("smtp://localhost:25")
    lane_board: Annotated[SecretStr, AfterValidator(_board)] | None = None
    model_memory: ByteSize | None = None
    model_hosts: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    burst_model: str | None = None
    sleep_level: Annotated[int, Field(ge=1, le=2)] = 1
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
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
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
    flat = ["inbox", "store", "reports", "state", "projects", "deep_ingest_bytes", "executor"]
    flat += ["archive_members", "archive_bytes", "archive_member_bytes", "archive_ratio", "archive_depth"]
    flat += ["archive_name_bytes", "remotes", "mask_secrets", "better_descriptions"]
    flat += ["celery_url", "alert_webhook", "alert_email", "alert_from", "smtp_url"]
    flat += ["lane_cache", "lane_cache_bytes", "lane_board", "model_memory", "model_hosts", "burst_model"]
    flat += ["sleep_level"]
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

    An empty variable is at its default, also where the file gives it a value. In the file only the names with our
    prefixes are looked at: other programs may keep theirs there.
    """
    environ = os.environ if environ is None else environ
    chosen: dict[str, tuple[str, str]] = {}
    for where, values in ((str(env_file), _read(env_file)), ("environment", environ)):
        for name, value in values.items():
            if name in VARIABLES:
                chosen[name] = (value or "").strip(), where
            elif name.startswith(PREFIXES):
                raise SettingsError(f"{name} (from {where}) is no setting{_suggestion(name)}: see docs/settings.md")
    given: dict[str, Any] = {"lanes": {lane: {} for lane in Lane}}
    origin: dict[str, str] = {}
    for name, (value, where) in chosen.items():
        if any(ord(char) < 0x20 or ord(char) == 0x7F for char in value):
            raise SettingsError(f"{name} (from {where}) holds a control character: remove it")
        if value:
            _put(given, VARIABLES[name], value)
            origin[name] = where
    try:
        return Settings(**given, origin=origin)
    except ValidationError as error:
        raise SettingsError(_explain(error, origin)) from None


def _read(env_file: Path | None) -> Mapping[str, str | None]:
    try:
        return dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} cannot be read as UTF-8 text: {error}") from None


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
        secret = "KEY" in name or "TOKEN" in name or "@" in str(fault["input"])
        shown = "" if secret else f"={str(fault['input'])[:SHOWN_CHARACTERS]}"
        told = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{name}{shown} (from {origin.get(name, 'default')}): {told}")
    return "; ".join(lines)
