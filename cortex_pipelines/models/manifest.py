"""The manifest of models: what is downloaded for which lane and machine, under which licence, and which of it."""

import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cortex_pipelines.errors import CortexError
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import Downloads

SHIPPED = "models.yaml"
# No manifest is larger; what is larger is another file, named by mistake.
MANIFEST_BYTES = 2**20
# What a file of a model may be called. The leading dot is ours: partial files have one.
_PART = re.compile(r"[A-Za-z0-9_*?\[\]][A-Za-z0-9_.,+*?\[\]() -]*")
_WILD = frozenset("*?[")


class ManifestError(CortexError):
    """A manifest that cannot be used, with the field that is wrong."""


class Kind(StrEnum):
    """What a model is for, and the folder that it lies in."""

    VLLM = "vllm"
    GGUF = "gguf"
    EMBEDDINGS = "embeddings"


class Profile(StrEnum):
    """A kind of machine."""

    LAPTOP = "laptop"
    STRIX = "strix"
    NVIDIA = "nvidia"


def safe_path(path: str) -> str:
    """A relative path that stays below the folder it is put into; anything else is a `ValueError`."""
    if len(path) > 500 or not all(_PART.fullmatch(part) and len(part) <= 200 for part in path.split("/")):
        raise ValueError("should be a plain relative path: no '..', no leading '/' or '.', no odd characters")
    return path


def _name(name: str) -> str:
    if safe_path(name) and ("/" in name or not _WILD.isdisjoint(name)):
        raise ValueError("should be one plain name: it becomes a folder")
    return name


PlainPath = Annotated[str, AfterValidator(safe_path)]
Name = Annotated[str, AfterValidator(_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# The hub takes nothing else; what goes into an address must not be able to change it.
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$", max_length=200)]


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Values):
    """A file of a repository, or a pattern of such files. Without a size and sha256 it is not pinned yet.

    A pattern stands for files of one folder: `*.json` matches none of a folder below. What is `optional` may be
    missing from the repository.
    """

    path: PlainPath
    size: Annotated[int, Field(gt=0)] | None = None
    sha256: Sha256 | None = None
    optional: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for several files."""
        return not _WILD.isdisjoint(self.path)

    @property
    def pinned(self) -> bool:
        """Whether size and content are known before anything is downloaded."""
        return self.size is not None and self.sha256 is not None

    def matches(self, path: str) -> bool:
        """Whether a file of the repository is meant."""
        ours, theirs = self.path.split("/"), path.split("/")
        # Hidden files are none of a model.
        hidden = any(part.startswith(".") for part in theirs)
        return not hidden and len(ours) == len(theirs) and all(map(fnmatchcase, theirs, ours))

    @model_validator(mode="after")
    def _a_pattern_has_no_size(self) -> "File":
        if self.is_pattern and (self.size is not None or self.sha256 is not None):
            raise ValueError("a pattern should have no size and no sha256: name its files one by one")
        return self


class Model(_Values):
    """One model: whose it is, what of it is fetched, for which lane and machines, and why this one."""

    name: Name
    lane: Lane | Literal["EMBEDDINGS"]
    kind: Kind
    repository: Repository
    revision: Revision
    files: Annotated[tuple[File, ...], Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    gated: bool
    non_commercial: bool
    profiles: Annotated[tuple[Profile, ...], Field(min_length=1)]
    why: Annotated[str, Field(min_length=1)]

    @property
    def pinned(self) -> bool:
        """Whether the manifest itself says what every file must be."""
        return all(file.pinned for file in self.files)

    @property
    def folder(self) -> str:
        """Where its files lie, below the models' folder."""
        return f"{self.kind}/{self.name}"


class Manifest(_Values):
    """All models that a download may choose from."""

    version: Literal[1]
    models: Annotated[tuple[Model, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Manifest":
        folders = [model.folder.lower() for model in self.models]
        if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
            raise ValueError(f"two models would lie in one folder: {', '.join(twice)}")
        return self


@dataclass(frozen=True)
class Choice:
    """A model, and why it is left out, where it is; `notable` when the person has to hear of it unasked."""

    model: Model
    left_out: str | None = None
    notable: bool = False


def load_manifest(path: Path | None = None) -> Manifest:
    """The manifest at `path`, or the one that the package brings. Raises `ManifestError`."""
    import yaml

    where = str(path) if path else SHIPPED
    try:
        text = path.read_bytes() if path else (package_files(__package__) / SHIPPED).read_bytes()
        if len(text) > MANIFEST_BYTES:
            raise ManifestError(f"{where} is no manifest: it is {len(text):,} bytes long")
        told = yaml.safe_load(text)
    except OSError as error:
        raise ManifestError(f"{where} cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{where} is no YAML: {error}") from None
    try:
        return Manifest.model_validate(told)
    except ValidationError as error:
        faults = (_explain(where, fault["loc"], fault["msg"], told) for fault in error.errors(include_url=False))
        raise ManifestError("; ".join(faults)) from None


def choose(
    manifest: Manifest,
    profile: Profile,
    wanted: Downloads,
    skipped: frozenset[Kind] = frozenset(),
    accepted: frozenset[str] = frozenset(),
) -> tuple[Choice, ...]:
    """Every model of a profile, with the reason where it is not to be downloaded. `accepted` names licences."""
    return tuple(_choice(model, wanted, skipped, accepted) for model in manifest.models if profile in model.profiles)


def _choice(model: Model, wanted: Downloads, skipped: frozenset[Kind], accepted: frozenset[str]) -> Choice:
    unwanted = {
        "ARGOS_DOWNLOAD_SUPER_READER": model.lane == Lane.SUPER_READER and not wanted.super_reader,
        "ARGOS_DOWNLOAD_GOVERNANCE": model.lane == Lane.GOVERNANCE and not wanted.governance,
        "ARGOS_DOWNLOAD_VLLM": model.kind is Kind.VLLM and not wanted.vllm,
        "ARGOS_DOWNLOAD_EMBEDDINGS": model.kind is Kind.EMBEDDINGS and not wanted.embeddings,
    }
    if model.kind in skipped:
        return Choice(model, f"--skip-{model.kind}")
    if variable := next((name for name, off in unwanted.items() if off), None):
        return Choice(model, f"{variable} is off")
    if model.non_commercial and model.licence.lower() not in accepted:
        told = f"its licence {model.licence} is non-commercial: to accept it, add --accept-licence {model.licence}"
        return Choice(model, told, notable=True)
    return Choice(model)


def _explain(where: str, steps: tuple[int | str, ...], told: str, manifest: object) -> str:
    """A fault in one line, with the field, and the model's name where it has one."""
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    named = ""
    if len(steps) > 1 and isinstance(manifest, dict) and isinstance(steps[1], int):
        model = manifest["models"][steps[1]]
        named = f" ({str(model.get('name'))[:100]})" if isinstance(model, dict) and "name" in model else ""
    return f"{where}: {field or 'the file'}{named}: {told.removeprefix('Value error, ')}"
