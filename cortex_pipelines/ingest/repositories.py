"""The `repositories` product: every file of every repository at its head commit."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.archives import Limits
from cortex_pipelines.ingest.decoding import decode
from cortex_pipelines.ingest.git import (
    SUBMODULE,
    Entry,
    GitRepository,
    Head,
    History,
    NoCommit,
    RepositoryError,
    open_bundle,
    open_repository,
    remove_clones,
    submodule_urls,
)
from cortex_pipelines.ingest.languages import language_of
from cortex_pipelines.ingest.quarantine import told
from cortex_pipelines.ingest.scan import project_sources
from cortex_pipelines.ingest.secrets import find_secrets, masked, secret_rows, version_with
from cortex_pipelines.ingest.trees import open_archive, refused_of
from cortex_pipelines.stairs import Batch, Item, Outcome, Plan, Stair, Verdict, Work, compare, cut

if TYPE_CHECKING:
    from cortex_pipelines.ingest.manifest import Source
    from cortex_pipelines.store import Publishing, Snapshot

    Reader = Snapshot | Publishing

# Raise it when the same blob would become another row.
VERSION = "3"
PRODUCT = "repositories"
# What is read from a bare repository of our own, made once per content.
CLONED = ("bundle", "archive")
# A pointer is a few lines; the specification of Git LFS says less than 1,024 bytes.
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
LFS_BYTES = 1_024

BINARY = "binary"
LFS = "Git LFS pointer"
UNREADABLE = "unreadable"

Row = dict[str, Any]


@dataclass(frozen=True)
class _Tree:
    """A repository that is looked into: its files by source, and whether it is another commit than is stored.

    `targets` says where submodules lead; `refused` are rows of quarantine of what an archive holds and was not taken.
    """

    source: "Source"
    kind: str
    git: GitRepository
    head: Head
    entries: Mapping[str, Entry]
    moved: bool
    targets: Mapping[str, str]
    refused: Mapping[str, Row]
    version: str

    @property
    def keys(self) -> dict[str, str]:
        """The key of each file whose content is to be read."""
        return {name: f"{entry.oid}:{self.version}" for name, entry in self.entries.items() if entry.skipped is None}


@dataclass
class _Survey:
    """What lies in the inbox: `unreadable` holds rows of quarantine, `empty` those of them that hold nothing."""

    sources: "list[Source]"
    trees: list[_Tree] = field(default_factory=list)
    unreadable: dict[str, Row] = field(default_factory=dict)
    empty: set[str] = field(default_factory=set)

    @property
    def unchanged(self) -> int:
        return len(self.sources) - len(self.trees) - len(self.unreadable)


@dataclass
class _Writes:
    """What differs from what is stored. `fresh` are staged files by source, `waiting` repositories not read in full."""

    forgotten: list[str] = field(default_factory=list)
    fresh: dict[str, str] = field(default_factory=dict)
    listed: list[Row] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    repositories: list[tuple[_Tree, History]] = field(default_factory=list)
    quarantined: list[Row] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.forgotten or self.repositories or self.quarantined or self.released)


def _plan(work: Work) -> Plan:
    snapshot = work.store.snapshot()
    survey = _survey(work, snapshot)
    staged = {} if work.force else work.store.staging(PRODUCT).items()
    batches: list[Batch] = []
    already = 0
    for tree in survey.trees:
        items = [Item(name, key, tree.entries[name].size) for name, key in tree.keys.items()]
        changes = compare(items, _stored_keys(work, snapshot, tree), staged)
        already += changes.staged
        batches += cut(changes.todo, _group(tree.source))
    return Plan(
        batches,
        {
            "repositories": len(survey.sources),
            "unchanged": survey.unchanged,
            "unreadable": len(survey.unreadable),
            "files_to_read": sum(len(batch.items) for batch in batches),
            "files_already_read": already,
        },
    )


def _map(work: Work, batch: Batch) -> Mapping[str, int]:
    """Read the blobs of a batch; one that cannot be read is staged as a row of quarantine."""
    repository, kind, digest = batch.group.split("\n")
    unread: dict[str, list[Item]] = defaultdict(list)
    for item in batch.items:
        unread[item.key.partition(":")[0]].append(item)
    files: list[Row] = []
    secrets: list[Row] = []
    faults: list[Row] = []
    try:
        for blob in _open(work, repository, kind, digest).blobs(list(unread)):
            for item in unread.pop(blob.oid):
                if blob.data is None:
                    faults.append(_fault(item, blob.fault))
                else:
                    row = _file(item, repository, blob.data)
                    if found := find_secrets(row["text"] or ""):
                        secrets += secret_rows(row["source"], row["digest"], row["version"], found)
                        if work.settings.mask_secrets:
                            row["text"] = masked(row["text"], found)
                    files.append(row)
    except RepositoryError as error:
        faults += [_fault(item, str(error)) for items in unread.values() for item in items]
    keys = {item.id: item.key for item in batch.items}
    staging = work.store.staging(PRODUCT)
    if faults:
        names = {row["path"]: keys[row["path"]] for row in faults}
        staging.put(f"{batch.name}{_FAULTS}", {"quarantine": faults}, names)
    if files:
        names = {row["source"]: keys[row["source"]] for row in files}
        staging.put(batch.name, {"files": files, "secrets": secrets}, names)
    return {"files": len(files), "unreadable": len(faults)}


def _commit(work: Work, plan: Plan, counts: Sequence[Mapping[str, int]]) -> Outcome:
    snapshot = work.store.snapshot()
    staging = work.store.staging(PRODUCT)
    names = staging.names()
    survey = _survey(work, snapshot)
    writes = _writes(work, snapshot, survey)
    if not writes:
        verdicts = _verdicts(snapshot)
        counted = _counted(snapshot, survey, writes)
    else:
        with work.store.publishing() as publishing:
            # Another run may have published since: what is there now decides.
            writes = _writes(work, publishing, survey)
            _write(publishing, writes, staging.tables(name for name in names if not name.endswith(_FAULTS)))
            verdicts = _verdicts(publishing)
            counted = _counted(publishing, survey, writes)
            if not verdicts["keys_unique"].passed:
                return Outcome(counted, None, verdicts)
            publishing.publish()
    if names and not writes.waiting:
        staging.clear(names)
    remove_clones(_clones(work), [source.digest for source in survey.sources if source.kind in CLONED])
    return Outcome(counted, work.store.snapshot().versions("repositories", "files"), verdicts, changed=bool(writes))


REPOSITORIES = Stair(_plan, _map, _commit)

_FAULTS = "-faults"


def _survey(work: Work, reader: "Reader") -> _Survey:
    """Look at the head of each repository, and into those that moved or of which something could not be read."""
    stored = {row["path"]: row for row in reader.rows("repositories", ["path", "commit", "branch", "version"])}
    faulty = {row["path"]: row for row in reader.rows("quarantine", where={"stage": PRODUCT})}
    kinds = ("repository", "remote", *CLONED)
    survey = _Survey([source for source in project_sources(work).sources if source.kind in kinds])
    version = version_with(VERSION, work.settings.mask_secrets)
    for source in survey.sources:
        if source.kind == "remote" and not source.digest:
            # It was never fetched here, and the scan tells why; what is stored of it stays.
            continue
        known = faulty.get(source.path)
        cloned = source.kind in CLONED and (_clones(work) / f"{source.digest}.git").exists()
        if known and known["digest"] == _clone_digest(source) != "" and not cloned and not work.force:
            # The same content is as broken as it was.
            survey.unreadable[source.path] = known
            continue
        try:
            git = _open(work, source.path, source.kind, _clone_digest(source))
            head = git.head()
            row = {"path": source.path, "commit": head.commit, "branch": head.branch, "version": version}
            moved = work.force or stored.get(source.path) != row
            if moved or any(_is_in(path, source.path) for path in faulty):
                entries = {_source(source.path, entry.path): entry for entry in git.entries(head.commit)}
                submodules = _submodules(git, entries)
                refused = _refused(source, git) if source.kind == "archive" else {}
                kind = _kind(work, source)
                tree = _Tree(source, kind, git, head, entries, moved, submodules, refused, version)
                survey.trees.append(tree)
        except RepositoryError as error:
            if isinstance(error, NoCommit):
                survey.empty.add(source.path)
            survey.unreadable[source.path] = _unreadable(source, error, stored.get(source.path))
    return survey


def _stored_keys(work: Work, reader: "Reader", tree: _Tree) -> dict[str, str]:
    """The key of each stored file; one whose mode is another now is to be read again."""
    if work.force:
        return {}
    columns = ["source", "digest", "version", "mode"]
    rows = reader.rows("files", columns, {"repository": tree.source.path})
    return {
        row["source"]: f"{row['digest']}:{row['version']}"
        for row in rows
        if row["source"] not in tree.entries or tree.entries[row["source"]].mode == row["mode"]
    }


def _writes(work: Work, reader: "Reader", survey: _Survey) -> _Writes:
    writes = _Writes()
    staged = work.store.staging(PRODUCT).items()
    faults = _staged_faults(work)
    for path in {row["path"] for row in reader.rows("repositories", ["path"])}:
        if path in survey.empty or all(path != source.path for source in survey.sources):
            writes.forgotten += [row["source"] for row in reader.rows("files", ["source"], {"repository": path})]
            writes.forgotten.append(path)
    wanted = dict(survey.unreadable)
    for tree in survey.trees:
        wanted |= _compare_tree(work, reader, tree, staged, faults, writes)
    kept = (*writes.waiting, *(survey.unreadable.keys() - survey.empty))
    there = {row["path"]: row for row in reader.rows("quarantine", where={"stage": PRODUCT})}
    writes.quarantined = [row for path, row in wanted.items() if there.get(path) != row]
    writes.released = [
        path for path in there.keys() - wanted.keys() if not any(_is_in(path, repository) for repository in kept)
    ]
    return writes


def _compare_tree(
    work: Work,
    reader: "Reader",
    tree: _Tree,
    staged: Mapping[str, Container[str]],
    faults: Mapping[str, Row],
    writes: _Writes,
) -> dict[str, Row]:
    """Add what one repository has to write; the rows of quarantine of its files."""
    keys, stored = tree.keys, _stored_keys(work, reader, tree)
    unreadable = {name: faults[name] for name, key in keys.items() if name in faults and _key(faults[name]) == key}
    todo = {name: key for name, key in keys.items() if stored.get(name) != key and name not in unreadable}
    if any(key not in staged.get(name, ()) for name, key in todo.items()):
        # Its head moved on while it was read: what is stored stays, and the next run reads the rest.
        writes.waiting.append(tree.source.path)
        return {}
    history = _history(tree)
    columns = ["source", "digest", "version", "mode", "size", "skipped", "changes", "target"]
    rows = {row["source"]: row for row in reader.rows("files", columns, {"repository": tree.source.path})}
    changes = {name: history.changes.get(entry.path, 0) for name, entry in tree.entries.items()}
    gone = [name for name in rows if name not in tree.entries or name in unreadable]
    listed = [
        _row(name, tree.source.path, entry.path, entry.oid, entry.size)
        | {"mode": entry.mode, "changes": changes[name], "skipped": entry.skipped, "target": tree.targets.get(name)}
        for name, entry in tree.entries.items()
        if entry.skipped is not None
    ]
    listed = [row for row in listed if rows.get(row["source"]) != {column: row[column] for column in columns}]
    churned = {
        name: changes[name]
        for name in keys.keys() - todo.keys() - unreadable.keys()
        if rows[name]["changes"] != changes[name]
    }
    if tree.moved or gone or todo or listed or churned:
        writes.repositories.append((tree, history))
    writes.forgotten += gone
    writes.fresh |= todo
    writes.listed += listed
    writes.changes |= churned | {name: changes[name] for name in todo}
    return {**unreadable, **tree.refused}


def _write(publishing: "Publishing", writes: _Writes, staged: Any) -> None:
    publishing.forget(writes.forgotten)
    modes = {name: entry.mode for tree, _ in writes.repositories for name, entry in tree.entries.items()}
    for _, tables in staged if writes.fresh else ():
        rows = [row for row in tables["files"].to_pylist() if writes.fresh.get(row["source"]) == _key(row)]
        publishing.upsert(
            "files",
            [row | {"mode": modes[row["source"]], "changes": writes.changes[row["source"]]} for row in rows],
        )
        names = {row["source"]: _key(row) for row in rows}
        secrets = [row for row in tables["secrets"].to_pylist() if names.get(row["source"]) == _key(row)]
        publishing.replace("secrets", "source", names, secrets)
    publishing.upsert("files", writes.listed)
    for batch in cut([Item(name, "") for name in writes.changes.keys() - writes.fresh.keys()]):
        rows = publishing.rows("files", where={"source": [item.id for item in batch.items]})
        publishing.upsert("files", [row | {"changes": writes.changes[row["source"]]} for row in rows])
    publishing.delete("quarantine", "path", writes.released)
    publishing.upsert("quarantine", writes.quarantined)
    publishing.upsert("repositories", [_repository(publishing, tree, history) for tree, history in writes.repositories])


def _repository(reader: "Reader", tree: _Tree, history: History) -> Row:
    """The row of a repository, counted from its files as they are stored."""
    path = tree.source.path
    languages: dict[str, Counter[str]] = defaultdict(Counter)
    skipped: Counter[str] = Counter()
    rows = reader.rows("files", ["language", "size", "lines", "skipped"], {"repository": path})
    for row in rows:
        if row["skipped"] is not None:
            skipped[row["skipped"]] += 1
        elif row["language"] is not None:
            languages[row["language"]].update(files=1, bytes=row["size"], lines=row["lines"])
    if unreadable := len(tree.entries) - len(rows):
        skipped[UNREADABLE] = unreadable
    return {
        "path": path,
        "kind": tree.kind,
        "commit": tree.head.commit,
        "branch": tree.head.branch,
        "committed_at": history.committed_at,
        "commits": history.commits,
        "files": len(tree.entries),
        "bytes": sum(entry.size for entry in tree.entries.values()),
        "languages": json.dumps(languages, sort_keys=True),
        "skipped": json.dumps(skipped, sort_keys=True),
        "version": tree.version,
    }


def _file(item: Item, repository: str, content: bytes) -> Row:
    """The row of a file by its content, but for what its tree and history say of it."""
    path = item.id if repository == _ROOT else item.id.removeprefix(f"{repository}/")
    oid, _, version = item.key.partition(":")
    row = _row(item.id, repository, path, oid, len(content)) | {"version": version}
    if len(content) < LFS_BYTES and content.startswith(LFS_POINTER):
        return row | {"skipped": LFS, "target": _pointer(content)}
    text = decode(content)
    if text is None:
        return row | {"skipped": BINARY}
    return row | {"text": text, "lines": text.count("\n") + (not text.endswith("\n") if text else 0)}


def _row(source: str, repository: str, path: str, oid: str, size: int) -> Row:
    return {
        "source": source,
        "repository": repository,
        "path": path,
        "digest": oid,
        "version": VERSION,
        "mode": "",
        "size": size,
        "language": language_of(path),
        "lines": 0,
        "text": None,
        "skipped": None,
        "changes": 0,
        "target": None,
    }


def _pointer(content: bytes) -> str | None:
    """What a Git LFS pointer points to: its digest, and its size in bytes."""
    oid = re.search(rb"^oid (sha256:[0-9a-f]{64})$", content, re.MULTILINE)
    size = re.search(rb"^size (\d{1,18})$", content, re.MULTILINE)
    return json.dumps({"oid": oid[1].decode(), "size": int(size[1])}) if oid and size else None


def _submodules(git: GitRepository, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Where each submodule leads by its name, as its repository's `.gitmodules` tells: never followed."""
    modules = {name: entry for name, entry in entries.items() if entry.skipped == SUBMODULE}
    told = [entry.oid for entry in entries.values() if entry.path == ".gitmodules" and not entry.skipped]
    if not modules or not told:
        return {}
    [blob] = git.blobs(told)
    urls = submodule_urls(blob.data or b"")
    return {name: json.dumps({"url": urls[entry.path]}) for name, entry in modules.items() if entry.path in urls}


def _refused(source: "Source", git: GitRepository) -> dict[str, Row]:
    """The rows of quarantine of what was not taken from an archive."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for refused in refused_of(git):
        reasons[f"{source.path}/{refused.path}" if refused.path else source.path].append(refused.reason)
    row = {"stage": PRODUCT, "digest": source.digest, "version": VERSION, "size": 0, "landed": None}
    return {path: {"path": path, **row, "reason": "; ".join(told)} for path, told in reasons.items()}


def _history(tree: _Tree) -> History:
    """The history of a repository; an archive has none but the time of its newest file."""
    history = tree.git.history(tree.head.commit)
    if tree.kind != "archive":
        return history
    untold = history.committed_at.startswith("1970-01-01T00:00:00")
    return History("" if untold else history.committed_at, 0, {})


def _fault(item: Item, reason: str) -> Row:
    return {
        "path": item.id,
        "stage": PRODUCT,
        "digest": item.key.partition(":")[0],
        "version": item.key.partition(":")[2],
        "size": item.size,
        "reason": reason,
        "landed": None,
    }


def _unreadable(source: "Source", error: RepositoryError, stored: Row | None) -> Row:
    kept = "" if stored is None or isinstance(error, NoCommit) else f"; its files at {stored['commit'][:12]} are kept"
    return {
        "path": source.path,
        "stage": PRODUCT,
        "digest": _clone_digest(source),
        "version": VERSION,
        "size": source.size,
        "reason": f"{error}{kept}",
        "landed": None,
    }


def _staged_faults(work: Work) -> dict[str, Row]:
    staging = work.store.staging(PRODUCT)
    batches = staging.tables(name for name in staging.names() if name.endswith(_FAULTS))
    return {row["path"]: row for _, tables in batches for row in tables["quarantine"].to_pylist()}


def _verdicts(reader: "Reader") -> dict[str, Verdict]:
    names = reader.arrow("files", ["source"]).column("source")
    twice = len(names) - len(names.unique())
    bad = reader.rows("quarantine", ["path", "reason"], {"stage": PRODUCT})
    return {
        "keys_unique": Verdict(twice == 0, metadata={"duplicates": twice}),
        "quarantine": Verdict(not bad, warn=True, metadata=told(bad)),
    }


def _counted(reader: "Reader", survey: _Survey, writes: _Writes) -> dict[str, Any]:
    return {
        "repositories": len(survey.sources),
        "unchanged": survey.unchanged,
        "files": reader.count("files"),
        "read": len(writes.fresh),
        "removed": len(writes.forgotten),
        "quarantined": reader.count("quarantine", {"stage": PRODUCT}),
        "moved_while_read": len(writes.waiting),
    }


def _open(work: Work, path: str, kind: str, digest: str) -> GitRepository:
    folder = work.settings.inbox / work.project
    if kind == "bundle":
        return open_bundle(folder / path, digest, _clones(work))
    if kind == "archive":
        return open_archive(folder / path, digest, _clones(work), Limits.of(work.settings))
    if kind == "remote":
        from cortex_pipelines.ingest.remotes import Remotes

        return Remotes(folder, work.settings.state / work.project / "remotes", work.settings.remotes).open(path)
    return open_repository(folder / path, folder)


def _kind(work: Work, source: "Source") -> str:
    if source.kind != "repository":
        return source.kind
    return "work tree" if (work.settings.inbox / work.project / source.path / ".git").exists() else "bare"


def _group(source: "Source") -> str:
    """What *map* needs to open a repository."""
    return f"{source.path}\n{source.kind}\n{_clone_digest(source)}"


def _clones(work: Work) -> Path:
    return work.settings.state / work.project / "clones"


def _clone_digest(source: "Source") -> str:
    """What the clone of a bundle or an archive is named by; empty for a repository that is read where it lies."""
    return source.digest if source.kind in CLONED else ""


_ROOT = "."


def _source(repository: str, path: str) -> str:
    return path if repository == _ROOT else f"{repository}/{path}"


def _is_in(path: str, repository: str) -> bool:
    return repository == _ROOT or path == repository or path.startswith(f"{repository}/")


def _key(row: Row) -> str:
    return f"{row['digest']}:{row['version']}"
