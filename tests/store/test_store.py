"""The store: publications are whole, readers keep theirs, writers take turns, and a kill or a failure loses nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex_pipelines.store import ProjectStore, StoreError, project, publication
from cortex_pipelines.store.database import connect
from cortex_pipelines.store.tables import TABLES

ROOT = Path(__file__).parents[2]


def document(path, text="words"):
    return {
        "path": path,
        "digest": "d",
        "version": "1",
        "media_type": "text/plain",
        "title": path,
        "text": text,
        "headings": "[]",
        "pages": "[]",
        "size": len(text),
        "language": "",
        "topics": [],
        "summary": "",
        "details": "{}",
    }


def indexed(source, digest):
    return {"source": source, "digest": digest, "version": "1", "chunks": 0, "named": source}


def fault(path, reason):
    return {
        "path": path,
        "stage": "documents",
        "digest": "",
        "version": "1",
        "size": 0,
        "reason": reason,
        "landed": path,
    }


@pytest.fixture
def store(tmp_path):
    return ProjectStore(str(tmp_path / "store"), "p", tmp_path / "state")


def publish(store, **texts):
    with store.publishing() as writer:
        writer.upsert("documents", [document(path, text) for path, text in texts.items()])
        return writer.publish()


def texts(reader):
    return {row["path"]: row["text"] for row in reader.rows("documents", ["path", "text"])}


def test_an_empty_project_reads_as_empty_and_makes_nothing(store, tmp_path):
    snapshot = store.snapshot()
    assert (snapshot.generation, texts(snapshot), snapshot.count("files"), snapshot.keys("indexed")) == (0, {}, 0, {})
    assert not (tmp_path / "store").exists()


def test_what_is_published_is_read_and_a_reader_keeps_its_own(store):
    assert publish(store, a="1") == 1
    before = store.snapshot()
    publish(store, a="2", b="1")
    assert texts(before) == {"a": "1"}
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}


def test_what_is_not_published_is_undone_in_every_table(store):
    publish(store, a="1")
    with pytest.raises(KeyError, match="stopped"), store.publishing() as writer:
        writer.upsert("documents", [document("b")])
        writer.upsert("quarantine", [fault("c", "broken")])
        raise KeyError("stopped")
    assert texts(store.snapshot()) == {"a": "1"}
    assert store.snapshot().count("quarantine") == 0
    with store.publishing() as writer:
        assert texts(writer) == {"a": "1"}


def test_what_a_caller_does_wrong_is_not_told_as_a_failure_of_the_store(store):
    with pytest.raises(ValueError, match="not of the store"), store.publishing():
        raise ValueError("not of the store")


def test_a_source_that_is_forgotten_goes_from_every_table_in_one_publication(store):
    with store.publishing() as writer:
        writer.upsert("documents", [document("a"), document("b")])
        writer.upsert("indexed", [indexed(name, "d") for name in ("a", "b")])
        writer.publish()
    with store.publishing() as writer:
        assert writer.forget(["a"]) == 2
        assert writer.publish() == 2
    assert list(texts(store.snapshot())) == ["b"]
    assert list(store.snapshot().keys("indexed")) == ["b"]


@pytest.fixture
def pruned_soon(monkeypatch):
    """A function that waits until what was published before it is old enough to be pruned."""
    # With no margin at all the cut falls behind the oldest version that is kept, and LanceDB then prunes nothing.
    margin = timedelta(seconds=1)
    monkeypatch.setattr("cortex_pipelines.store.project.CLEANUP_MARGIN", margin)
    return lambda: time.sleep(1.5 * margin.total_seconds())


def test_a_reader_whose_version_was_pruned_goes_on_with_the_newest(store, pruned_soon):
    publish(store, a="1")
    slow = store.snapshot()
    pruned_soon()
    for number in range(5):
        publish(store, a=f"later {number}")
    assert texts(slow) == {"a": "later 4"}
    assert slow.generation == 6


def test_values_never_leave_their_quotes(store):
    hostile = "a' OR '1'='1"
    publish(store, **{hostile: "x", "b": "y"})
    with store.publishing() as writer:
        assert writer.delete("documents", "path", [hostile]) == 1
        writer.publish()
    assert texts(store.snapshot()) == {"b": "y"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "leave", "delete"]),
        st.dictionaries(st.sampled_from("abcd"), st.text("xyz", max_size=3)),
    ),
    max_size=5,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_reader_always_sees_exactly_what_was_published_last(steps, tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    store = ProjectStore(str(folder / "store"), "p", folder / "state")
    published: dict[str, str] = {}
    generation = 0
    for kind, rows in steps:
        with store.publishing() as writer:
            assert texts(writer) == published
            if kind == "delete":
                writer.delete("documents", "path", rows)
            else:
                writer.upsert("documents", [document(path, text) for path, text in rows.items()])
            if kind != "leave":
                assert writer.publish() == generation + 1
                generation += 1
                published = (
                    {p: t for p, t in published.items() if p not in rows} if kind == "delete" else published | rows
                )
        snapshot = store.snapshot()
        assert (snapshot.generation, texts(snapshot)) == (generation, published)


def test_the_copy_of_the_record_is_never_taken_for_a_newer_one(store):
    publish(store, a="1")
    assert store.snapshot().generation == 1
    copied = publication.read_copy(store.uri)
    assert copied is not None
    assert copied.generation == 1
    publish(store, a="2")
    assert publication.read_copy(store.uri) is None
    assert store.snapshot().generation == 2
    Path(store.uri, f"{publication.RECORD}.lance", "_versions", ".tmpleft").write_text("of a killed writer")
    assert store.snapshot().generation == 2
    publish(store, a="3")
    assert store.snapshot().generation == 3
    assert not list(Path(store.uri).rglob(".tmp*"))
    Path(store.uri, f"{publication.RECORD}.lance", "_versions", ".tmpleft").write_text("of a killed writer")
    Path(store.uri, publication.COPY).write_text("{broken")
    assert texts(store.snapshot()) == {"a": "3"}


WRITER = """
import sys
from pathlib import Path
from cortex_pipelines.store import ProjectStore
from tests.store.test_store import document, fault
store = ProjectStore(sys.argv[1], "p", Path(sys.argv[2]))
name, rounds = sys.argv[3], int(sys.argv[4])
for number in range(rounds):
    with store.publishing() as writer:
        count = int((writer.rows("documents", ["text"], {"path": "count"}) or [{"text": "0"}])[0]["text"])
        writer.upsert("documents", [document("count", str(count + 1)), document(f"{name}{number}")])
        writer.upsert("quarantine", [fault("count", "r") | {"size": count + 1}])
        print(writer.publish(), flush=True)
"""


def versions(store):
    return {path.name for path in Path(store.uri, "documents.lance", "_versions").glob("*.manifest")}


def writer(tmp_path, name, rounds):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "store"), str(tmp_path / "state"), name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)


@pytest.mark.heavy
def test_two_processes_that_write_at_once_lose_no_row(store, tmp_path):
    running = [writer(tmp_path, name, 5) for name in "ab"]
    for process in running:
        assert process.wait(120) == 0, process.communicate()
    found = texts(store.snapshot())
    assert found["count"] == "10"
    assert len(found) == 11


@pytest.mark.heavy
def test_a_writer_that_is_killed_leaves_the_last_publication_and_no_rubbish(store, tmp_path, pruned_soon):
    chance = random.Random(7)
    publish(store, first="1")
    for number in range(6):
        process = writer(tmp_path, f"k{number}-", 1_000)
        process.stdout.readline()
        time.sleep(chance.random())
        process.send_signal(signal.SIGKILL)
        printed, _ = process.communicate()
        snapshot = store.snapshot()
        assert snapshot.generation >= max(map(int, printed.split()), default=0)
        found = texts(snapshot)
        told = snapshot.rows("quarantine", ["size"], {"path": "count"})
        assert int(found.get("count", 0)) == (told[0]["size"] if told else 0) == len(found) - 1 - ("count" in found)
    before = texts(store.snapshot())
    publish(store, after="1")
    assert texts(store.snapshot()) == before | {"after": "1"}
    left = versions(store)
    pruned_soon()
    for number in range(3):
        publish(store, after=str(number))
    assert texts(store.snapshot()) == before | {"after": "2"}
    # The last two publications are kept, then everything older goes, of killed writers too.
    assert not left & versions(store)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = ProjectStore(str(tmp_path / "file" / "store"), "p", tmp_path / "state")
    with pytest.raises(StoreError) as told:
        publish(store, a="1")
    assert "\n" not in str(told.value)
    assert str(tmp_path / "file") in str(told.value)


@pytest.fixture
def s3(monkeypatch):
    """A store on a real S3 interface, of moto."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bucket")
    yield server
    server.stop()


def chunk(number, text):
    row = dict.fromkeys(TABLES["chunks"].columns, "") | {"chunk_id": f"c{number}", "source": f"s{number}", "text": text}
    row |= {"page": None, "line_start": 1, "line_end": 1, "byte_start": 0, "byte_end": len(text), "search_text": text}
    return row | {"vector": [float(number % 7 == part % 7) for part in range(256)]}


def test_in_a_large_table_a_small_change_waits_for_the_index_and_is_found_all_the_same(store, tmp_path, monkeypatch):
    monkeypatch.setattr(project, "LARGE_ROWS", 50)
    monkeypatch.setattr(project, "WAITING_ROWS", 5)
    with store.publishing() as writer:
        writer.upsert("chunks", [chunk(number, f"the ferry {number} leaves") for number in range(100)])
        writer.publish()

    def waiting():
        opened = connect(store.uri).open_table("chunks")
        return [opened.index_stats(index.name).num_unindexed_rows for index in opened.list_indices()]

    assert waiting() == [0]
    for number in range(8):
        with store.publishing() as writer:
            writer.upsert("chunks", [chunk(number, f"the tram {number} leaves now")])
            writer.publish()
        found = store.snapshot().search_text("chunks", f"tram {number}", 3)
        assert found[0]["chunk_id"] == f"c{number}"
        texts_found = [row["text"] for row in store.snapshot().search_text("chunks", f"ferry {number}", 200)]
        assert f"the ferry {number} leaves" not in texts_found
        assert len(store.snapshot().search_vector("chunks", chunk(number, "")["vector"], 200)) == 100
        assert max(waiting()) == (number + 1) % 6
    with store.publishing() as writer:
        writer.compact()
        writer.publish()
    assert waiting() == [0]


def test_large_texts_are_not_held_in_memory_together_by_every_publication(store, monkeypatch):
    def fragments():
        return connect(store.uri).open_table("documents").stats()["fragment_stats"]["num_fragments"]

    monkeypatch.setattr(project, "HEAVY_BYTES", 1_000)
    for number in range(4):
        publish(store, **{f"doc{number}": "large " * 1_000})
    assert fragments() == 4
    with store.publishing() as writer:
        writer.compact()
        writer.publish()
    assert fragments() == 1
    assert len(texts(store.snapshot())) == 4


def test_what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays(store, tmp_path):
    staging = store.staging("documents")
    staging.put("b1", {"documents": [document("q")]}, {"q": "k"})
    folder = next((tmp_path / "store").rglob("b1.json")).parent
    old, young = folder / "b0.documents.parquet.x.tmp", folder / "b2.documents.parquet.y.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    staging.clear(["b1"])
    assert [path.name for path in folder.iterdir()] == [young.name]


@pytest.mark.heavy
def test_a_store_on_s3_publishes_stages_and_keeps_writers_apart(s3, tmp_path, monkeypatch):
    store = ProjectStore("s3://bucket/team", "p", tmp_path / "state", lock_seconds=2)
    assert store.snapshot().generation == 0
    publish(store, a="1")
    before = store.snapshot()
    publish(store, a="2")
    assert (texts(before), texts(store.snapshot())) == ({"a": "1"}, {"a": "2"})
    staging = store.staging("documents")
    staging.put("b1", {"documents": [document("q")]}, {"q": "k"})
    assert (staging.names(), staging.items()) == (["b1"], {"q": {"k"}})
    [(items, tables)] = staging.tables()
    assert (items, tables["documents"].num_rows) == ({"q": "k"}, 1)
    staging.clear(["b1"])
    assert staging.names() == []
    with store.publishing(), pytest.raises(StoreError), store.publishing():
        pytest.fail("a second writer was let in")
    s3.stop()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="s3://bucket/team/p"):
        store.snapshot()


@given(st.permutations(list("abcdefgh")), st.integers(0, 8))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sources_that_swap_their_names_keep_what_was_derived_from_them(tmp_path_factory, names, moving):
    place = tmp_path_factory.mktemp("renamed")
    store = ProjectStore(str(place / "store"), "p", place / "state")
    publish(store, **{name: f"text of {name}" for name in "abcdefgh"})
    # A permutation has circles and, cut short, chains that end in a new name.
    moved = dict(zip("abcdefgh", names, strict=True))
    for old in list(moved)[:moving]:
        moved[old] = f"{moved[old]}/new"
    with store.publishing() as writer:
        writer.upsert("indexed", [indexed(name, name) for name in "abcdefgh"])
        writer.rename(moved)
        writer.publish()
    snapshot = store.snapshot()
    assert texts(snapshot) == {new: f"text of {old}" for old, new in moved.items()}
    assert {row["source"]: row["digest"] for row in snapshot.rows("indexed")} == {
        new: old for old, new in moved.items()
    }
