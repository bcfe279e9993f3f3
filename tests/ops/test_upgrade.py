"""Schema versions: what newer code made is refused in one line, what older code made is taken over."""

import json
from pathlib import Path

import lancedb
import pytest

from cortex_pipelines.running import run_project
from cortex_pipelines.store import SCHEMA_VERSION, ProjectStore, StoreTooNew
from cortex_pipelines.store.tables import TABLES
from cortex_pipelines.store.versions import MARK, recorded
from tests.store.test_store import publish, texts


@pytest.fixture
def store(settings):
    return ProjectStore(settings.store, "p", settings.state)


def test_a_publication_records_the_schema(store):
    publish(store, a="1")
    told = json.loads(Path(store.uri, MARK).read_text())
    assert told["schema"] == SCHEMA_VERSION == recorded(store.uri)


def test_a_store_of_newer_code_is_neither_read_nor_written(store):
    publish(store, a="1")
    Path(store.uri, MARK).write_text(json.dumps({"schema": SCHEMA_VERSION + 1}))
    before = {path: path.read_bytes() for path in Path(store.uri).rglob("*") if path.is_file()}
    with pytest.raises(StoreTooNew, match="newer code") as told:
        store.snapshot()
    assert "\n" not in str(told.value)
    with pytest.raises(StoreTooNew), store.publishing():
        pytest.fail("a writer was let in")
    assert {path: path.read_bytes() for path in Path(store.uri).rglob("*") if path.is_file()} == before


def test_a_broken_mark_is_one_line_that_says_what_to_do(store):
    publish(store, a="1")
    Path(store.uri, MARK).write_text("{broken")
    with pytest.raises(Exception, match="remove that file, and the next run takes the store over"):
        store.snapshot()


def test_a_store_that_records_none_but_has_the_same_columns_is_read_and_goes_on(store):
    publish(store, a="1")
    Path(store.uri, MARK).unlink()
    assert texts(store.snapshot()) == {"a": "1"}
    publish(store, b="1")
    assert texts(store.snapshot()) == {"a": "1", "b": "1"}
    assert recorded(store.uri) == SCHEMA_VERSION


def make_older(store):
    """As older code left it: it kept no titles, something else beside, and recorded no schema."""
    database = lancedb.connect(store.uri)
    table = database.open_table("documents")
    rows = table.to_arrow().drop_columns(["title"])
    rows = rows.append_column("mood", [["calm"] * rows.num_rows])
    record = database.open_table("publications")
    table = database.create_table("documents", rows, mode="overwrite")
    newest = max(record.to_arrow().to_pylist(), key=lambda row: row["generation"])
    tables = json.loads(newest["tables"]) | {"documents": table.version}
    record.update(where=f"generation = {newest['generation']}", values={"tables": json.dumps(tables)})
    Path(store.uri, MARK).unlink()


def test_a_store_of_other_columns_is_built_again_by_the_next_run(sample, settings, caplog):
    run_project("kestrel", settings)
    store = ProjectStore(settings.store, "kestrel", settings.state)
    # What a product was made from is told by the versions of tables, which are others now.
    compared = TABLES.keys() - {"products"}
    before = {name: sorted(map(repr, store.snapshot().rows(name))) for name in compared}
    generation = store.snapshot().generation
    make_older(store)
    assert store.snapshot().count("documents") == 0
    assert "was made by older code: the next run builds it again" in caplog.text
    assert run_project("kestrel", settings).changed
    after = store.snapshot()
    assert after.generation > generation
    assert {name: sorted(map(repr, after.rows(name))) for name in compared} == before
    assert recorded(store.uri) == SCHEMA_VERSION
    assert not run_project("kestrel", settings).changed


def test_a_takeover_that_does_not_publish_leaves_the_older_store_as_it_was(store):
    publish(store, a="1")
    make_older(store)
    with pytest.raises(KeyError), store.publishing() as writer:
        assert writer.count("documents") == 0
        raise KeyError("stopped")
    assert recorded(store.uri) == 0
    rows = lancedb.connect(store.uri).open_table("documents").to_arrow()
    assert rows["mood"].to_pylist() == ["calm"]
    publish(store, b="1")
    assert texts(store.snapshot()) == {"b": "1"}
