"""The publication record: which version of each table is published, replaced by compare-and-swap.

One row per generation in a Lance table whose key is the generation: of two writers that insert the same
one, the second inserts nothing and knows that it lost. Tags keep the published and the previous version
of a table from being pruned.
"""

import json
import os
import re
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines.store.errors import PublicationMoved

if TYPE_CHECKING:
    import lancedb

RECORD = "publications"
COPY = "publication.json"
VERSION = re.compile(r"\d{20}\.manifest")
# A reader that opened the record just before it moved may still look at the row it read.
GENERATIONS_KEPT = 8


@dataclass(frozen=True)
class Publication:
    """A generation and the versions of its tables; generation 0 is an empty project."""

    generation: int = 0
    tables: dict[str, int] = field(default_factory=dict)
    previous: dict[str, int] = field(default_factory=dict)


def read(database: "lancedb.DBConnection") -> Publication:
    """The newest publication."""
    if RECORD not in table_names(database):
        return Publication()
    rows = database.open_table(RECORD).to_arrow().to_pylist()
    if not rows:
        return Publication()
    newest = max(rows, key=lambda row: row["generation"])
    return Publication(newest["generation"], json.loads(newest["tables"]), json.loads(newest["previous"]))


def state(uri: str) -> str:
    """What a local record's newest version is called; empty where there is none. LanceDB is not asked."""
    try:
        names = os.listdir(f"{uri}/{RECORD}.lance/_versions")  # noqa: PTH208
    except OSError:
        return ""
    # Other files lie there too: a hint, and the temporary ones of killed writers. Newer versions sort first.
    return min((name for name in names if VERSION.fullmatch(name)), default="")


def published_at(uri: str) -> float | None:
    """When a local record was written last, in seconds of the epoch; None where there is none."""
    newest = state(uri)
    try:
        return Path(uri, f"{RECORD}.lance", "_versions", newest).stat().st_mtime if newest else None
    except OSError:
        return None


def read_copy(uri: str) -> Publication | None:
    """The newest publication by the copy beside a local record; None where the copy is not of the newest.

    LanceDB takes two seconds to import, which a run that has nothing to do need not spend.
    """
    try:
        content = json.loads(Path(uri, COPY).read_text(encoding="utf-8"))
        known = Publication(content["generation"], content["tables"], content["previous"])
        return known if content["state"] and content["state"] == state(uri) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_copy(uri: str, state: str, published: Publication) -> None:
    """Copy the record as it was at `state`; a store that cannot be written has no copy."""
    path = Path(uri, COPY)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    with suppress(OSError):
        try:
            unfinished.write_text(json.dumps({"state": state, **asdict(published)}), encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def replace(database: "lancedb.DBConnection", old: Publication, new: Publication) -> None:
    """Move the record from `old` to `new`, or raise `PublicationMoved` when it is no longer at `old`."""
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field("generation", pa.int64(), nullable=False),
            pa.field("tables", pa.string(), nullable=False),
            pa.field("previous", pa.string(), nullable=False),
        ]
    )
    if RECORD not in table_names(database):
        created: Any = database.create_table(RECORD, schema=schema, exist_ok=True)
        created.set_unenforced_primary_key("generation")
    record = database.open_table(RECORD)
    row = {
        "generation": new.generation,
        "tables": json.dumps(new.tables),
        "previous": json.dumps(new.previous),
    }
    merged = (
        record.merge_insert("generation")
        .when_not_matched_insert_all()
        .execute(pa.Table.from_pylist([row], schema=schema))
    )
    if merged.num_inserted_rows != 1 or new.generation != old.generation + 1:
        raise PublicationMoved("another run published this project in between: run again, nothing is lost")
    record.delete(f"generation < {new.generation - GENERATIONS_KEPT}")


def retag(table: Any, versions: set[int]) -> None:
    """Let the tags of a table be exactly on `versions`."""
    tags = {name: tag["version"] for name, tag in table.tags.list().items()}
    for version in versions - set(tags.values()):
        table.tags.create(f"v{version}", version)
    for name, version in tags.items():
        if version not in versions:
            table.tags.delete(name)


def table_names(database: "lancedb.DBConnection") -> set[str]:
    """The tables of a database, half-made ones included."""
    names: set[str] = set()
    page = None
    while True:
        listed = database.list_tables(page_token=page) if page else database.list_tables()
        names.update(listed.tables)
        page = listed.page_token
        if not page:
            return names


def missing(uri: str, published: Publication) -> list[str]:
    """The tables of a local store whose published version has no manifest; LanceDB is not asked."""
    # Manifests are named so that newer ones sort first, by older code by the number itself.
    return sorted(
        name
        for name, version in published.tables.items()
        if not any(
            Path(uri, f"{name}.lance", "_versions", f"{named}.manifest").is_file()
            for named in (f"{2**64 - 1 - version:020}", str(version))
        )
    )
