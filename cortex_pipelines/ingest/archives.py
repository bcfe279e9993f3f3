"""What lies in an archive: its members one at a time, read in a child process, never written to disk."""

import hashlib
import io
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

from cortex_pipelines.confined import Worker, hear, say
from cortex_pipelines.ingest.containers import (
    BLOCK_BYTES,
    ENCRYPTED,
    HEAD_BYTES,
    LINK,
    METHOD,
    Entry,
    Refusal,
    entries,
    is_archive,
)
from cortex_pipelines.ingest.git import DECEIVING, is_git_folder
from cortex_pipelines.ingest.languages import language_of
from cortex_pipelines.ingest.scan import open_plain
from cortex_pipelines.ingest.sevenzip import Encrypted

if TYPE_CHECKING:
    from cortex_pipelines.settings import Settings

__all__ = [
    "HEAD_BYTES",
    "LINK",
    "Limits",
    "Member",
    "Refused",
    "archive_kind",
    "holds_repository",
    "is_archive",
    "members",
]

# What the child may allocate: a member, the archives it lies in, and dictionaries of up to 128 MiB.
MEMORY_BYTES = 448 * 2**20
# The child's time for one member or refusal, and of the processor for all: 4 GiB of xz take two minutes.
SECONDS = 120.0
CPU_SECONDS = 900
# What is looked at to tell what an archive holds.
LOOK_MEMBERS = 5_000
LOOK_BYTES = 64 * 2**20
SHOWN_CHARACTERS = 300

GIT = "is a git folder, which is not looked into: drop the repository itself, or a bundle of it"
Kind = Literal["repository", "documents"]


@dataclass(frozen=True)
class Limits:
    """How much of an archive is read, those inside it counted with it. Sizes in bytes.

    `ratio` is how many times its size an archive may unpack to, `depth` how many archives may lie inside one
    another, the first one counted.
    """

    members: int = 100_000
    bytes: int = 4 * 2**30
    member_bytes: int = 50 * 2**20
    ratio: int = 200
    depth: int = 3
    name_bytes: int = 1_000

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """Those of the settings `CORTEX_ARCHIVE_*`."""
        return cls(
            settings.archive_members,
            settings.archive_bytes,
            settings.archive_member_bytes,
            settings.archive_ratio,
            settings.archive_depth,
            settings.archive_name_bytes,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive. `path` leads nowhere else and is safe to show; in an archive inside, `inner.zip/notes.md`.

    `time` is in seconds since the epoch, 0 where the archive does not tell it.
    """

    path: str
    data: bytes
    time: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """What is not read of an archive, and why, in one line; an empty `path` means the archive, or the rest of it."""

    path: str
    reason: str


def members(
    path: Path, limits: Limits, wanted: Callable[[str], bool] | None = None, nested: bool = True
) -> Iterator[Member | Refused]:
    """The files of an archive in its order, those that are `wanted` if it is given, and what is refused.

    With `nested`, an archive inside is read too; without, it is a file as any other. What breaks the child, or takes it
    too long, ends the archive with a refusal. Raises `OSError` when `path` is no plain file that can be read.
    """
    open_plain(path).close()
    with _reader(limits) as reader:
        try:
            reader.say(_question(path, limits, asks=wanted is not None, nested=nested))
            while told := json.loads(reader.hear()):
                if "asked" in told:
                    reader.say(b"y" if wanted is None or wanted(told["asked"]) else b"")
                elif "reason" in told:
                    yield Refused(**told)
                else:
                    yield Member(data=reader.hear(), **told)
        except TimeoutError:
            yield Refused("", f"took more than {SECONDS:.0f} s over one member: the rest is not read")
        except (OSError, ValueError):
            yield Refused("", "broke its reader, which crashed or ran out of memory or time: the rest is not read")


def archive_kind(path: Path, limits: Limits | None = None) -> Kind:
    """Whether a file is an archive of a source tree, or not: then documents, if it is an archive at all."""
    try:
        with open_plain(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return "documents"
    return "repository" if is_archive(path.name, head) and holds_repository(path, limits or Limits()) else "documents"


def holds_repository(path: Path, limits: Limits) -> bool:
    """Whether an archive is of a source tree, by the names of its first `LOOK_MEMBERS` members.

    It is where there is source code and, in the archive's top folder or one level down, the file of a build or of a
    package (`pyproject.toml`, `package.json`, `Makefile`, ...) or a git folder; or where at least half of several
    files are source code; or where it holds a bare git repository, which is then refused.
    """
    names = first_names(path, limits)
    top = top_folder(names)
    files = [PurePosixPath(name.removeprefix(top)) for name in names]
    code = sum(language_of(str(file)) not in _NO_CODE and not is_build_file(file.name) for file in files)
    built = any(is_build_file(file.name) for file in files if len(file.parts) <= 2)
    git = any(file.parts[:1] == (".git",) for file in files)
    return is_bare(names) or (code > 0 and (built or git or 2 * code >= len(files) > 1))


def first_names(path: Path, limits: Limits) -> list[str]:
    """The names of the first `LOOK_MEMBERS` files of an archive, as it names them: untrusted."""
    with _reader(limits) as reader, suppress(OSError, ValueError):
        reader.say(_question(path, replace(limits, bytes=LOOK_BYTES, members=LOOK_MEMBERS), looks=True))
        found: list[str] = json.loads(reader.hear())
        return [name.removeprefix("./") for name in found]
    return []


def top_folder(names: Iterable[str]) -> str:
    """The one folder that all of an archive lies in, with its slash, where that is the root of a project; or nothing.

    It is `django-5.2/` in a release, which is no part of a path in the project; a package that was packed alone keeps
    its folder, which is the name it is imported by.
    """
    names = list(names)
    folder = _only_folder(names)
    beside = {name.removeprefix(folder).partition("/")[0] for name in names}
    return folder if any(_ROOT_FILE.fullmatch(name) or is_build_file(name) for name in beside) else ""


def is_bare(names: Iterable[str]) -> bool:
    """Whether these are the names of a bare git repository's files, which may lie in one folder."""
    names = list(names)
    folder = _only_folder(names)
    inside = {name.removeprefix(folder) for name in names}
    return {"HEAD", "config"} <= inside and any(name.startswith("objects/") for name in inside)


def is_build_file(name: str) -> bool:
    """Whether a file of this name says how a project is built or what it needs."""
    return _BUILD_FILE.fullmatch(name) is not None


def _only_folder(names: Sequence[str]) -> str:
    """The folder that all lies in, with its slash; empty when there is none."""
    top = {name.partition("/")[0] for name in names}
    return f"{top.pop()}/" if len(top) == 1 and all("/" in name for name in names) else ""


def _reader(limits: Limits) -> Worker:
    return Worker(__name__, SECONDS, max(limits.member_bytes, 2**24), MEMORY_BYTES)


def _question(path: Path, limits: Limits, **more: bool) -> bytes:
    # The child does not work in this process's folder.
    return json.dumps({"path": str(path.absolute()), "limits": asdict(limits), **more}).encode()


_BUILD_FILE = re.compile(
    r"pyproject\.toml|setup\.(py|cfg)|requirements\.txt|package\.json|deno\.json|tsconfig\.json|cargo\.toml|go\.mod"
    r"|pom\.xml|(build|settings)\.gradle(\.kts)?|build\.xml|build\.sbt|cmakelists\.txt|(gnu)?makefile|configure(\.ac)?"
    r"|meson\.build|module\.bazel|workspace|build\.bazel|composer\.json|gemfile|mix\.exs|pubspec\.yaml|package\.swift"
    r"|project\.clj|deps\.edn|stack\.yaml|dune-project|rebar\.config|flake\.nix|dockerfile|docker-compose\.yml|justfile"
    r"|directory\.build\.props|global\.json|.*\.(sln|csproj|fsproj|vcxproj|cabal|gemspec|podspec)",
    re.IGNORECASE,
)
_ROOT_FILE = re.compile(
    r"\.git(ignore|attributes|modules|hub)?|(readme|license|copying|changelog)(\..*)?", re.IGNORECASE
)
# Languages in which documents, data and settings are written too.
_NO_CODE = frozenset(
    {None, "css", "html", "ini", "json", "latex", "markdown", "po", "properties", "requirements", "rst", "toml", "xml"}
    | {"yaml"}
)


# The child.


def serve() -> None:
    """The child: one archive, told part by part."""
    sys.stdout = sys.stderr
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    question = json.loads(hear() or b"{}")
    limits = Limits(**question["limits"])
    with open_plain(Path(question["path"])) as raw, io.BufferedReader(raw) as file:  # type: ignore[type-var]
        if question.get("looks"):
            _tell(_names(file, question["path"], limits))
        else:
            _Walk(limits, question["asks"], question["nested"]).run(file, question["path"])
            _tell(None)


def _tell(told: Any) -> None:
    say(json.dumps(told).encode())


def _names(file: BinaryIO, name: str, limits: Limits) -> list[str]:
    """What the archive itself lists: archives inside are not looked into."""
    spent = 0

    def spend(size: int) -> None:
        nonlocal spent
        spent += size
        if spent > limits.bytes:
            raise Refusal

    found = []
    # What cannot be read is told when it is read.
    with suppress(Exception):
        for entry in entries(file, name, limits.members, limits.ratio, spend):
            if not entry.folder:
                found.append(entry.name.encode("utf-8", "replace").decode()[:SHOWN_CHARACTERS])
    return found


class _Exhausted(Exception):
    """A limit of the whole archive is reached."""


class _Walk:
    """One pass over an archive and those inside it."""

    def __init__(self, limits: Limits, asks: bool, nested: bool) -> None:
        self._limits = limits
        self._asks = asks
        self._nested = nested
        self._count = 0
        self._bytes = 0
        # Names as numbers: a hundred thousand long names are a hundred megabytes.
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._folded: set[int] = set()
        self._told: set[int] = set()

    def run(self, file: BinaryIO, name: str) -> None:
        try:
            self._archive(file, name, "", 1)
        except _Exhausted as limit:
            self._refuse("", str(limit))

    def _archive(self, file: BinaryIO, name: str, path: str, depth: int) -> None:
        try:
            most = self._limits.members
            for entry in entries(file, name, most, self._limits.ratio, self._spend):
                self._count += 1
                if self._count > most:
                    raise _Exhausted(f"has more than {most:,} members, archives inside counted: the rest is not read")
                self._entry(entry, path, depth)
        except _Exhausted:
            raise
        except Exception as error:
            self._refuse(path, _reason(error, "the rest is not read"))

    def _spend(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._limits.bytes:
            raise _Exhausted(f"unpacks to more than {_shown_size(self._limits.bytes)}: the rest is not read")

    def _entry(self, entry: Entry, above: str, depth: int) -> None:
        name = entry.name.removeprefix("./")
        path = f"{above}/{name}" if above else name
        if git := _git_folder(path):
            if hash(git) not in self._told:
                self._told.add(hash(git))
                self._refuse(git, GIT)
        elif entry.folder or not name:
            pass
        elif reason := self._objection(entry, name, path):
            self._refuse(path, reason)
        else:
            try:
                self._content(entry, path, depth)
            except (_Exhausted, Refusal):
                raise
            except Exception as error:
                self._refuse(path, _reason(error))

    def _content(self, entry: Entry, path: str, depth: int) -> None:
        stream = entry.open()
        head = _read(stream, HEAD_BYTES)
        inside = self._nested and is_archive(path, head)
        if inside and depth == self._limits.depth:
            self._refuse(path, f"lies deeper than {self._limits.depth} archives inside one another")
            return
        if not inside and self._asks:
            _tell({"asked": path})
            if not hear():
                return
        most = self._limits.member_bytes
        data = head + _read(stream, most + 1 - len(head))
        if len(data) > most:
            self._refuse(path, self._too_large())
        elif inside:
            del stream
            self._archive(io.BytesIO(data), path, path, depth + 1)
        else:
            _tell({"path": path, "time": entry.time})
            say(data)
            self._remember(path)

    def _objection(self, entry: Entry, name: str, path: str) -> str:
        if reason := _objection(name):
            return reason
        if len(path.encode()) > self._limits.name_bytes:
            return f"its name is longer than {self._limits.name_bytes} bytes"
        if entry.fault:
            return entry.fault
        if hash(path) in self._files:
            return "is there twice: the first one is read"
        parents = [path[:place] for place, char in enumerate(path) if char == "/"]
        if hash(path) in self._folders or any(hash(parent) in self._files for parent in parents):
            return "is a file and a folder at once: the first one is read"
        return self._too_large() if entry.size > self._limits.member_bytes else ""

    def _too_large(self) -> str:
        return f"is larger than {_shown_size(self._limits.member_bytes)}"

    def _remember(self, path: str) -> None:
        self._files.add(hash(path))
        self._folders.update(hash(path[:place]) for place, char in enumerate(path) if char == "/")
        folded = hash(unicodedata.normalize("NFC", path).casefold())
        if folded in self._folded:
            self._refuse(path, "differs from another name only in case: both are read")
        self._folded.add(folded)

    def _refuse(self, path: str, reason: str) -> None:
        _tell({"path": _shown(path), "reason": reason})


def _read(stream: BinaryIO, size: int) -> bytes:
    blocks = []
    while size and (block := stream.read(min(size, BLOCK_BYTES))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _objection(name: str) -> str:
    """Why a name is not taken; every part of one that is taken is a plain name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    if "\\" in name:
        return "its name has a backslash"
    if name.startswith("/"):
        return "its name is absolute"
    if re.match(r"[A-Za-z]:", name):
        return "its name begins with a drive"
    if DECEIVING.search(name):
        return "its name has control characters, or marks that turn the direction of text"
    parts = name.split("/")
    if ".." in parts:
        return "its name leads out of the archive"
    return "its name has an empty part" if "" in parts or "." in parts else ""


def _git_folder(path: str) -> str:
    """The path up to a part that some file system takes for `.git`, whatever lies in it; empty when there is none."""
    parts = path.split("/")
    for place, part in enumerate(parts):
        if is_git_folder(part):
            return "/".join(parts[: place + 1])
    return ""


def _reason(error: Exception, more: str = "") -> str:
    if isinstance(error, Refusal):
        return str(error)
    reason = "is damaged"
    if isinstance(error, MemoryError):
        reason = f"asks for more than {_shown_size(MEMORY_BYTES)} of memory"
    elif isinstance(error, NotImplementedError):
        reason = METHOD
    elif isinstance(error, Encrypted):
        return ENCRYPTED
    return f"{reason}: {more}" if more else reason


def _shown(path: str) -> str:
    """A path that can be shown: what deceives is escaped, what is long is cut and told apart by its digest."""
    text = DECEIVING.sub(lambda found: f"\\x{ord(found[0]):02x}", path)
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > SHOWN_CHARACTERS:
        digest = hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        text = f"{text[:SHOWN_CHARACTERS]}…{digest}"
    return text


def _shown_size(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size:,} bytes"
