"""Git repositories read by plumbing alone: nothing in one is run, followed out of its project, or believed."""

import hashlib
import os
import re
import shutil
import signal
import string
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

from cortex_pipelines.errors import CortexError

# A blob above this is no source text that a person wrote; it is listed, counted and not read.
BLOB_BYTES = 2 * 2**20
# The names of about 600,000 files. A tree that lists itself over and over, a "git bomb", ends here.
LISTING_BYTES = 64 * 2**20
# Churn is counted over this many commits, newest first: about a year of a busy project, and cheap.
CHURN_COMMITS = 1_000
NAME_BYTES = 1_024
# Plumbing that reads refs answers in milliseconds, a history of a million commits in half a minute,
# a bundle of gigabytes in many minutes. What takes longer hangs, or was made to.
REF_SECONDS = 20
READ_SECONDS = 300
CLONE_SECONDS = 3_600
# What git may allocate. Delta chains can make it unpack far more than the blob that was asked for.
MEMORY_BYTES = 2 * 2**30

# What git opens in a git folder to read refs and objects; hooks, logs and the index are never touched.
_READ = ("HEAD", "config", "config.worktree", "objects", "packed-refs", "refs", "reftable", "shallow")
_POINTER_BYTES = 64 * 2**10
_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_HASHES = {40: "sha1", 64: "sha256"}
_BUNDLE = re.compile(rb"# v[23] git bundle\n")
_USUAL_BRANCHES = ("refs/heads/main", "refs/heads/master", "refs/heads/trunk")
# Control characters, line separators, marks that turn the direction of what is shown, and the backslash.
DECEIVING = re.compile(r"[\0-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\\]")
_GIT_FOLDER = re.compile(r"\.git[ .]*(:.*)?|git~\d+", re.IGNORECASE)
# What some file systems do not see in a name.
_IGNORED = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")

_SHOWN = frozenset(f"{string.ascii_letters}{string.digits}/_- ".encode())

SYMLINK = "symbolic link"
SUBMODULE = "submodule"
TOO_LARGE = "too large"
UNSAFE_NAME = "unsafe name"
DUPLICATE_NAME = "duplicate name"


class GitMissing(CortexError):
    """There is no git to read repositories with."""


class RepositoryError(CortexError):
    """A repository that is not read, and why."""


class NoCommit(RepositoryError):
    """A repository that holds nothing."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a repository has checked out: the object id of a commit, and its branch, empty when detached."""

    commit: str
    branch: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit's tree: `size` in bytes, `skipped` the reason why it must not be read, if there is one.

    `path` is safe to show and to join. A name that is not is escaped with backslashes, which a safe one never holds.
    """

    path: str
    mode: str
    oid: str
    size: int
    skipped: str | None = None


@dataclass(frozen=True, slots=True)
class Blob:
    """What an object id stands for, or the fault that kept it from being read."""

    oid: str
    data: bytes | None
    fault: str = ""


@dataclass(frozen=True)
class History:
    """What led to a commit: its time (ISO 8601), how many commits, and how often each path changed of late."""

    committed_at: str
    commits: int
    changes: Mapping[str, int]


class GitRepository:
    """A repository by its git folder. Open one that was dropped with `open_repository`, which looks where it leads.

    Its refs are read in place by rev-parse and for-each-ref, which run nothing. Its objects are read through an
    empty repository of our own that borrows them, so its configuration, hooks, attributes, grafts, replaced
    objects and remotes are not there at all. Git asks who owns a repository only when it looks for one; the folder is
    named here, so what another user dropped is read too: nothing of theirs is run.
    """

    def __init__(self, git_dir: Path, branch: str = "") -> None:
        self.git_dir = git_dir.absolute()
        self._branch = branch
        self._common = _common_dir(self.git_dir)

    def head(self) -> Head:
        """The commit that is checked out, or that of the usual branch where HEAD names none.

        It is that of the branch which was asked for, if one was. Raises `RepositoryError` when there is no commit,
        `GitMissing` when there is no git.
        """
        if self._branch:
            return Head(
                checked_oid(self._refs("rev-parse", "--verify", f"refs/heads/{self._branch}").strip()), self._branch
            )
        with suppress(RepositoryError):
            commit, branch = self._refs("rev-parse", "HEAD", "--symbolic-full-name", "HEAD").split()
            return Head(checked_oid(commit), "" if branch == "HEAD" else _short(branch))
        listed = self._refs("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags")
        refs = {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}
        if not refs:
            raise NoCommit("it has no commit yet")
        name = next((name for name in _USUAL_BRANCHES if name in refs), next(iter(refs)))
        return Head(checked_oid(refs[name]), _short(name))

    def entries(self, commit: str) -> list[Entry]:
        """Every file of a commit's tree, in git's order, no path twice."""
        listing = self._read(commit, "ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", commit)
        found: list[Entry] = []
        names: set[str] = set()
        for record in listing.split(b"\0")[:-1]:
            entry = _entry(record)
            while entry.path in names:
                entry = Entry(entry.path + "\\", entry.mode, entry.oid, entry.size, DUPLICATE_NAME)
            names.add(entry.path)
            found.append(entry)
        return found

    def blobs(self, oids: Iterable[str]) -> Iterator[Blob]:
        """The content of blobs, one at a time in the order asked for, each verified against its id."""
        rest = list(oids)
        deadline = time.monotonic() + READ_SECONDS
        while rest:
            done = 0
            asked = "".join(f"{checked_oid(oid)}\n" for oid in rest).encode()
            with self._borrowed(rest[0]) as environment:
                seconds = deadline - time.monotonic()
                with run_git(["cat-file", "--batch", "--buffer"], environment, seconds, asked) as git:
                    for oid in rest:
                        blob = _blob(git.output, oid)
                        if blob is None:
                            break
                        yield blob
                        done += 1
                    else:
                        return
                    git.process.wait()
                    fault = git.fault
            if git.expired:
                raise RepositoryError(fault)
            # Git ends at an object it cannot unpack: that one is at fault, and the ones behind it are asked for again.
            yield Blob(rest[done], None, fault or "git ended early")
            rest = rest[done + 1 :]

    def history(self, commit: str) -> History:
        """When, after how many commits, and the churn: in how many of the last `CHURN_COMMITS` each path changed.

        Merges are not counted twice, and history that is not there (a shallow or partial clone) is not counted.
        """
        told = self._read(commit, "rev-list", "--max-count=1", "--format=%cI", "--end-of-options", commit)
        count = self._read(commit, "rev-list", "--count", "--end-of-options", commit)
        latest = self._read(
            commit, "rev-list", f"--max-count={CHURN_COMMITS}", "--no-merges", "--end-of-options", commit
        )
        changed = self._read(
            commit,
            *("diff-tree", "--stdin", "-r", "-z", "--root", "--no-renames", "--no-commit-id", "--name-only"),
            given=latest,
            partial=True,
        )
        names = Counter(changed.split(b"\0")[:-1])
        return History(
            told.decode("ascii", "replace").splitlines()[1],
            int(count),
            {name.decode("utf-8", "surrogateescape"): times for name, times in names.items()},
        )

    def _refs(self, *arguments: str) -> str:
        # Hooks and the file system monitor are off, should some git think of them here.
        guarded = ["-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false"]
        where = f"--git-dir={os.fsdecode(self.git_dir)}"
        return git_output([*guarded, where, *arguments], git_environment(), REF_SECONDS).decode("utf-8", "replace")

    def _read(self, commit: str, *arguments: str, given: bytes = b"", partial: bool = False) -> bytes:
        with self._borrowed(checked_oid(commit)) as environment:
            return git_output(arguments, environment, READ_SECONDS, given, partial)

    @contextmanager
    def _borrowed(self, oid: str) -> Iterator[dict[str, str]]:
        """The environment of an empty repository of our own whose objects are this one's."""
        with tempfile.TemporaryDirectory(prefix="cortex-git-") as ours:
            folder = Path(ours)
            (folder / "refs").mkdir()
            (folder / "HEAD").write_text("ref: refs/heads/none\n")
            # A commit graph is a copy of what the commits say, which nothing verifies.
            (folder / "config").write_text(
                "[core]\nrepositoryformatversion = 1\nbare = true\ncommitGraph = false\n"
                f"[extensions]\nobjectFormat = {_HASHES[len(oid)]}\n"
            )
            yield git_environment(
                GIT_DIR=ours,
                GIT_OBJECT_DIRECTORY=os.fsdecode(self._common / "objects"),
                GIT_SHALLOW_FILE=os.fsdecode(self._common / "shallow"),
            )


def open_repository(folder: Path, within: Path) -> GitRepository:
    """The repository of a folder: a work tree's (also a linked one's) or a bare one.

    Raises `RepositoryError` when any of it leads out of `within`, the project's folder, or is no plain file or folder.
    """
    root = Path(os.path.realpath(within))
    try:
        git_dir = _git_dir(folder, root)
        _refuse_ways_out(git_dir, root)
        return GitRepository(git_dir)
    except OSError as error:
        raise RepositoryError(f"it cannot be read: {error.strerror or error}") from None


def open_bundle(bundle: Path, digest: str, clones: Path) -> GitRepository:
    """The repository in a bundle, cloned bare under `clones` once per content.

    `digest` is the BLAKE2b-128 of the content that is wanted; `RepositoryError` when the file holds something else.
    """
    clones = clones.absolute()
    clone = clones / f"{digest}.git"
    if clone.is_dir():
        return GitRepository(clone)
    make_room(clones, bundle)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=clones) as fresh:
        # Git takes a file that says `gitdir: <somewhere>` for that repository: it is given a copy that is surely
        # a bundle, and that nobody changes meanwhile.
        copy = Path(fresh) / "copy"
        try:
            shutil.copyfile(bundle, copy)
        except OSError as error:
            raise RepositoryError(f"it cannot be read: {error.strerror or error}") from None
        with copy.open("rb") as opened:
            if not _BUNDLE.match(opened.read(32)):
                raise RepositoryError("it is not a git bundle")
            opened.seek(0)
            if hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest() != digest:
                raise RepositoryError("it changed while it was read")
        arguments = [
            "clone",
            "--bare",
            "--quiet",
            "--template=",
            "--end-of-options",
            str(copy),
            f"{fresh}/clone",
        ]
        git_output(arguments, git_environment(GIT_ALLOW_PROTOCOL="file"), CLONE_SECONDS)
        with suppress(OSError):  # Another run cloned the same content first.
            (Path(fresh) / "clone").rename(clone)
    return GitRepository(clone)


def remove_clones(clones: Path, keep: Iterable[str]) -> int:
    """Remove the clones of bundles whose digest is not in `keep`, and what a killed run left; how many."""
    names = {f"{digest}.git" for digest in keep}
    removed = 0
    for path in clones.iterdir() if clones.is_dir() else ():
        at_work = path.name.startswith(UNFINISHED) and time.time() - path.stat().st_mtime < CLONE_SECONDS
        if path.name not in names and not at_work:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def submodule_urls(modules: bytes) -> dict[str, str]:
    """The URL of each submodule by its path, from the text of a `.gitmodules`; passwords are left out.

    The file is read as text: git would obey its includes.
    """
    found: dict[str, str] = {}
    for section in re.split(r"^[ \t]*\[", modules.decode("utf-8", "replace"), flags=re.MULTILINE)[1:]:
        values = dict(re.findall(r"^[ \t]*(path|url)[ \t]*=[ \t]*(\S.*?)[ \t\r]*$", section, re.MULTILINE))
        url, path = (re.sub(r'^"(.*)"$', r"\1", values.get(key, "")) for key in ("url", "path"))
        if section.startswith("submodule ") and url and path and not DECEIVING.search(url + path):
            found[path] = re.sub(r"(?<=://)[^/]*@", "", url)[:NAME_BYTES]
    return found


def is_git_folder(name: str) -> bool:
    """Whether some file system takes a name for `.git`."""
    return _GIT_FOLDER.fullmatch(_IGNORED.sub("", name)) is not None


UNFINISHED = ".unfinished-"


@dataclass
class GitRun:
    """One run of git: its output to be read, and why it ended."""

    process: Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]
    seconds: float
    expired: bool = False

    @property
    def fault(self) -> str:
        """What git said was wrong, in one printable line; empty when it said nothing."""
        if self.expired:
            return f"git took more than {self.seconds:.0f} s"
        self.errors.seek(0)
        lines = self.errors.read(_POINTER_BYTES).decode("utf-8", "replace").splitlines()
        told = next((line for line in lines if line.startswith("fatal: ")), lines[0] if lines else "")
        told = "".join(char if char.isprintable() else " " for char in told.removeprefix("fatal: "))[:300]
        code = self.process.poll()
        if not told and code is not None and code < 0:
            told = f"ended by {signal.Signals(-code).name}"
        return f"git says: {told}" if told else ""

    def expire(self) -> None:
        """End git because its time is over."""
        self.expired = True
        self.kill()

    def kill(self) -> None:
        """End git and what it started."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@contextmanager
def run_git(
    arguments: Sequence[str], environment: Mapping[str, str], seconds: float, given: bytes | None = b""
) -> Iterator[GitRun]:
    """Run git for at most `seconds` with `given` as its input, or with a pipe to it where that is None."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as errors:
        stdin.write(given or b"")
        stdin.seek(0)
        try:
            process = Popen(
                ["git", *arguments],
                stdin=PIPE if given is None else stdin,
                stdout=PIPE,
                stderr=errors,
                env=dict(environment),
                cwd="/",
                process_group=0,
            )
        except FileNotFoundError:
            raise GitMissing("git is not installed or not on PATH: install it to read repositories") from None
        _limit_memory(process.pid)
        assert process.stdout is not None
        run = GitRun(process, process.stdout, errors, seconds)
        timer = threading.Timer(max(0.0, seconds), run.expire)
        timer.daemon = True
        timer.start()
        try:
            yield run
        finally:
            timer.cancel()
            run.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()


def git_output(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    seconds: float,
    given: bytes = b"",
    partial: bool = False,
) -> bytes:
    """All that git prints, at most `LISTING_BYTES`; `partial` takes what there is when it prints more, or fails."""
    with run_git(arguments, environment, seconds, given) as git:
        output = git.output.read(LISTING_BYTES + 1)
        if len(output) > LISTING_BYTES:
            if partial:
                return output[:LISTING_BYTES]
            raise RepositoryError(f"its files have more than {LISTING_BYTES // 2**20} MiB of names")
        if git.process.wait() != 0 and not partial:
            raise RepositoryError(git.fault or "git failed and said nothing")
        return output


def git_environment(**more: str) -> dict[str, str]:
    """What git is told: nothing of the user's or the system's, no prompts, no locks, no network, no other objects."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        # No protocol has this name. `file` would do harm: fetching what a partial clone lacks from a path runs
        # the command that the repository names, and git before 2.44 does not know GIT_NO_LAZY_FETCH.
        "GIT_ALLOW_PROTOCOL": "none",
        **more,
    }


def _limit_memory(pid: int) -> None:
    if sys.platform == "linux":
        import resource

        with suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


def checked_oid(oid: str) -> str:
    if not _OID.fullmatch(oid):
        raise RepositoryError(f"{oid[:80]!r} is not an object id")
    return oid


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def _entry(record: bytes) -> Entry:
    """An entry of `ls-tree -l -z`: `<mode> <type> <oid> <size>\\t<path>`."""
    meta, _, name = record.partition(b"\t")
    mode, kind, oid, size = meta.decode("ascii").split()
    path, safe = _safe_path(name)
    length = int(size) if size.isdecimal() else 0
    skipped = None
    if not safe:
        skipped = UNSAFE_NAME
    elif mode == "120000":
        skipped = SYMLINK
    elif kind != "blob":
        skipped = SUBMODULE
    elif length > BLOB_BYTES:
        skipped = TOO_LARGE
    return Entry(path, mode, oid, length, skipped)


def _safe_path(name: bytes) -> tuple[str, bool]:
    """A path as it is shown, and whether that is the path itself, which cannot lead anywhere or deceive anyone."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    parts = text.split("/")
    if (
        len(name) <= NAME_BYTES
        and not DECEIVING.search(text)
        and not any(part in ("", ".", "..") or is_git_folder(part) for part in parts)
    ):
        return text, True
    shown = "".join(chr(byte) if byte in _SHOWN else f"\\x{byte:02x}" for byte in name)
    if len(shown) > NAME_BYTES:
        shown = f"{shown[:NAME_BYTES]}\\{hashlib.blake2b(name, digest_size=16).hexdigest()}"
    return shown if "\\" in shown else f"{shown}\\", False


def _blob(output: IO[bytes], oid: str) -> Blob | None:
    """The next answer of `cat-file --batch`; None when git ended within it."""
    header = output.readline(256).split()
    if len(header) == 2 and header[1] == b"missing":
        return Blob(oid, None, "its object is missing or damaged")
    if len(header) != 3:
        return None
    kind, size = header[1].decode("ascii", "replace"), int(header[2])
    if size > BLOB_BYTES:
        return Blob(oid, None, "its object is larger than listed") if _skip(output, size + 1) else None
    data = output.read(size + 1)
    if len(data) != size + 1:
        return None
    if kind != "blob":
        return Blob(oid, None, f"its object is a {kind}")
    data = data[:-1]
    real = hashlib.new(_HASHES[len(oid)], b"blob %d\0" % size, usedforsecurity=False)
    real.update(data)
    if real.hexdigest() != oid:
        return Blob(oid, None, "its object is corrupt: the content does not match its id")
    return Blob(oid, data)


def _skip(output: IO[bytes], size: int) -> bool:
    while size:
        passed = len(output.read(min(size, BLOB_BYTES)))
        if not passed:
            return False
        size -= passed
    return True


def make_room(clones: Path, bundle: Path) -> None:
    """The folder for clones; a full or read-only disk is no fault of the bundle or archive."""
    try:
        clones.mkdir(parents=True, exist_ok=True)
        needed = 3 * bundle.stat().st_size if bundle.exists() else 0
        free = shutil.disk_usage(clones).free
    except OSError as error:
        raise CortexError(
            f"{clones} cannot be written: {error.strerror}: set CORTEX_STATE to a folder that can"
        ) from None
    if free < needed:
        raise CortexError(f"{clones} has {free:,} bytes free, {bundle.name} needs {needed:,}: make room")


def _git_dir(folder: Path, root: Path) -> Path:
    inside = _inside(folder, root, "it")
    marker = inside / ".git"
    if marker.is_symlink() or marker.is_dir():
        return _inside(marker, root, "its .git")
    if marker.is_file():
        pointer = _pointer(marker)
        if not pointer.startswith("gitdir: "):
            raise RepositoryError("its .git file names no folder")
        return _inside(inside / pointer.removeprefix("gitdir: "), root, "its .git file")
    if (inside / "HEAD").exists() and (inside / "objects").is_dir():
        return inside
    raise RepositoryError("it is not a git repository")


def _refuse_ways_out(git_dir: Path, root: Path) -> None:
    """Follow everything in a git folder that leads elsewhere; refuse what leaves `root` or could hang a reader."""
    common = _inside(_common_dir(git_dir), root, "its commondir")
    stores = [common / "objects"]
    for store in stores:
        stores += [borrowed for borrowed in _alternates(store, root) if borrowed not in stores]
    todo, seen = [folder / name for folder in (git_dir, common) for name in _READ] + stores, set()
    while todo:
        path = todo.pop()
        if path.is_symlink():
            path = _inside(path, root, f"{path.name} in its git folder")
        if path in seen or not path.exists():
            continue
        seen.add(path)
        if path.is_dir():
            with os.scandir(path) as found:
                # A plain file is nothing to look at again: there may be thousands.
                todo += [path / item.name for item in found if item.is_symlink() or not item.is_file()]
        elif not path.is_file():
            raise RepositoryError(f"{path.name} in its git folder is no plain file")


def _alternates(store: Path, root: Path) -> Iterator[Path]:
    """The folders that a folder of objects borrows from, as git reads them: links resolved, then `..` by name."""
    listed = store / "info" / "alternates"
    for line in _pointer(listed).split("\n") if listed.is_file() else ():
        if line.startswith('"'):
            raise RepositoryError("its objects/info/alternates holds a quoted path")
        if line and not line.startswith("#"):
            named = Path(os.path.realpath(store)) / line
            _inside(named, root, "its objects/info/alternates")
            yield _inside(Path(os.path.normpath(named)), root, "its objects/info/alternates")


def _inside(path: Path, root: Path, what: str) -> Path:
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise RepositoryError(f"{what} leads out of the project's folder")
    return real


def _common_dir(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    return git_dir / _pointer(pointer) if pointer.is_file() else git_dir


def _pointer(path: Path) -> str:
    """What a small file that names a path holds, without the line's end, as git reads it."""
    with path.open("rb") as opened:
        content = opened.read(_POINTER_BYTES + 1)
    if len(content) > _POINTER_BYTES or b"\0" in content:
        raise RepositoryError(f"{path.name} in its git folder names no path")
    return os.fsdecode(content).rstrip("\r\n")
