"""The one file of a backup: a tar whose last member says what every other one must be, to the byte."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cortex_pipelines.errors import CortexError

# One more whenever older code could not restore what this code writes.
FORMAT = 1
MANIFEST = "manifest.json"
BLOCK = 2**20
# A manifest names every file of a store; one that is larger is none of ours.
MANIFEST_BYTES = 512 * 2**20

_PART = re.compile(r"[^/\\\0]+")


class BackupError(CortexError):
    """A backup that could not be made, or cannot be trusted."""


@dataclass(frozen=True)
class Member:
    """One file of a backup, by its name in it."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What a backup's manifest says; `told` are the facts that its writer put beside the list of files."""

    members: dict[str, Member]
    told: dict[str, Any]


class Packing:
    """A backup that is being written."""

    def __init__(self, stream: IO[bytes], on_bytes: Callable[[int], None]) -> None:
        self._hashed = _Hashed(stream)
        # PAX takes names of any length and characters.
        self._tar = tarfile.TarFile(fileobj=self._hashed, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]
        self._on_bytes = on_bytes
        self._members: dict[str, Member] = {}

    def add(self, name: str, path: Path) -> None:
        """Put a file into it, as long as it is now; what is appended meanwhile stays out."""
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            head = tarfile.TarInfo(name)
            head.size, head.mtime, head.mode = info.st_size, int(info.st_mtime), 0o600
            reader = _Counted(file, info.st_size, self._on_bytes)
            try:
                self._tar.addfile(head, reader)
            except OSError as error:
                if reader.left and error.errno is None:
                    raise BackupError(f"{path} shrank while it was read: make the backup again") from error
                raise
        self._members[name] = Member(info.st_size, reader.digest.hexdigest())

    def finish(self, told: dict[str, Any]) -> None:
        """Write the manifest, which makes it a backup."""
        files = {name: [member.size, member.sha256] for name, member in self._members.items()}
        # Everything before the manifest is vouched for as it lies in the file: headers and padding too.
        body = {"format": FORMAT, **told, "files": files, "before": self._hashed.written}
        body["before_sha256"] = self._hashed.digest.hexdigest()
        text = json.dumps(body, sort_keys=True)
        content = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": text}).encode()
        head = tarfile.TarInfo(MANIFEST)
        head.size, head.mode = len(content), 0o600
        self._tar.addfile(head, io.BytesIO(content))
        self._tar.close()


@contextmanager
def packing(target: Path, on_bytes: Callable[[int], None]) -> Iterator[Packing]:
    """Write a backup under a temporary name; it is at `target` once the body has ended, on the disk and whole."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            yield Packing(stream, on_bytes)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    sync(target.parent)


def read_manifest(path: Path, on_bytes: Callable[[int], None] = lambda done: None) -> Contents:
    """What a backup holds, every byte of it verified; `BackupError` says why it is none."""
    try:
        manifest, start = _last_member(path)
        contents = _contents(path, manifest)
        body = contents.told
        if body.pop("before") != start or body.pop("before_sha256") != _digest(path, start, on_bytes):
            raise _altered(path, "its bytes are not those that were written")
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _altered(path, str(error) or type(error).__name__) from None
    except OSError as error:
        raise BackupError(f"the backup {path} cannot be read: {error.strerror or error}") from None
    return contents


def unpack(path: Path, contents: Contents, place: Callable[[str], Path | None]) -> None:
    """Write the members to where `place` says; None leaves one out. Every byte is verified again."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            for head in tar:
                if head.name == MANIFEST:
                    continue
                member, source = contents.members[head.name], tar.extractfile(head)
                target = place(head.name)
                if target is not None and source is not None and _write(target, source, head.mtime) != member.sha256:
                    raise _altered(path, f"{head.name} is not what was written")
    except (tarfile.TarError, EOFError, KeyError) as error:
        raise _altered(path, f"it was changed while it was read: {error}") from None


def sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def safe_name(name: str) -> bool:
    """Whether a member's name stays where it is unpacked: plain parts, none of them `.` or `..`."""
    parts = name.split("/")
    return len(parts) > 1 and all(_PART.fullmatch(part) and part not in (".", "..") for part in parts)


class _Hashed:
    """A stream that knows the digest of what went through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.written = 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.written += len(content)
        return self._stream.write(content)

    def tell(self) -> int:
        return self.written


class _Counted:
    """The first `size` bytes of a file, and their digest."""

    def __init__(self, file: IO[bytes], size: int, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self.left = size
        self._on_bytes = on_bytes
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(block)
        self.digest.update(block)
        self._on_bytes(len(block))
        return block


def _last_member(path: Path) -> tuple[bytes, int]:
    """The manifest's content and where its header begins. Checks what kind every member is, and that none follows."""
    with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        last = None
        names = set()
        for head in tar:
            last = head
            if not head.isreg() or head.issparse():
                raise _altered(path, f"{head.name!r} is no plain file")
            if head.name in names or not (head.name == MANIFEST or safe_name(head.name)):
                raise _altered(path, f"the name {head.name!r} is not one that a backup has")
            # Python's own rules too, where this version of it has them.
            if hasattr(tarfile, "data_filter"):
                tarfile.data_filter(head, str(path.parent.absolute()))
            names.add(head.name)
        if last is None or last.name != MANIFEST or last.size > MANIFEST_BYTES:
            raise _altered(path, "it was cut off before its end")
        source = tar.extractfile(last)
        assert source is not None
        content = source.read()
        file.seek(last.offset_data + last.size)
        # Behind the last member tar writes two blocks of zeros, and more to the end of a record.
        blocks = -(-last.size // tarfile.BLOCKSIZE) + 2
        end = last.offset_data + blocks * tarfile.BLOCKSIZE
        whole = -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
        rest = file.read(2 * tarfile.RECORDSIZE)
        if file.tell() != whole or rest.strip(b"\0"):
            raise _altered(path, "its end is not the one that was written")
        return content, last.offset


def _contents(path: Path, manifest: bytes) -> Contents:
    outer = json.loads(manifest)
    text = outer["manifest"]
    if hashlib.sha256(text.encode()).hexdigest() != outer["sha256"]:
        raise _altered(path, "its manifest is not the one that was written")
    body = json.loads(text)
    if body["format"] > FORMAT:
        raise BackupError(
            f"the backup {path} was made by newer code (version {str(body.get('version'))[:40]}): "
            "update cortex-pipelines, then restore it"
        )
    told = {
        "made": str(body["made"]),
        "version": str(body["version"]),
        "store_schema": int(body["store_schema"]),
        "projects": {str(project): int(number) for project, number in body["projects"].items()},
        "notes": [str(note) for note in body["notes"]],
        "before": body["before"],
        "before_sha256": body["before_sha256"],
    }
    members = {str(name): Member(int(size), str(sha256)) for name, (size, sha256) in body.pop("files").items()}
    with tarfile.open(path, mode="r:") as tar:
        found = {head.name: head.size for head in tar if head.name != MANIFEST}
    if found != {name: member.size for name, member in members.items()}:
        raise _altered(path, "its files are not those that its manifest names")
    return Contents(members, told)


def _write(target: Path, source: IO[bytes], mtime: float) -> str:
    """Write a file that was not there, on the disk; the digest of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        while block := source.read(BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    os.utime(target, (mtime, mtime))
    return digest.hexdigest()


def _digest(path: Path, size: int, on_bytes: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size and (block := file.read(min(BLOCK, size))):
            size -= len(block)
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


def _altered(path: Path, why: str) -> BackupError:
    return BackupError(f"the backup {path} is cut or altered ({why[:200]}): nothing was restored, use another one")
