"""One pass over a project's folder: what is there, what changed, what is refused and why."""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest.manifest import Manifest, Source
from cortex_pipelines.stairs import Work

# Deeper trees and longer paths are made by loops and attacks, not by teams; most tools stop at them too.
MOST_DEPTH = 64
MOST_PATH_BYTES = 2_000
MOST_FILES = 500_000
READ_BYTES = 2**20
# File systems tell times to two seconds at worst (FAT).
SETTLED_NS = 2 * 10**9

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


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    kind: str
    entry_stat: os.stat_result


def project_sources(work: Work) -> Scan:
    """Scan the project of a piece of work, with its own manifest."""
    folder = work.settings.inbox / work.project
    if not folder.is_dir():
        raise CortexError(f"there is no project {work.project}: {folder} is not a folder")
    with Manifest(work.settings.state / work.project / "manifest.db") as manifest:
        return scan(folder, manifest)


def scan(project_folder: Path, manifest: Manifest) -> Scan:
    """Every source of a project; only what is new or changed by size, time and inode is read."""
    started = time.time_ns()
    known = manifest.scanned()
    sources, refused, changed = [], [], []
    for found in _walk(project_folder):
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        info = found.entry_stat
        old = known.get(found.path)
        same = old is not None and (old.kind, old.size, old.mtime_ns, old.inode) == (
            found.kind,
            info.st_size,
            info.st_mtime_ns,
            info.st_ino,
        )
        if same and old is not None:
            sources.append(old)
            continue
        try:
            digest = "" if found.kind == "repository" else file_digest(project_folder / found.path)
        except FileNotFoundError:
            continue  # it vanished since it was listed: the next scan will not see it
        except OSError as error:
            refused.append(Refusal(found.path, f"cannot be read: {error.strerror}"))
            continue
        # What is written again within the clock's tick looks the same: a file this young is read again next time.
        written = info.st_mtime_ns if info.st_mtime_ns < started - SETTLED_NS else 0
        source = Source(found.path, found.kind, info.st_size, written, info.st_ino, digest)
        sources.append(source)
        changed.append(source)
    gone = known.keys() - {source.path for source in sources}
    if changed or gone:
        manifest.replace_scanned(changed, gone)
    return Scan(tuple(sorted(sources, key=lambda source: source.path)), tuple(refused))


def file_digest(path: Path) -> str:
    """blake2b-128 of a file's content; a link is not followed."""
    digest = hashlib.blake2b(digest_size=16)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[_Found | Refusal]:
    if _is_repository(folder):
        yield _Found(".", "repository", folder.stat())
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
            elif entry.name.startswith((".", "~$")) or entry.name.endswith(PARTIAL_ENDINGS) or path in RESERVED:
                continue
            elif entry.is_symlink():
                yield Refusal(path, "is a symbolic link: put the file itself here")
            elif entry.is_dir(follow_symlinks=False):
                if _is_repository(folder / path):
                    yield _Found(path, "repository", entry.stat(follow_symlinks=False))
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
                yield _Found(path, "bundle" if path.endswith(".bundle") else "file", info)
            else:
                yield Refusal(path, "is no regular file")


def _is_repository(folder: Path) -> bool:
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
