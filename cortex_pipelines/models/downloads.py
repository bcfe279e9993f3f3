"""Downloads of models: planned against the free space, resumed, checked to the last byte, then given their name."""

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cortex_pipelines.errors import CortexError
from cortex_pipelines.models.hub import Hub, HubError, HubUnreachable
from cortex_pipelines.models.lock import Lock, Pinned, PinnedModel, pinned_by_manifest
from cortex_pipelines.models.manifest import Model

# Files at once: enough to fill a line where each connection is limited, few enough to leave whole files behind when
# a download is broken off.
FILES_AT_ONCE = 4
# Times that a file is asked for again without a byte gained, and the first pause between them in seconds; doubled each
# time.
TRIES = 4
PAUSE_SECONDS = 1.0
# Left free on the disk beside the models.
SPARE_BYTES = 100 * 2**20
READ_BYTES = 2**20

Report = Callable[[str, int, int], None]
"""Told of a file: its path below the models' folder, how many bytes of it are there, and how many it has."""


class NoSpace(CortexError):
    """The disk does not hold what is to be downloaded."""


class FileWrong(CortexError):
    """A file is not what it must be; says how."""


class Escaping(CortexError):
    """A file would lie outside of the models' folder."""


class _Stopped(Exception):
    """The download was broken off; what is there stays for the next one."""


@dataclass(frozen=True)
class Item:
    """A file that is wanted. `there` bytes of it, finished or not, are on the disk; `done` when it needs nothing."""

    model: Model
    commit: str
    file: Pinned
    there: int
    done: bool

    @property
    def place(self) -> str:
        """Its path below the models' folder."""
        return f"{self.model.folder}/{self.file.path}"


@dataclass(frozen=True)
class Failure:
    """What could not be had, and why, in one line."""

    place: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What there is to do: files, and models whose files are not known."""

    items: tuple[Item, ...]
    failures: tuple[Failure, ...]
    free_bytes: int

    @property
    def missing_bytes(self) -> int:
        """What has to come over the line."""
        return sum(item.file.size - item.there for item in self.items if not item.done)


@dataclass(frozen=True)
class Outcome:
    """What became of a file: `downloaded`, `there`, `missing` or `wrong`; a reason where it is not as it must be."""

    place: str
    state: str
    size: int = 0
    reason: str | None = None


def plan(models: Sequence[Model], folder: Path, hub: Hub, lock: Lock) -> Plan:
    """What a download of `models` into `folder` has to do. Writes nothing; asks the hub only what is not pinned."""
    items: list[Item] = []
    failures: list[Failure] = []
    for model in models:
        try:
            pinned = lock.of(model) or pinned_by_manifest(model) or hub.resolve(model)
            items += [_item(model, pinned, file, folder) for file in pinned.files]
        except (HubError, Escaping) as error:
            failures.append(Failure(model.folder, str(error)))
    return Plan(tuple(items), tuple(failures), free_bytes(folder))


def pin(models: Sequence[Model], hub: Hub, lock: Lock) -> tuple[list[PinnedModel], list[Failure]]:
    """Hold `models` to what the hub says of them now. Downloads nothing."""
    done, failures = [], []
    for model in models:
        try:
            pinned = hub.resolve(model)
        except HubError as error:
            failures.append(Failure(model.folder, str(error)))
            continue
        lock.put(model, pinned)
        done.append(pinned)
    return done, failures


def free_bytes(folder: Path) -> int:
    """What the disk of a folder, which need not be there yet, has free."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    return shutil.disk_usage(there).free


def require_space(planned: Plan, folder: Path) -> None:
    """Raise `NoSpace`, with the arithmetic, where the disk does not hold what is missing."""
    needed = planned.missing_bytes
    if needed and needed + SPARE_BYTES > planned.free_bytes:
        told = f"{amount(needed)} are missing and {amount(SPARE_BYTES)} are left spare"
        raise NoSpace(f"{folder} has {amount(planned.free_bytes)} free, too little: {told}; nothing was downloaded")


@contextmanager
def only_download(folder: Path) -> Iterator[None]:
    """Keep other downloads out of a folder; a `CortexError` where one is under way. The system lets go at our death."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".download.lock")
        held.acquire(timeout=0)
    except Timeout:
        raise CortexError(f"another download into {folder} is under way: wait for it") from None
    except OSError as error:
        raise CortexError(f"{folder} cannot be written to: {error.strerror or error}") from None
    try:
        yield
    finally:
        held.release()


def download(planned: Plan, folder: Path, hub: Hub, lock: Lock, report: Report) -> list[Outcome]:
    """Fetch what is missing, a few files at a time. A file that fails is told in its outcome; the others go on."""
    for model, commit, files in _by_model(planned.items):
        if lock.of(model) is None:
            lock.put(
                model,
                PinnedModel(repository=model.repository, revision=model.revision, commit=commit, files=tuple(files)),
            )
    stop = threading.Event()

    def one(item: Item) -> Outcome:
        try:
            return _have(item, folder, hub, lock, report, stop)
        except _Stopped:
            return Outcome(item.place, "missing", item.file.size, "broken off")
        except CortexError as error:
            return Outcome(item.place, "missing", item.file.size, str(error))
        except OSError as error:
            return Outcome(item.place, "missing", item.file.size, _told(error, item.place))

    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        pending = [pool.submit(one, item) for item in planned.items]
        try:
            return [each.result() for each in pending]
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def verify(models: Sequence[Model], folder: Path, lock: Lock, report: Report) -> list[Outcome]:
    """Read every file of `models` and compare it with what it must be. Nobody is asked; what is wrong is noted."""
    outcomes: list[Outcome] = []
    for model in models:
        pinned = lock.of(model) or pinned_by_manifest(model)
        if pinned is None:
            outcomes.append(Outcome(model.folder, "missing", reason="it was never downloaded"))
            continue
        items = []
        for file in pinned.files:
            try:
                items.append(_item(model, pinned, file, folder))
            except Escaping as error:
                outcomes.append(Outcome(f"{model.folder}/{file.path}", "wrong", file.size, str(error)))
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            found = list(pool.map(lambda item: _examined(item, folder, report), items))
        outcomes += found
        if lock.of(model) is not None:
            _note(lock, model, items, found)
    return outcomes


def amount(size: int) -> str:
    """Bytes as a person reads them."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} bytes"


# One file.


def _item(model: Model, pinned: PinnedModel, file: Pinned, folder: Path) -> Item:
    target, partial = _places(folder, model, file)
    size = _size(target)
    if size == file.size:
        return Item(model, pinned.commit, file, file.size, file.verified)
    return Item(model, pinned.commit, file, min(_size(partial) or 0, file.size), False)


def _places(folder: Path, model: Model, file: Pinned) -> tuple[Path, Path]:
    """Where a file lies, and where it grows; both below the models' folder, also where links lead elsewhere."""
    target = folder / model.folder / file.path
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise Escaping(f"{model.folder}/{file.path} would lie outside of {folder}: a link leads out of it")
    # Named by its content, so that a rest of another version is never gone on with.
    mark = (file.sha256 or file.blob or "")[:16]
    return target, target.with_name(f".{target.name}.{mark}.part")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _have(item: Item, folder: Path, hub: Hub, lock: Lock, report: Report, stop: threading.Event) -> Outcome:
    """A file that is there and right, in the end."""
    target, partial = _places(folder, item.model, item.file)
    report(item.place, item.there, item.file.size)
    if item.done:
        return Outcome(item.place, "there", item.file.size)
    if _size(target) == item.file.size:
        # It was put there by hand, or found wrong before: only reading tells.
        with target.open("rb") as file, suppress(FileWrong):
            digest = _checked(file, item.file, stop)
            lock.mark(item.model, [_verified(item.file, digest)])
            return Outcome(item.place, "there", item.file.size)
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f".{_escaped(target.name)}.*.part"):
        if old != partial:
            old.unlink(missing_ok=True)
    digest = _fetch(item, partial, hub, report, stop)
    partial.replace(target)
    _sync(target.parent)
    lock.mark(item.model, [_verified(item.file, digest)])
    return Outcome(item.place, "downloaded", item.file.size)


def _verified(file: Pinned, digest: str) -> Pinned:
    return file.model_copy(update={"verified": True, "sha256": digest})


def _fetch(item: Item, partial: Path, hub: Hub, report: Report, stop: threading.Event) -> str:
    """Bring a partial file to its end, and its sha256; raises when it is not what it must be."""
    # No link is followed: the partial file is ours or it is nothing.
    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "r+b") as file:
        if file.seek(0, os.SEEK_END) > item.file.size:
            file.truncate(0)
        try:
            _complete(item, file, hub, report, stop)
            digest = _checked(file, item.file, stop)
        except FileWrong:
            # What ended in the middle is gone on with; bytes that are wrong are not.
            partial.unlink(missing_ok=True)
            raise
        file.flush()
        os.fsync(file.fileno())
    return digest


def _complete(item: Item, file: BinaryIO, hub: Hub, report: Report, stop: threading.Event) -> None:
    """Ask for the rest until it is there, or until nothing more comes."""
    tries = 0
    while True:
        there = file.seek(0, os.SEEK_END)
        if there and there == item.file.size:
            return
        try:
            _append(item, file, there, hub, report, stop)
            return
        except HubUnreachable:
            file.flush()
            tries = 1 if file.seek(0, os.SEEK_END) > there else tries + 1
            if tries >= TRIES or stop.wait(PAUSE_SECONDS * 2 ** (tries - 1)):
                raise


def _append(item: Item, file: BinaryIO, there: int, hub: Hub, report: Report, stop: threading.Event) -> None:
    with hub.open(item.model, item.commit, item.file.path, there) as answer:
        if answer.start != there:
            file.truncate(0)
        at = file.seek(answer.start)
        for chunk in answer.chunks:
            if stop.is_set():
                raise _Stopped
            at += len(chunk)
            if at > item.file.size:
                file.truncate(0)
                raise FileWrong(f"{item.place}: the hub sends more than its {item.file.size:,} bytes")
            file.write(chunk)
            report(item.place, at, item.file.size)
        file.flush()


def _checked(file: BinaryIO, wanted: Pinned, stop: threading.Event | None = None) -> str:
    """The sha256 of a file that is what it must be; raises `FileWrong`."""
    size = file.seek(0, os.SEEK_END)
    if size != wanted.size:
        raise FileWrong(f"{wanted.path} has {size:,} bytes and should have {wanted.size:,}")
    file.seek(0)
    content = hashlib.sha256()
    # Git's name of a content is its SHA-1 with a head; against accidents, and it is all that there is for small files.
    named = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    while chunk := file.read(READ_BYTES):
        if stop is not None and stop.is_set():
            raise _Stopped
        content.update(chunk)
        if wanted.blob and not wanted.sha256:
            named.update(chunk)
    if wanted.sha256 and content.hexdigest() != wanted.sha256:
        raise FileWrong(f"{wanted.path} has wrong bytes: sha256 {content.hexdigest()}, should be {wanted.sha256}")
    if not wanted.sha256 and named.hexdigest() != wanted.blob:
        raise FileWrong(f"{wanted.path} has wrong bytes: git blob {named.hexdigest()}, should be {wanted.blob}")
    return content.hexdigest()


def _examined(item: Item, folder: Path, report: Report) -> Outcome:
    target, _ = _places(folder, item.model, item.file)
    if _size(target) is None:
        return Outcome(item.place, "missing", item.file.size, "it is not there")
    try:
        with target.open("rb") as file:
            _checked(file, item.file)
    except (FileWrong, OSError) as error:
        return Outcome(item.place, "wrong", item.file.size, str(error))
    report(item.place, item.file.size, item.file.size)
    return Outcome(item.place, "there", item.file.size)


def _note(lock: Lock, model: Model, items: Sequence[Item], found: Sequence[Outcome]) -> None:
    """Keep what a verification found, so that the next download mends it; not where the models are read-only."""
    right = {outcome.place for outcome in found if outcome.state == "there"}
    changed = [
        item.file.model_copy(update={"verified": item.place in right})
        for item in items
        if item.file.verified != (item.place in right)
    ]
    if changed:
        with suppress(OSError):
            lock.mark(model, changed)


def _by_model(items: Sequence[Item]) -> Iterator[tuple[Model, str, list[Pinned]]]:
    grouped: dict[str, list[Item]] = {}
    for item in items:
        grouped.setdefault(item.model.folder, []).append(item)
    for each in grouped.values():
        yield each[0].model, each[0].commit, [item.file for item in each]


def _escaped(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _sync(folder: Path) -> None:
    """Have a new name outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _told(error: OSError, place: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{place}: the disk is full ({error.strerror}): make room and start again, it goes on where it ended"
    return f"{place}: {error.strerror or error}"
