"""A project's store: snapshots of what is published, and the one writer that publishes."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cortex_pipelines.store import publication, versions
from cortex_pipelines.store.database import Where, condition, connect, is_remote
from cortex_pipelines.store.errors import told_of
from cortex_pipelines.store.leases import lease
from cortex_pipelines.store.locks import file_lock
from cortex_pipelines.store.publication import Publication
from cortex_pipelines.store.staging import Staging
from cortex_pipelines.store.tables import TABLES, Table, derived_from_sources

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0
# Cleanup cuts off by time; a margin of minutes keeps a reader that just opened a publication alive.
CLEANUP_MARGIN = timedelta(minutes=10)
# An index pays from here on; below, an exact search takes milliseconds (facts of LanceDB 0.40, B.5).
VECTOR_INDEX_ROWS = 20_000
REOPENINGS = 5
# The rows of so many sources are in memory at once.
_RENAMES = 500
# Bringing an index up to date costs with the size of the table, not of the change: 0.8 s at 100,000 chunks. So in a
# large table a few rows wait, which a search reads one by one, and a few fragments.
LARGE_ROWS = 20_000
WAITING_ROWS = 1_000
WAITING_FRAGMENTS = 32
# A compaction holds so many rows in memory. Where that is much, it waits for eight times the fragments, or the upkeep.
ROWS_AT_ONCE = 8_192
HEAVY_BYTES = 128 * 2**20
# A merge holds its rows in memory twice.
ROWS_PER_MERGE = 20_000

T = TypeVar("T")


class ProjectStore:
    """One project's database at `<uri>/<project>`; nothing is opened before it is used.

    `state` is a local folder for locks; a second writer waits `lock_seconds` for the first.
    """

    def __init__(self, uri: str, project: str, state: Path, lock_seconds: float = LOCK_SECONDS) -> None:
        self.uri = f"{uri.rstrip('/')}/{project}"
        self._state = state / project
        self._lock_seconds = lock_seconds

    def snapshot(self) -> "Snapshot":
        """What is published now; empty where nothing is."""
        if not is_remote(self.uri) and not Path(self.uri, f"{publication.RECORD}.lance").is_dir():
            return Snapshot(self.uri, None, Publication())
        with told_of(self.uri):
            schema = versions.known(self.uri)
        current = schema == versions.SCHEMA_VERSION
        if current and not is_remote(self.uri) and (known := publication.read_copy(self.uri)):
            return Snapshot(self.uri, None, known)
        with told_of(self.uri):
            database = connect(self.uri)
            # The copy is of a state that is not newer than what is read.
            state = publication.state(self.uri)
            published = publication.read(database)
            if not current and versions.unfit(database, published.tables):
                _tell_of_older(self.uri)
                return Snapshot(self.uri, database, Publication(published.generation))
            if state:
                publication.write_copy(self.uri, state, published)
            return Snapshot(self.uri, database, published)

    def published_at(self) -> datetime | None:
        """When something was published last; None where nothing was, and on S3, where it takes requests to know."""
        at = None if is_remote(self.uri) else publication.published_at(self.uri)
        return datetime.fromtimestamp(at, UTC) if at else None

    @contextmanager
    def publishing(self) -> "Iterator[Publishing]":
        """The one writer of the project; what it wrote is undone unless it publishes.

        Raises `StoreBusy` when another run keeps writing.
        """
        with self._exclusive() as still_ours:
            with told_of(self.uri):
                schema = versions.known(self.uri)
                if not is_remote(self.uri):
                    Path(self.uri).mkdir(parents=True, exist_ok=True)
                database = connect(self.uri)
                published, restored = _repair(database)
                _sweep(self.uri)
            writer = Publishing(self.uri, database, published, restored, still_ours)
            try:
                if schema < versions.SCHEMA_VERSION:
                    writer.take_over()
                yield writer
            finally:
                if not writer.published:
                    with told_of(self.uri):
                        _repair(database)

    @contextmanager
    def held(self) -> Iterator[Publication]:
        """Keep writers out, so that every file of what is published stays as it is; yields what is published."""
        with self._exclusive():
            with told_of(self.uri):
                versions.known(self.uri)
                there = is_remote(self.uri) or Path(self.uri, f"{publication.RECORD}.lance").is_dir()
                published = publication.read(connect(self.uri)) if there else Publication()
            yield published

    def writer_kept_out(self) -> AbstractContextManager[Callable[[], None]]:
        """Keep writers out, whatever state the store is in."""
        return self._exclusive()

    def staging(self, product: str) -> Staging:
        """Where a product's mapped batches wait for commit."""
        return Staging(self.uri, product)

    def _exclusive(self) -> AbstractContextManager[Callable[[], None]]:
        if is_remote(self.uri):
            return lease(lambda: connect(self.uri), self._lock_seconds)
        return file_lock(self._state / "writer.lock", self._lock_seconds)


class _Reader(ABC):
    """Reads of tables, whatever version of them."""

    _uri: str

    @abstractmethod
    def _open(self, table: str) -> Any:
        """The table at the version this reader reads; None where it is not there."""

    def _read(self, table: str, action: "Callable[[Any], T]", absent: T) -> T:
        with told_of(self._uri):
            opened = self._open(table)
            return absent if opened is None else action(opened)

    def arrow(self, table: str, columns: Sequence[str] | None = None, where: Where | None = None) -> "pa.Table":
        """Rows as an Arrow table; an empty one where the table is not there."""
        schema = TABLES[table].schema()
        names = list(columns or schema.names)

        def action(opened: Any) -> "pa.Table":
            query = opened.search().select(names)
            sql = condition(where)
            return (query.where(sql) if sql else query).to_arrow().select(names)

        empty = schema.empty_table().select(names)
        return self._read(table, action, empty)

    def rows(
        self, table: str, columns: Sequence[str] | None = None, where: Where | None = None
    ) -> list[dict[str, Any]]:
        """Rows as dictionaries."""
        return self.arrow(table, columns, where).to_pylist()  # type: ignore[no-any-return]

    def count(self, table: str, where: Where | None = None) -> int:
        """How many rows there are."""
        return self._read(table, lambda opened: int(opened.count_rows(condition(where))), 0)

    def keys(self, table: str, where: Where | None = None) -> dict[str, str]:
        """The key of each row and the `digest:version` it was made under."""
        key = TABLES[table].key
        found = self.arrow(table, [key, "digest", "version"], where)
        return {
            name: f"{digest}:{version}"
            for name, digest, version in zip(*(column.to_pylist() for column in found.columns), strict=True)
        }

    def texts(self, sources: Sequence[str]) -> dict[str, str]:
        """The text of documents and of files of repositories, by source; one without text is left out."""
        wanted = list(sources)
        documents = self.rows("documents", ["path", "text"], {"path": wanted})
        files = self.rows("files", ["source", "text"], {"source": wanted})
        found = {row["path"]: row["text"] for row in documents} | {row["source"]: row["text"] for row in files}
        return {source: text for source, text in found.items() if text is not None}


class Snapshot(_Reader):
    """The published state of a project at one consistent set of versions."""

    def __init__(self, uri: str, database: "lancedb.DBConnection | None", published: Publication) -> None:
        self._uri = uri
        self._connection = database
        self._publication = published
        self._opened: dict[str, Any] = {}

    @property
    def _database(self) -> "lancedb.DBConnection":
        if self._connection is None:
            self._connection = connect(self._uri)
        return self._connection

    @property
    def generation(self) -> int:
        """The number of this publication, 0 where there is none."""
        return self._publication.generation

    def versions(self, *tables: str) -> str:
        """A digest of the published versions of tables: equal means that nothing in them changed."""
        listed = [(table, self._publication.tables.get(table, 0)) for table in sorted(tables)]
        return hashlib.blake2b(repr(listed).encode(), digest_size=16).hexdigest()

    def search_text(self, table: str, query: str, limit: int, where: Where | None = None) -> list[dict[str, Any]]:
        """The rows that fit words best by BM25, with `_score`."""
        column = TABLES[table].text_index
        words = query.replace('"', " ").strip()

        def action(opened: Any) -> list[dict[str, Any]]:
            found = opened.search(words, query_type="fts", fts_columns=column).limit(limit)
            sql = condition(where)
            names = [name for name in TABLES[table].columns if name != "vector"]
            query = (found.where(sql, prefilter=True) if sql else found).select([*names, "_score"])
            return query.to_list()  # type: ignore[no-any-return]

        return self._read(table, action, []) if words else []

    def search_vector(
        self, table: str, vector: Sequence[float], limit: int, where: Where | None = None
    ) -> list[dict[str, Any]]:
        """The rows whose vectors are nearest by cosine, with `_distance`."""

        def action(opened: Any) -> list[dict[str, Any]]:
            found = opened.search(vector, vector_column_name="vector").distance_type("cosine").limit(limit)
            sql = condition(where)
            names = [name for name in TABLES[table].columns if name != "vector"]
            query = (found.where(sql, prefilter=True) if sql else found).select([*names, "_distance"])
            return query.nprobes(20).refine_factor(10).to_list()  # type: ignore[no-any-return]

        return self._read(table, action, [])

    def _open(self, table: str) -> Any:
        version = self._publication.tables.get(table)
        if version is None:
            return None
        if table not in self._opened:
            self._opened[table] = self._database.open_table(table, version=version)
        return self._opened[table]

    def _read(self, table: str, action: Callable[[Any], T], absent: T) -> T:
        """Read the published version; where it was pruned since, read the newest publication instead."""
        for attempt in range(REOPENINGS):
            try:
                return super()._read(table, action, absent)
            except Exception:
                newest = publication.read(self._database)
                if newest.generation == self._publication.generation or attempt == REOPENINGS - 1:
                    raise
                self._publication, self._opened = newest, {}
        raise AssertionError("unreachable")


class Publishing(_Reader):
    """The writer: reads and writes the newest state of the tables, then publishes it whole."""

    def __init__(
        self,
        uri: str,
        database: "lancedb.DBConnection",
        old: Publication,
        restored: set[str],
        still_ours: Callable[[], None],
    ) -> None:
        self._uri = uri
        self._database = database
        self._old = old
        self._still_ours = still_ours
        self._opened: dict[str, Any] = {}
        # A table that was rolled back has a new version with the old content, which the next record must name:
        # otherwise it would be rolled back again by every writer to come.
        self._touched: set[str] = set(restored)
        self.published = False

    def upsert(self, table: str, rows: "Sequence[Mapping[str, Any]] | pa.Table") -> None:
        """Insert rows, or update those whose key is there."""
        self._merge(table, _arrow(table, rows), None)

    def replace(
        self, table: str, column: str, values: Iterable[str], rows: "Sequence[Mapping[str, Any]] | pa.Table"
    ) -> None:
        """Let the rows whose `column` is one of `values` be `rows`, in one step."""
        self._merge(table, _arrow(table, rows), condition({column: list(values)}))

    def delete(self, table: str, column: str, values: Iterable[str]) -> int:
        """Delete the rows whose `column` is one of `values`; how many there were."""
        listed = list(values)
        with told_of(self._uri):
            opened = self._open(table)
            if opened is None or not listed or not opened.count_rows(condition({column: listed})):
                return 0
            self._touched.add(table)
            return int(opened.delete(condition({column: listed})).num_deleted_rows)

    def forget(self, sources: Iterable[str]) -> int:
        """Delete every row, in every table, that was derived from these sources; how many there were."""
        gone = list(sources)
        return sum(self.delete(table.name, str(table.source), gone) for table in derived_from_sources())

    def rename(self, moved: Mapping[str, str]) -> None:
        """Let every row, in every table, that was derived from a source be derived from the name it has now.

        `moved` maps old names to new ones. A source may take the name that another one has until then.
        """
        for step in _in_order(moved):
            for table in derived_from_sources():
                self._rename(table, step)

    def _rename(self, table: Table, moved: Mapping[str, str]) -> None:
        import pyarrow as pa

        rows = self.arrow(table.name, where={str(table.source): list(moved)})
        if not rows.num_rows:
            return
        # LanceDB's updates know no expression that depends on a value.
        for column in {str(table.source), "source"} & table.columns.keys():
            at = rows.schema.get_field_index(column)
            renamed = [moved.get(name, name) for name in rows.column(at).to_pylist()]
            rows = rows.set_column(at, rows.schema.field(at), pa.array(renamed, pa.string()))
        if table.key == table.source:
            self.delete(table.name, table.key, moved)
        self.upsert(table.name, rows)

    def overwrite(self, table: str, rows: "Sequence[Mapping[str, Any]] | pa.Table") -> None:
        """Let the whole table be `rows`."""
        written = _arrow(table, rows)
        with told_of(self._uri):
            self._writable(table).add(written, mode="overwrite")

    def take_over(self) -> None:
        """Make the tables that older code left this code's own.

        Where the columns of one are others, all are emptied and the next run fills them: rows are derived from each
        other, and half of them would be taken for all.
        """
        with told_of(self._uri):
            unfit = versions.unfit(self._database, self._old.tables)
            for name in self._old.tables if unfit else ():
                if name in TABLES:
                    made: Any = self._database.create_table(name, schema=TABLES[name].schema(), mode="overwrite")
                    self._opened[name] = made
                    made.set_unenforced_primary_key(TABLES[name].key)
                    self._touched.add(name)

    def compact(self) -> list[str]:
        """Compact every table and prune what no publication needs; the tables that moved, which is to be published."""
        with told_of(self._uri):
            for name in self._old.tables.keys() & TABLES.keys():
                opened = self._open(name)
                before = opened.version
                self._settle(TABLES[name], due=True)
                if opened.version != before:
                    self._touched.add(name)
            if publication.RECORD in publication.table_names(self._database):
                self._database.open_table(publication.RECORD).optimize(cleanup_older_than=CLEANUP_MARGIN)
        return sorted(self._touched)

    def publish(self) -> int:
        """Make what was written the published state; the new generation.

        Raises `PublicationMoved` when another writer was faster, which loses nothing.
        """
        with told_of(self._uri):
            for name in self._touched:
                self._settle(TABLES[name])
            self._still_ours()
            tables = dict(self._old.tables)
            for name in self._touched:
                opened = self._open(name)
                tables[name] = opened.version
                kept = {opened.version, self._old.tables.get(name, opened.version)}
                publication.retag(opened, kept)
            new = Publication(self._old.generation + 1, tables, self._old.tables)
            publication.replace(self._database, self._old, new)
            if versions.recorded(self._uri) != versions.SCHEMA_VERSION:
                versions.record(self._uri)
        self.published = True
        return new.generation

    def _merge(self, table: str, rows: "pa.Table", stale: str | None) -> None:
        if stale is None and not rows.num_rows:
            return
        with told_of(self._uri):
            opened = self._writable(table)
            for start in range(0, max(rows.num_rows, 1), ROWS_PER_MERGE):
                merge = opened.merge_insert(TABLES[table].key).when_matched_update_all().when_not_matched_insert_all()
                if stale is not None and rows.num_rows <= ROWS_PER_MERGE:
                    merge = merge.when_not_matched_by_source_delete(stale)
                elif stale is not None and start == 0:
                    opened.delete(stale)
                # With the index on the key, concurrent merges make silent duplicates (facts of LanceDB 0.40, B.3).
                merge.use_index(False).execute(rows.slice(start, ROWS_PER_MERGE))

    def _open(self, table: str) -> Any:
        if table not in self._opened:
            if table not in publication.table_names(self._database):
                return None
            self._opened[table] = self._database.open_table(table)
        return self._opened[table]

    def _writable(self, table: str) -> Any:
        opened = self._open(table)
        if opened is None:
            created: Any = self._database.create_table(table, schema=TABLES[table].schema())
            created.set_unenforced_primary_key(TABLES[table].key)
            self._opened[table] = opened = created
        self._touched.add(table)
        return opened

    def _settle(self, table: Table, due: bool = False) -> None:
        """Compact and index before publishing: both move the head. Prune what no publication needs.

        All of it waits until it is worth it, unless it is `due`: LanceDB does none of it without the rest.
        """
        opened = self._open(table.name)
        _index(table, opened)
        if not due and not _is_due(opened):
            return
        opened.optimize(cleanup_older_than=timedelta(days=36_500))
        oldest = min(
            [tag["version"] for tag in opened.tags.list().values()] + [self._old.tables.get(table.name, opened.version)]
        )
        kept_since = next(item["timestamp"] for item in opened.list_versions() if item["version"] == oldest)
        # LanceDB gives local time without a zone.
        age = datetime.now(UTC) - kept_since.astimezone(UTC)
        try:
            opened.optimize(cleanup_older_than=age + CLEANUP_MARGIN)
        except RuntimeError as error:
            if "Cleanup error" not in str(error):
                raise
            log.info("%s: nothing pruned, %s", table.name, error)


@cache
def _tell_of_older(uri: str) -> None:
    """Once is enough: a run reads the store many times before it publishes."""
    log.warning("the store %s was made by older code: the next run builds it again", uri)


def _in_order(moved: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Renames cut into steps, so that no source gets a name that another one has still to give up.

    Names that go round in a circle are one step: its rows are all read before one is written.
    """
    left = {old: new for old, new in moved.items() if old != new}
    while left:
        free = {old: new for old, new in left.items() if new not in left}
        for at in range(0, len(free), _RENAMES):
            yield dict(list(free.items())[at : at + _RENAMES])
        if not free:
            yield left
            return
        left = {old: new for old, new in left.items() if old not in free}


def _is_due(opened: Any) -> bool:
    """Whether to compact a table and bring its indices up to date."""
    told = opened.stats()
    rows, small = told["num_rows"], told["fragment_stats"]["num_small_fragments"]
    heavy = rows and told["total_bytes"] * min(1.0, ROWS_AT_ONCE / rows) > HEAVY_BYTES
    if heavy and small <= 8 * WAITING_FRAGMENTS:
        return False
    if rows < LARGE_ROWS or small > WAITING_FRAGMENTS:
        return True
    indices = (opened.index_stats(index.name) for index in opened.list_indices())
    return any(index is not None and index.num_unindexed_rows > WAITING_ROWS for index in indices)


def _index(table: Table, opened: Any) -> None:
    from lancedb.index import FTS, IvfSq

    present = {column for index in opened.list_indices() for column in index.columns}
    if table.text_index and table.text_index not in present and opened.count_rows():
        opened.create_index(table.text_index, config=FTS(with_position=False))
    if "vector" in table.columns and "vector" not in present and opened.count_rows() >= VECTOR_INDEX_ROWS:
        opened.create_index("vector", config=IvfSq(distance_type="cosine"))


def _repair(database: "lancedb.DBConnection") -> tuple[Publication, set[str]]:
    """Undo what a writer left that did not publish: tables go back to their published version, others go.

    Returns what is published, and the tables that had to go back.
    """
    published = publication.read(database)
    restored = set()
    for name in publication.table_names(database) & TABLES.keys():
        version = published.tables.get(name)
        if version is None:
            database.drop_table(name)
            continue
        table = database.open_table(name)
        if table.version != version:
            table.checkout(version)
            table.restore()
            restored.add(name)
    return published, restored


def _sweep(uri: str) -> None:
    """Remove the temporary files of killed writers, which LanceDB never collects."""
    if not is_remote(uri):
        for left in Path(uri).glob("*.lance/*/.tmp*"):
            left.unlink(missing_ok=True)


def _arrow(table: str, rows: "Sequence[Mapping[str, Any]] | pa.Table") -> "pa.Table":
    import pyarrow as pa

    schema = TABLES[table].schema()
    if isinstance(rows, pa.Table):
        return rows.select(schema.names).cast(schema)
    return pa.Table.from_pylist(list(rows), schema=schema)
