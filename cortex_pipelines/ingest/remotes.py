"""Repositories that a project's `sources.yaml` names: fetched into our own state, or read where they lie."""

import base64
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from cortex_pipelines.ingest.git import (
    CLONE_SECONDS,
    DECEIVING,
    READ_SECONDS,
    REF_SECONDS,
    GitRepository,
    RepositoryError,
    checked_oid,
    git_environment,
    git_output,
    open_repository,
    run_git,
)
from cortex_pipelines.ingest.manifest import Source
from cortex_pipelines.ingest.scan import Refusal, open_plain, repository_head

FILE = "sources.yaml"
FILE_BYTES = 64 * 2**10
MOST_REMOTES = 200
# What one fetch may write to the disk.
FETCH_BYTES = 8 * 2**30
# The steps of one run look one after another: a remote that was asked just now is not asked again.
FRESH_SECONDS = 60.0
ASK_SECONDS = 60
# How git's servers on the web take a token: as the password of any user.
USER = "git"
# What a fetch may know of this process's environment: the way out of this network, and whom to trust.
PASSED = ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH")


_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,199}")
_COMMIT = re.compile(r"(^| )([0-9a-f]{40}|[0-9a-f]{64})$")


def _url(value: str) -> str:
    if DECEIVING.search(value) or any(char.isspace() for char in value):
        raise ValueError("holds a space or a control character")
    parts = urlsplit(value)
    if parts.scheme not in ("https", "git", "file"):
        raise ValueError("should begin with https://, git:// or file://")
    if "@" in parts.netloc:
        raise ValueError("holds a name or a password: put the token in a variable, and name it under `credentials`")
    if parts.query or parts.fragment or not parts.path.strip("/"):
        raise ValueError("should name a repository and nothing else")
    if (parts.scheme == "file") == bool(parts.netloc):
        raise ValueError("should name a host" if parts.scheme != "file" else "should be file:///absolute/path")
    return value


def _branch(value: str) -> str:
    """No branch is the one that the repository has checked out."""
    odd = ".." in value or "//" in value or value.endswith((".lock", ".", "/"))
    if value and (odd or not _BRANCH.fullmatch(value)):
        raise ValueError("should be a branch's name, such as main or release/1.2")
    return value


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Credentials(_Values):
    """Where a token lies: in an environment variable. Never in a file that was dropped."""

    # Only such variables, so that whoever may drop a file cannot have others sent away.
    env: Annotated[str, StringConstraints(pattern=r"^GIT_TOKEN(_[A-Z0-9]+)*$")]
    user: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]{1,100}$")] = USER


class Remote(_Values):
    """One repository of a project's `sources.yaml`."""

    url: Annotated[str, StringConstraints(max_length=1_000), AfterValidator(_url)]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
    branch: Annotated[str, AfterValidator(_branch)] = ""
    depth: Annotated[int, Field(ge=1)] | None = None
    credentials: Credentials | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """The last part of the URL is the name, where none is given."""
        if isinstance(value, dict) and isinstance(value.get("url"), str) and "name" not in value:
            last = value["url"].rstrip("/").rpartition("/")[2].removesuffix(".git")
            return value | {"name": last}
        return value

    @model_validator(mode="after")
    def _secret(self) -> Self:
        if self.credentials and self.parts.scheme != "https":
            raise ValueError("credentials go with https only: elsewhere they could be read on the way")
        return self

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def key(self) -> str:
        """What its state is named by: another URL, branch or depth is another clone."""
        return hashlib.blake2b(f"{self.url}\0{self.branch}\0{self.depth}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Remotes:
    """The remotes of a project: what `sources.yaml` lists, what it may list by the setting, and where state is kept."""

    folder: Path
    state: Path
    allowed: Sequence[str]

    def sources(self, fetch: bool) -> tuple[list[Source], list[Refusal]]:
        """Each remote as a source, its head as its digest (empty: not here); and what is wrong, in one line each.

        With `fetch` they are asked what is new; one that cannot be reached stays as it was fetched last.
        """
        remotes, fault = self._listed()
        self._forget(remotes)
        sources, refused = [], [Refusal(FILE, fault)] if fault else []
        for remote in remotes:
            known = self._known(remote)
            if fetch and time.time() - known.get("at", 0.0) >= FRESH_SECONDS:
                known = self._fetched(remote)
            sources.append(Source(remote.name, "remote", 0, 0, 0, self._head(remote)))
            if known.get("fault"):
                refused.append(Refusal(remote.name, known["fault"]))
        return sources, refused

    def open(self, name: str) -> GitRepository:
        """The repository of a remote, fetched where it is not here, as on another machine."""
        remote = next((remote for remote in self._listed()[0] if remote.name == name), None)
        if remote is None:
            raise RepositoryError(f"{FILE} lists it no longer")
        if remote.parts.scheme == "file":
            return self._in_place(remote)
        if not self._head(remote) and (fault := self._fetched(remote)["fault"]):
            raise RepositoryError(fault)
        return GitRepository(self._clone(remote))

    def _listed(self) -> tuple[list[Remote], str]:
        """What the file lists, or listed when it was last without a fault; and the fault."""
        last = self.state / "listed.json"
        try:
            with open_plain(self.folder / FILE) as file:
                content = file.read(FILE_BYTES + 1)
        except FileNotFoundError:
            last.unlink(missing_ok=True)
            return [], ""
        except OSError as error:
            return self._last(last), f"cannot be read: {error.strerror}"
        remotes, faults = read_sources(content)
        faults += [
            f"entry {number} ({remote.name}): name: the project's folder holds something of this name"
            for number, remote in enumerate(remotes, 1)
            if (self.folder / remote.name).exists()
        ]
        if faults:
            return self._last(last), "; ".join(faults)
        _write(last, [remote.model_dump() for remote in remotes])
        return remotes, ""

    def _last(self, path: Path) -> list[Remote]:
        with suppress(OSError, ValueError):
            return [Remote.model_validate(row) for row in json.loads(path.read_text())]
        return []

    def _forget(self, remotes: Sequence[Remote]) -> None:
        """Remove the clones of what is listed no longer."""
        keys = {remote.key for remote in remotes} | {"listed"}
        for path in self.state.iterdir() if self.state.is_dir() else ():
            if path.name.partition(".")[0] not in keys:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def _known(self, remote: Remote) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            known = json.loads((self.state / f"{remote.key}.json").read_text())
            return known if isinstance(known, dict) else {}
        return {}

    def _fetched(self, remote: Remote) -> dict[str, Any]:
        """Ask a remote what is new, and remember what became of it."""
        fault = ""
        try:
            self._permit(remote)
            if remote.parts.scheme == "file":
                self._in_place(remote)
            else:
                self._fetch(remote)
        except RepositoryError as error:
            kept = "; what was fetched last is kept" if self._head(remote) else ""
            fault = f"{error}{kept}"
        known = {"at": time.time(), "fault": fault}
        _write(self.state / f"{remote.key}.json", known)
        return known

    def _permit(self, remote: Remote) -> None:
        where = remote.parts.netloc or _path(remote)
        if remote.parts.scheme != "file" and where.lower() in map(str.lower, self.allowed):
            return
        if remote.parts.scheme == "file" and self._root(remote):
            return
        raise RepositoryError(f"{where} is not among the places of CORTEX_REMOTES: whoever runs Cortex can add it")

    def _root(self, remote: Remote) -> Path | None:
        real = Path(os.path.realpath(_path(remote)))
        roots = [Path(os.path.realpath(place)) for place in self.allowed if place.startswith("/")]
        return next((root for root in roots if real.is_relative_to(root)), None)

    def _in_place(self, remote: Remote) -> GitRepository:
        root = self._root(remote)
        if root is None:
            self._permit(remote)
        assert root is not None
        repository = open_repository(Path(_path(remote)), root)
        return GitRepository(repository.git_dir, remote.branch)

    def _head(self, remote: Remote) -> str:
        """The branch and the commit that are here; empty when nothing is."""
        if remote.parts.scheme == "file":
            with suppress(RepositoryError):
                head = self._in_place(remote).head()
                return f"{head.branch} {head.commit}"
            return ""
        told = repository_head(self._clone(remote))
        return told if _COMMIT.search(told) else ""

    def _clone(self, remote: Remote) -> Path:
        return self.state.absolute() / f"{remote.key}.git"

    def _fetch(self, remote: Remote) -> None:
        """Fetch the branch of a remote where its head is another one than is here."""
        environment = _environment(remote)
        wanted = f"refs/heads/{remote.branch}" if remote.branch else "HEAD"
        told = git_output(["ls-remote", "--symref", "--end-of-options", remote.url, wanted], environment, ASK_SECONDS)
        lines = [line.split("\t") for line in told.decode("utf-8", "replace").splitlines() if line.count("\t") == 1]
        commit = next((value for value, ref in lines if ref == wanted and not value.startswith("ref:")), "")
        if not commit:
            raise RepositoryError(f"it has no branch {remote.branch}" if remote.branch else "it has no commit yet")
        checked_oid(commit)
        leads = next((value.removeprefix("ref: ") for value, ref in lines if ref == "HEAD" and value[:4] == "ref:"), "")
        branch = remote.branch or leads.removeprefix("refs/heads/")
        if _BRANCH.fullmatch(branch) is None or ".." in branch:
            branch = ""
        clone = self._clone(remote)
        if not (clone / "HEAD").is_file():
            kind = "sha256" if len(commit) == 64 else "sha1"
            arguments = ["init", "--bare", "--quiet", "--template=", f"--object-format={kind}", "--end-of-options"]
            git_output([*arguments, str(clone)], git_environment(), READ_SECONDS)
        target = f"refs/heads/{branch}" if branch else "refs/cortex/head"
        if self._head(remote) not in (f"{target} {commit}", commit):
            depth = [f"--depth={remote.depth}"] if remote.depth else []
            options = [
                "--quiet",
                "--no-tags",
                "--no-recurse-submodules",
                "--no-write-fetch-head",
                "--no-auto-gc",
                *depth,
            ]
            spec = f"+{f'refs/heads/{branch}' if branch else 'HEAD'}:{target}"
            _run(["fetch", *options, "--end-of-options", remote.url, spec], environment | {"GIT_DIR": str(clone)})
            told = git_output(
                ["rev-parse", "--verify", f"{target}^{{commit}}"], git_environment(GIT_DIR=str(clone)), REF_SECONDS
            )
            head = f"ref: {target}\n" if branch else told.decode()
            unfinished = clone / f"HEAD.{os.getpid()}.tmp"
            unfinished.write_text(head)
            unfinished.replace(clone / "HEAD")
            # Fetch after fetch leaves a pack each.
            _run(["gc", "--auto", "--quiet"], environment | {"GIT_DIR": str(clone)})


def read_sources(content: bytes) -> tuple[list[Remote], list[str]]:
    """What a `sources.yaml` lists, and what is wrong with it: the entry, the key, and what to do."""
    import yaml

    if len(content) > FILE_BYTES:
        return [], [f"is larger than {FILE_BYTES // 2**10} KiB"]
    try:
        listed = yaml.safe_load(content)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        return [], [_line(f"{line}{error.problem or error.context}")]
    except (yaml.YAMLError, ValueError, RecursionError):
        return [], ["is no YAML in UTF-8"]
    if listed is None:
        return [], []
    if not isinstance(listed, list) or len(listed) > MOST_REMOTES:
        return [], [f"should be a list of at most {MOST_REMOTES} entries, each with a `url`"]
    remotes, faults = [], []
    for number, entry in enumerate(listed, 1):
        try:
            remotes.append(Remote.model_validate(entry))
        except ValidationError as error:
            name = entry.get("name") if isinstance(entry, dict) else None
            told = f"entry {number} ({name})" if isinstance(name, str) else f"entry {number}"
            faults += [_line(f"{told}: {_explain(fault)}") for fault in error.errors(include_url=False)[:3]]
    twice = [name for name, count in Counter(remote.name for remote in remotes).items() if count > 1]
    return remotes, faults + [f"the name {name} is there twice: name one of them otherwise" for name in twice]


def _explain(fault: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    told = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {told}" if where else told


def _line(text: str) -> str:
    return DECEIVING.sub(" ", text)[:300]


def _path(remote: Remote) -> str:
    return unquote(remote.parts.path)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)


def _environment(remote: Remote) -> dict[str, str]:
    """What a fetch is told. A token is in the environment alone: no list of commands shows it, and no file keeps it."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    return git_environment(GIT_ALLOW_PROTOCOL="https:git", **passed, **_configured(dict(_options(remote))))


def _options(remote: Remote) -> Iterator[tuple[str, str]]:
    yield "core.hooksPath", os.devnull
    yield "gc.autoDetach", "false"
    # A token goes where the file says and nowhere else.
    yield "http.followRedirects", "false"
    yield "http.lowSpeedLimit", "1000"
    yield "http.lowSpeedTime", "60"
    if remote.credentials is not None:
        token = os.environ.get(remote.credentials.env, "")
        if not token or not token.isascii() or not token.isprintable():
            raise RepositoryError(f"the variable {remote.credentials.env} holds no token: set it where Cortex runs")
        pair = base64.b64encode(f"{remote.credentials.user}:{token}".encode()).decode()
        yield f"http.https://{remote.parts.netloc}/.extraHeader", f"Authorization: Basic {pair}"


def _configured(options: Mapping[str, str]) -> dict[str, str]:
    """Options of git as variables."""
    told = {"GIT_CONFIG_COUNT": str(len(options))}
    for number, (name, value) in enumerate(options.items()):
        told |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return told


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    with run_git(arguments, environment, CLONE_SECONDS) as git:
        if sys.platform == "linux":
            import resource

            with suppress(OSError):
                resource.prlimit(git.process.pid, resource.RLIMIT_FSIZE, (FETCH_BYTES, FETCH_BYTES))
        git.output.read()
        if git.process.wait() != 0:
            fault = git.fault
            if "signal 25" in fault:
                fault = f"it is larger than {FETCH_BYTES / 2**30:.0f} GiB: give it a `depth`"
            raise RepositoryError(fault or "git failed and said nothing")
