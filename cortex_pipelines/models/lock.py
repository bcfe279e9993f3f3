"""`models.lock.json` beside the models: what each file must be, and whether it was found so."""

import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cortex_pipelines.errors import CortexError
from cortex_pipelines.models.manifest import File, Model, Name, PlainPath, Repository, Revision, Sha256

LOCK_FILE = "models.lock.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")


class LockUnreadable(CortexError):
    """The lock file is not what we wrote."""


class LockUnwritable(CortexError):
    """The lock file cannot be written: then nothing is downloaded that nobody could check later."""


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pinned(_Values):
    """What a file must be. `blob` is git's name of its content: all that the hub tells of small files.

    `verified` means that its bytes on this disk were read and found so.
    """

    path: PlainPath
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256 | None = None
    blob: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    verified: bool = False

    def same_content(self, other: "Pinned") -> bool:
        """Whether both must be the same bytes."""
        known = [(a, b) for a, b in ((self.sha256, other.sha256), (self.blob, other.blob)) if a and b]
        return self.size == other.size and bool(known) and all(a == b for a, b in known)


class PinnedModel(_Values):
    """The files of a model at one commit of its repository."""

    repository: Repository
    revision: Revision
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
    files: tuple[Pinned, ...]

    def answers(self, model: Model) -> bool:
        """Whether it is what the manifest asks for: the same place, and every file that is not optional."""
        if (self.repository, self.revision) != (model.repository, model.revision):
            return False
        for asked in model.files:
            ours = [file for file in self.files if asked.matches(file.path)]
            if not (ours or asked.optional) or any(_contradicts(asked, file) for file in ours):
                return False
        return all(any(asked.matches(file.path) for asked in model.files) for file in self.files)


def pinned_by_manifest(model: Model) -> PinnedModel | None:
    """A model's files where the manifest says all of them, and the commit: then nobody has to be asked."""
    if not model.pinned or not _COMMIT.fullmatch(model.revision):
        return None
    files = tuple(Pinned(path=file.path, size=file.size or 0, sha256=file.sha256) for file in model.files)
    return PinnedModel(repository=model.repository, revision=model.revision, commit=model.revision, files=files)


def _contradicts(asked: File, file: Pinned) -> bool:
    told = ((asked.size, file.size), (asked.sha256, file.sha256))
    return any(ours is not None and theirs is not None and ours != theirs for ours, theirs in told)


class _Written(_Values):
    version: int = 1
    models: dict[Name, PinnedModel] = Field(default_factory=dict)


class Lock:
    """What is known of the models in a folder. Every change is on the disk before the call returns."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._guard = threading.Lock()
        self._models = _read(self.path)

    def of(self, model: Model) -> PinnedModel | None:
        """What is pinned of a model; None where the manifest has since asked for something else."""
        pinned = self._models.get(model.name)
        return pinned if pinned and pinned.answers(model) else None

    def put(self, model: Model, pinned: PinnedModel) -> None:
        """Pin a model's files; what was verified of the same content stays so. Raises `LockUnwritable`."""
        try:
            with self._alone():
                old = self._models.get(model.name)
                known = {file.path: file for file in old.files} if old else {}
                files = tuple(_inherited(file, known.get(file.path)) for file in pinned.files)
                self._models[model.name] = pinned.model_copy(update={"files": files})
                self._write()
        except OSError as error:
            raise LockUnwritable(f"{self.path} cannot be written: {error.strerror or error}") from None

    def mark(self, model: Model, changed: Iterable[Pinned]) -> None:
        """Note what was found of some files of a model."""
        with self._alone():
            if (pinned := self._models.get(model.name)) is None:
                return
            new = {file.path: file for file in changed}
            files = tuple(new.get(file.path, file) for file in pinned.files)
            self._models[model.name] = pinned.model_copy(update={"files": files})
            self._write()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Change what is on the disk by now: a verification may run beside a download."""
        from filelock import FileLock

        with self._guard:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{LOCK_FILE}.guard")):
                self._models = _read(self.path)
                yield

    def _write(self) -> None:
        new = self.path.with_name(f".{LOCK_FILE}.{os.getpid()}")
        told = _Written(models=self._models).model_dump(mode="json", exclude_none=True)
        try:
            with new.open("w", encoding="utf-8") as file:
                json.dump(told, file, indent=1, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)


def _inherited(file: Pinned, old: Pinned | None) -> Pinned:
    if old is None or not old.same_content(file):
        return file
    return file.model_copy(update={"verified": old.verified, "sha256": file.sha256 or old.sha256})


def _read(path: Path) -> dict[str, PinnedModel]:
    try:
        return dict(_Written.model_validate_json(path.read_bytes()).models)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LockUnreadable(f"{path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise LockUnreadable(
            f"{path} is not what was written: {where} {fault['msg']}; remove it to start anew"
        ) from None
