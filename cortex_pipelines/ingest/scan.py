"""One pass over a project's folder: what is there, what changed, what is refused and why."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest.manifest import Manifest, Source
from cortex_pipelines.stairs import Work

# Deeper trees and longer paths are made by loops and attacks, not by teams; most tools stop at them too.
MOST_DEPTH = 64
MOST_PATH_BYTES = 2_000
MOST_FILES = 500_000
READ_BYTES = 2**20
# File systems tell times to two seconds at worst (FAT).
SETTLED_SECONDS = 2.0
# What has not changed for so long is taken to be whole; a copy over a slow network pauses for less.
QUIET_SECONDS = 5.0
HEAD_BYTES = 4 * 2**10
PACKED_REFS_BYTES = 16 * 2**20

PARTIAL_ENDINGS = (".tmp", ".part", ".crdownload", ".partial", ".swp", "~")
RESERVED = ("sources.yaml",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A name that is not read, shown with what cannot be printed escaped, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What lies in a project's folder."""

    sources: tuple[Source, ...]
    refused: tuple[Refusal, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Equal where the same lies there."""
        digest = hashlib.blake2b(digest_size=16)
        for source in self.sources:
            digest.update(f"{source.path}\0{source.kind}\0{source.digest}\0".encode("utf-8", "surrogateescape"))
        digest.update(repr(self.refused).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """A source as the file system lists it; `head` is of a repository. Size in bytes."""

    path: str
    kind: str
    size: int
    mtime_ns: int
    inode: int
    head: str = ""

    @property
    def stamp(self) -> str:
        """Equal stamps: nothing was written in between."""
        return self.head if self.kind == "repository" else f"{self.kind}:{self.size}:{self.mtime_ns}:{self.inode}"

    def same(self, source: Source | None) -> bool:
        """Whether it is as a scan saw it."""
        if source is None or (source.kind != self.kind and source.kind != "archive"):
            return False
        if self.kind == "repository":
            return source.digest == self.head
        return (source.size, source.mtime_ns, source.inode) == (self.size, self.mtime_ns, self.inode)


def project_sources(work: Work) -> Scan:
    """Scan the project of a piece of work, with its own manifest."""
    if work.looked:
        return work.looked[0]
    folder = work.settings.inbox / work.project
    if not folder.is_dir():
        raise CortexError(f"there is no project {work.project}: {folder} is not a folder")
    with Manifest(work.settings.state / work.project / "manifest.db") as manifest:
        found = _with_remotes(work, folder, scan(folder, manifest, work.quiet))
    if work.looked is not None:
        work.looked.append(found)
    return found


def _with_remotes(work: Work, folder: Path, found: Scan) -> Scan:
    """What the project's `sources.yaml` names is a source too; it is asked what is new, but not for a sensor's sake."""
    state = work.settings.state / work.project / "remotes"
    if not os.path.lexists(folder / "sources.yaml") and not state.is_dir():
        return found
    from cortex_pipelines.ingest.remotes import Remotes

    sources, refused = Remotes(folder, state, work.settings.remotes).sources(fetch=not work.quiet)
    listed = sorted((*found.sources, *sources), key=lambda source: source.path)
    return Scan(tuple(listed), (*found.refused, *refused))


def scan(project_folder: Path, manifest: Manifest, quiet: bool = False) -> Scan:
    """Every source of a project; only what is new or changed by size, time and inode is read.

    With `quiet`, what a sensor saw growing is left as it was until a sensor has seen it rest.
    """
    started = time.time()
    known = manifest.scanned()
    growing = manifest.growing(started - QUIET_SECONDS) if quiet else set()
    sources, refused, changed = [], [], []
    for found in _walk(project_folder):
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        old = known.get(found.path)
        if old is not None and (found.same(old) or found.path in growing):
            sources.append(old)
            continue
        if found.path in growing:
            continue
        try:
            digest = found.head if found.kind == "repository" else file_digest(project_folder / found.path)
        except FileNotFoundError:
            continue  # it vanished since it was listed: the next scan will not see it
        except OSError as error:
            refused.append(Refusal(found.path, f"cannot be read: {error.strerror}"))
            continue
        # What is written again within the clock's tick looks the same: a file this young is read again next time.
        written = found.mtime_ns if found.mtime_ns < (started - SETTLED_SECONDS) * 1e9 else 0
        kind = _kind(project_folder, found)
        source = Source(found.path, kind, found.size, written, found.inode, digest)
        sources.append(source)
        changed.append(source)
    gone = known.keys() - {source.path for source in sources}
    if changed or gone:
        manifest.replace_scanned(changed, gone)
    return Scan(tuple(sorted(sources, key=lambda source: source.path)), tuple(refused))


def stamps(project_folder: Path) -> Iterator[Found]:
    """What lies in a project's folder by its stamps; nothing but heads of repositories is read."""
    return (found for found in _walk(project_folder) if isinstance(found, Found))


def open_plain(path: Path) -> BinaryIO:
    """A regular file, opened without following a link and without waiting; `OSError` for anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return open(descriptor, "rb", buffering=0)


def file_head(path: Path) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with open_plain(path) as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def file_digest(path: Path) -> str:
    """blake2b-128 of a file's content; a link is not followed."""
    digest = hashlib.blake2b(digest_size=16)
    with open_plain(path) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[Found | Refusal]:
    if is_repository(folder):
        yield Found(".", "repository", 0, 0, 0, repository_head(folder))
        return
    stack = [("", 0)]
    count = 0
    while stack:
        prefix, depth = stack.pop()
        try:
            entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name)
        except OSError as error:
            yield Refusal(prefix or ".", f"cannot be listed: {error.strerror}")
            continue
        for entry in entries:
            path = prefix + entry.name
            if reason := _name_objection(entry.name, path):
                yield Refusal(_shown(path), reason)
            elif is_left_out(entry.name) or path in RESERVED:
                continue
            elif entry.is_symlink():
                yield Refusal(path, "is a symbolic link: put the file itself here")
            elif entry.is_dir(follow_symlinks=False):
                if is_repository(folder / path):
                    yield Found(path, "repository", 0, 0, 0, repository_head(folder / path))
                elif depth + 1 >= MOST_DEPTH:
                    yield Refusal(path, f"lies deeper than {MOST_DEPTH} folders")
                else:
                    stack.append((f"{path}/", depth + 1))
            elif entry.is_file(follow_symlinks=False):
                count += 1
                if count > MOST_FILES:
                    yield Refusal(path, f"the project has more than {MOST_FILES} files: the rest is not read")
                    return
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                kind = "bundle" if path.endswith(".bundle") else "file"
                yield Found(path, kind, info.st_size, info.st_mtime_ns, info.st_ino)
            else:
                yield Refusal(path, "is no regular file")


def is_left_out(name: str) -> bool:
    """Whether a name is that of something hidden, or not written to its end, which is left out silently."""
    return name.startswith((".", "~$")) or name.endswith(PARTIAL_ENDINGS)


def repository_head(folder: Path) -> str:
    """The branch and the commit that a repository's own files name, without running git; what it can tell of it."""
    inside = folder / ".git" if (folder / ".git").is_dir() else folder
    head = _small(inside / "HEAD", HEAD_BYTES)
    branch = head.removeprefix("ref:").strip()
    if branch == head or not branch.startswith("refs/") or ".." in branch or "\0" in branch:
        # A detached head, a work tree whose repository lies elsewhere, or nothing that git would take.
        return head or _small(folder / ".git", HEAD_BYTES)
    commit = _small(inside / branch, HEAD_BYTES)
    if not commit:
        packed = _small(inside / "packed-refs", PACKED_REFS_BYTES)
        commit = next((line.split(" ")[0] for line in packed.split("\n") if line.endswith(f" {branch}")), "")
    # References in git's newer format are told by the list of its tables.
    return f"{branch} {commit or _small(inside / 'reftable' / 'tables.list', HEAD_BYTES)}".strip()


def _small(path: Path, most: int) -> str:
    try:
        with open_plain(path) as file:
            return file.read(most).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _kind(project_folder: Path, found: Found) -> str:
    """The kind of a source that is new or changed: an archive of a source tree is a repository."""
    if found.kind == "file" and found.size:
        from cortex_pipelines.ingest.archives import archive_kind

        if archive_kind(project_folder / found.path) == "repository":
            return "archive"
    return found.kind


def is_repository(folder: Path) -> bool:
    """Whether a folder is a git work tree or a bare repository, by its names alone."""
    if (folder / ".git").exists():
        return True
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _name_objection(name: str, path: str) -> str | None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8: rename it"
    if not name.isprintable():
        return "its name has control characters: rename it"
    if len(encoded) > MOST_PATH_BYTES:
        return f"its path is longer than {MOST_PATH_BYTES} bytes"
    return None


def _shown(path: str) -> str:
    return "".join(
        char if char.isprintable() and not 0xD800 <= ord(char) <= 0xDFFF else f"\\x{ord(char) & 0xFF:02x}"
        for char in path
    )
