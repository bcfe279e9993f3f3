"""Which place holds which text: what is published when files of the inbox came, changed, moved or went."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines.ingest.contents import PART, landed_row, suffix_of
from cortex_pipelines.ingest.near import grouped

if TYPE_CHECKING:
    import pyarrow as pa

    from cortex_pipelines.store import Publishing, Snapshot
    from cortex_pipelines.store.staging import Staging

    Reader = Snapshot | Publishing

Row = dict[str, Any]

# For more values than these a condition costs more than to read a column.
ASKED = 1_000


@dataclass
class Landing:
    """What a commit has to do with the files of the inbox.

    `gone` are those whose stored content is not there any more, `fresh` those that were read, with their keys, and
    `same` those that have the content of another one, which is in `fresh` or was stored.
    """

    gone: set[str] = field(default_factory=set)
    fresh: dict[str, str] = field(default_factory=dict)
    same: dict[str, tuple[str, bool]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


def landing_of(reader: "Reader", current: Mapping[str, str], staging: "Staging", force: bool) -> Landing:
    """Compare the files that are there, by their keys, with what is stored and what is staged."""
    stored, staged = reader.keys("landed"), staging.items()
    found = Landing(keys=dict(current))
    found.fresh = {
        path: key for path, key in current.items() if key in staged.get(path, ()) and (force or stored.get(path) != key)
    }
    new = {key for path, key in current.items() if stored.get(path) != key}
    held = {content_key(path, key): (path, True) for path, key in stored.items() if key in new}
    held |= {content_key(path, key): (path, False) for path, key in found.fresh.items()}
    for path, key in current.items():
        if path not in found.fresh and stored.get(path) != key and (other := held.get(content_key(path, key))):
            found.same[path] = other
    found.gone = {path for path in stored if path not in current or path in found.fresh or path in found.same}
    return found


def content_key(path: str, key: str) -> str:
    """Equal for files that become the same rows: their names have a say in it by their ending."""
    return f"{key} {suffix_of(path)}"


def write_landing(
    writer: "Publishing", landing: Landing, staging: "Staging", names: Sequence[str], force: bool
) -> None:
    """Bring the tables to what the inbox holds: a text that is held somewhere else now keeps its rows."""
    staged = _staged(staging, names, landing.fresh)
    lost, arrived = _exchanged(writer, landing, staged, "holders")
    settled = _settle(writer, lost, arrived, staged["holders"], landing, force)
    writer.forget(settled.forgotten)
    writer.rename(settled.renamed)
    _retitle(writer, settled.renamed)
    _delete(writer, "holders", "landed", landing.gone)
    _upsert(writer, "holders", settled.holders)
    _write_documents(writer, staging, names, landing.fresh, settled.chosen)
    _, refused = _exchanged(writer, landing, staged, "quarantine")
    _delete(writer, "quarantine", "landed", landing.gone)
    _upsert(writer, "quarantine", refused)
    _delete(writer, "landed", "path", landing.gone)
    _upsert(writer, "landed", [*staged["landed"], *(landed_row(path, landing.keys[path], 0) for path in landing.same)])


def _staged(staging: "Staging", names: Iterable[str], fresh: Mapping[str, str]) -> dict[str, list[Row]]:
    """The small rows of what was read and is still so."""
    found: dict[str, list[Row]] = {table: [] for table in ("holders", "quarantine", "landed")}
    for items, tables in staging.tables(names, found):
        done = _done(items, fresh)
        for table, rows in tables.items():
            by = "path" if table == "landed" else "landed"
            found[table] += [row for row in rows.to_pylist() if row[by] in done]
    return found


def _done(items: Mapping[str, str], fresh: Mapping[str, str]) -> set[str]:
    """The files of a staged part that were read whole, and as they are."""
    return {
        path for path, key in ((item.partition(PART)[0], key) for item, key in items.items()) if fresh.get(path) == key
    }


def _exchanged(
    reader: "Reader", landing: Landing, staged: Mapping[str, list[Row]], table: str
) -> tuple[list[Row], list[Row]]:
    """The rows of a table that go, and those that come, by the files of the inbox that they belong to."""
    sources = {other for other, stored in landing.same.values() if stored}
    stored = _by(reader, table, "landed", landing.gone | sources)
    lost = [row for row in stored if row["landed"] in landing.gone]
    arrived = list(staged[table])
    by_file: dict[tuple[str, bool], list[Row]] = {}
    for was_stored, rows in ((True, stored), (False, staged[table])):
        for row in rows:
            by_file.setdefault((row["landed"], was_stored), []).append(row)
    for path, other in landing.same.items():
        for row in by_file.get(other, ()):
            arrived.append(row | {"path": path + row["path"].removeprefix(other[0]), "landed": path})
    return lost, arrived


@dataclass
class _Settled:
    """Which place holds which text. `chosen` gives, of a staged document and its digest, the path that it gets."""

    holders: list[Row] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    chosen: dict[tuple[str, str], str] = field(default_factory=dict)


def _settle(
    reader: "Reader", lost: Sequence[Row], arrived: Sequence[Row], staged: Sequence[Row], landing: Landing, force: bool
) -> _Settled:
    """Decide for every text that moved: a text stays where it is as long as it is held there."""
    touched = {_identity(row) for row in (*lost, *arrived)}
    digests = {row["digest"] for row in (*lost, *arrived)}
    staying = [row for row in _by(reader, "holders", "digest", digests) if row["landed"] not in landing.gone]
    held: dict[str, dict[str, Row]] = {identity: {} for identity in touched}
    for row in (*staying, *arrived):
        if _identity(row) in touched:
            held[_identity(row)][row["path"]] = row
    stored = _by(reader, "documents", "digest", digests, ["path", "digest", "version"])
    known = {_identity(row): row for row in stored}
    read = {_identity(row): row for row in reversed(staged)}
    found = _Settled()
    for identity, holders in held.items():
        there, new = known.get(identity), read.get(identity)
        if not holders:
            found.forgotten += [there["path"]] if there else []
            continue
        path = there["path"] if there and there["path"] in holders else min(holders)
        found.holders += [row | {"document": path} for row in holders.values()]
        if there and there["path"] != path:
            found.renamed[there["path"]] = path
        if new and (force or there is None or there["version"] != landing.fresh[new["landed"]].partition(":")[2]):
            found.chosen[new["path"], new["digest"]] = path
    return found


def _identity(row: Row) -> str:
    """Equal for the same text: a name's ending decides how its content is read."""
    return f"{row['digest']} {suffix_of(row['path'])}"


def _retitle(writer: "Publishing", renamed: Mapping[str, str]) -> None:
    """Give documents that were called by their file's name its new one."""
    old = {new: Path(old).stem for old, new in renamed.items()}
    rows = _by(writer, "documents", "path", old, ["path", "title"])
    called = [row["path"] for row in rows if row["title"] == old[row["path"]] != Path(row["path"]).stem]
    writer.upsert(
        "documents", [row | {"title": Path(row["path"]).stem} for row in _by(writer, "documents", "path", called)]
    )


def _write_documents(
    writer: "Publishing",
    staging: "Staging",
    names: Iterable[str],
    fresh: Mapping[str, str],
    chosen: Mapping[tuple[str, str], str],
) -> None:
    """Write the documents that were read and what is derived from them, one staged part after another."""
    left = dict(chosen)
    for items, tables in staging.tables(names) if left else ():
        done = _done(items, fresh)
        mine = {(row["path"], row["digest"]) for row in _listed(tables, "holders") if row["landed"] in done}
        paths = {key[0]: left.pop(key) for key in mine & left.keys()}
        if paths:
            writer.upsert("documents", _placed(tables["documents"], paths))
        for table in ("messages", "secrets"):
            rows = [row | {"source": paths[row["source"]]} for row in _listed(tables, table) if row["source"] in paths]
            if rows or writer.count(table):
                writer.replace(table, "source", paths.values(), rows)
        sketches = [row | {"path": paths[row["path"]]} for row in _listed(tables, "sketches") if row["path"] in paths]
        known = writer.arrow("sketches", ["path", "bands"])
        writer.upsert("sketches", grouped(sketches, known, lambda found: _by(writer, "sketches", "path", found)))


def _placed(documents: "pa.Table", paths: Mapping[str, str]) -> "pa.Table":
    """Those of the documents that get a path, with it. As columns: texts are large, and rows would hold them again."""
    import pyarrow as pa

    wanted = [path in paths for path in documents["path"].to_pylist()]
    kept = documents if all(wanted) else documents.filter(pa.array(wanted))
    old = kept["path"].to_pylist()
    new = [paths[path] for path in old]
    called = zip(kept["title"].to_pylist(), old, new, strict=True)
    titles = [Path(path).stem if title == Path(before).stem else title for title, before, path in called]
    for column, values in {"path": new, "title": titles}.items():
        at = kept.schema.get_field_index(column)
        kept = kept.set_column(at, kept.schema.field(at), pa.array(values, pa.string()))
    return kept


def _listed(tables: "Mapping[str, pa.Table]", table: str) -> list[Row]:
    return tables[table].to_pylist() if table in tables else []


def _by(
    reader: "Reader", table: str, column: str, values: Collection[str], columns: Sequence[str] | None = None
) -> list[Row]:
    """The rows whose `column` is one of `values`; for many values the whole table is read instead of asked."""
    if not values:
        return []
    if len(values) <= ASKED:
        return reader.rows(table, columns, {column: list(values)})
    wanted = set(values)
    return [row for row in reader.rows(table, columns) if row[column] in wanted]


def _delete(writer: "Publishing", table: str, column: str, values: Collection[str]) -> None:
    listed = sorted(values)
    for at in range(0, len(listed), ASKED):
        writer.delete(table, column, listed[at : at + ASKED])


def _upsert(writer: "Publishing", table: str, rows: Iterable[Row]) -> None:
    """Insert rows; of those with one path the last."""
    writer.upsert(table, list({row["path"]: row for row in rows}.values()))
