"""Pruning: what is no longer needed goes, what is published and what the UI shows stays."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from cortex_pipelines.operations.pruning import LEFT_SECONDS, prunable_projects, prune_leftovers, prune_project
from cortex_pipelines.running import run_project
from cortex_pipelines.settings import load_settings
from cortex_pipelines.store import ProjectStore
from cortex_pipelines.upkeep import daily_upkeep, delete_old_runs, upkeep
from tests.store import test_store
from tests.store.test_store import document, publish, texts

ROOT = Path(__file__).parents[2]
CORTEX = str(Path(sys.executable).with_name("cortex"))

s3 = test_store.s3


@pytest.fixture
def store(settings, monkeypatch):
    """A store of one small project whose versions may go after a second."""
    monkeypatch.setattr("cortex_pipelines.store.project.CLEANUP_MARGIN", timedelta(seconds=1))
    return ProjectStore(settings.store, "p", settings.state)


def manifests(store, table):
    return sorted(path.name for path in Path(store.uri, f"{table}.lance", "_versions").glob("*.manifest"))


def aged(path):
    """A file that a process was killed over two days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("left")
    then = time.time() - 2 * LEFT_SECONDS
    os.utime(path, (then, then))
    return path


def test_old_versions_go_and_what_is_published_reads_the_same(store, settings):
    for number in range(7):
        publish(store, **{f"k{number}": "x" * 10_000})
        time.sleep(1.5 if number == 4 else 0)
    before = texts(store.snapshot()), manifests(store, "documents"), manifests(store, "publications")
    done = prune_project("p", settings)
    assert texts(store.snapshot()) == before[0]
    assert len(manifests(store, "documents")) < len(before[1])
    assert len(manifests(store, "publications")) < len(before[2])
    assert done.freed_bytes > 0
    publish(store, after="1")
    assert texts(store.snapshot()) == before[0] | {"after": "1"}


def test_what_a_killed_writer_left_is_undone(store, settings):
    publish(store, a="1")
    publish(store, a="2")
    # As a kill leaves it: rows at the head that no record names, and a temporary file.
    import lancedb

    head = lancedb.connect(store.uri).open_table("documents")
    head.add([document("never published")])
    left = aged(Path(store.uri, "documents.lance", "data", ".tmpleft"))
    prune_project("p", settings)
    assert not left.exists()
    assert texts(store.snapshot()) == {"a": "2"}
    assert lancedb.connect(store.uri).open_table("documents").count_rows() == 1


@pytest.mark.heavy
def test_a_store_on_s3_is_pruned_under_its_lease(s3, variables):
    away = load_settings({**variables, "CORTEX_STORE": "s3://bucket/team", "CORTEX_PROJECTS": "p"}, env_file=None)
    store = ProjectStore(away.store, "p", away.state)
    for number in range(3):
        publish(store, a=str(number))
    assert prunable_projects(away) == ["p"]
    prune_project("p", away)
    assert texts(store.snapshot()) == {"a": "2"}
    publish(store, b="1")
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}


def test_only_leftovers_that_are_old_go(store, settings):
    publish(store, a="1")
    old = [
        aged(settings.state / "p" / "standing.1.tmp"),
        aged(settings.reports / "p" / "ideas.md.tmp"),
        aged(Path(store.uri, "publication.x.tmp")),
        aged(Path(store.uri, "staging", "documents", "b.parquet.x.tmp")),
    ]
    fresh = settings.state / "p" / "standing.2.tmp"
    fresh.write_text("being written")
    staged = aged(Path(store.uri, "staging", "documents", "b.json"))
    assert prune_project("p", settings).leftovers == len(old)
    assert not any(path.exists() for path in old)
    assert fresh.exists()
    assert staged.exists()


def test_what_killed_backups_left_goes_but_not_what_a_killed_restore_moved_aside(settings):
    for name in (".cortex-pinned-a", ".cortex-new-b", ".cortex-old-c"):
        place = Path(settings.store, name)
        aged(place / "file")
        then = time.time() - 2 * LEFT_SECONDS
        os.utime(place, (then, then))
    Path(settings.store, ".cortex-pinned-now").mkdir()
    assert prune_leftovers(settings) == 2
    assert sorted(path.name for path in Path(settings.store).iterdir()) == [".cortex-old-c", ".cortex-pinned-now"]


def test_a_run_after_pruning_finds_that_nothing_changed(sample, settings):
    run_project("kestrel", settings)
    prune_project("kestrel", settings)
    assert not run_project("kestrel", settings).changed
    # And pruning again moves nothing.
    generation = ProjectStore(settings.store, "kestrel", settings.state).snapshot().generation
    prune_project("kestrel", settings)
    assert ProjectStore(settings.store, "kestrel", settings.state).snapshot().generation == generation


@dg.op
def nothing():
    """Does nothing."""


@dg.job
def idle():
    nothing()


@dg.job
def failing():
    @dg.op
    def fails():
        raise dg.Failure("on purpose")

    fails()


def ran(instance, job, project):
    done = job.execute_in_process(instance=instance, tags={"dagster/partition": project}, raise_on_error=False)
    handed_on = Path(instance.storage_directory()) / done.run_id
    handed_on.mkdir(parents=True, exist_ok=True)
    (handed_on / "result").write_text("pickle")
    return done.run_id


def test_runs_that_ended_long_ago_go_with_their_events_and_files_but_the_newest_of_each_project(home):
    with dg.DagsterInstance.get() as instance:
        first, second = ran(instance, idle, "a"), ran(instance, idle, "b")
        broken, last, other = ran(instance, failing, "a"), ran(instance, idle, "a"), ran(instance, failing, "a")
        queued = instance.create_run_for_job(idle).run_id
        assert delete_old_runs(instance, days=1) == 0
        assert delete_old_runs(instance, days=0) == 2
        left = {run.run_id for run in instance.get_runs()}
        assert left == {second, last, other, queued}
        for gone in (first, broken):
            assert instance.all_logs(gone) == []
            assert not (Path(instance.storage_directory()) / gone).exists()
        assert instance.all_logs(last) != []
        assert (Path(instance.storage_directory()) / last / "result").exists()


def test_what_deleted_runs_left_in_files_goes_when_it_is_old(home):
    with dg.DagsterInstance.get() as instance:
        deleted, fresh, kept = (ran(instance, idle, "a") for _ in range(3))
        storage = Path(instance.storage_directory())
        for run_id in (deleted, fresh):
            instance.delete_run(run_id)
        of_an_asset = storage / "some_asset"
        of_an_asset.mkdir()
        then = time.time() - 2 * 24 * 3600
        for folder in (deleted, kept, "some_asset"):
            os.utime(storage / folder, (then, then))
        logs = home / "storage" / deleted / "compute_logs"
        assert logs.is_dir()
        assert delete_old_runs(instance, days=1) == 0
        assert not (storage / deleted).exists()
        assert not logs.exists()
        assert all((storage / name).is_dir() for name in (fresh, kept, "some_asset"))


def test_step_storage_that_was_moved_elsewhere_is_pruned_there(home, tmp_path):
    """As in the image, whose DAGSTER_HOME cannot be written."""
    config = (home / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(
        f"{config}\nlocal_artifact_storage:\n  module: dagster._core.storage.root\n  class: LocalArtifactStorage\n"
        f"  config: {{base_dir: {tmp_path / 'data'}}}\n"
    )
    with dg.DagsterInstance.get() as instance:
        first, last = ran(instance, idle, "a"), ran(instance, idle, "a")
        assert (tmp_path / "data" / "storage" / first / "result").is_file()
        assert delete_old_runs(instance, days=0) == 1
        assert [path.name for path in (tmp_path / "data" / "storage").iterdir()] == [last]


def test_the_command_prunes_stores_and_runs(variables, home, settings):
    store = ProjectStore(settings.store, "p", settings.state)
    publish(store, a="1")
    with dg.DagsterInstance.get() as instance:
        for _ in range(3):
            ran(instance, idle, "a")
    environ = os.environ | variables
    call = [CORTEX, "prune", "--run-days", "0", "--json"]
    done = subprocess.run(call, env=environ, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert told["runs"] == 2
    assert [one["project"] for one in told["projects"]] == ["p"]
    environ.pop("DAGSTER_HOME")
    plain = subprocess.run([CORTEX, "prune"], env=environ, capture_output=True, text=True, timeout=120, check=True)
    assert plain.stdout.startswith("p: ")
    assert "no DAGSTER_HOME" in plain.stdout
    (home / "dagster.yaml").write_text("storage: {broken\n")
    environ["DAGSTER_HOME"] = str(home)
    broken = subprocess.run([CORTEX, "prune"], env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert (broken.returncode, broken.stderr.count("\n")) == (2, 1)


def test_the_daily_job_prunes_every_project_and_is_on_from_the_start(variables, settings, home):
    from cortex_pipelines.resources import resources

    for name in ("p", "q"):
        publish(ProjectStore(settings.store, name, settings.state), a="1")
    with dg.DagsterInstance.get() as instance:
        ran(instance, idle, "a")
        ran(instance, idle, "a")
        done = upkeep.execute_in_process(
            instance=instance,
            resources=resources(variables),
            run_config={"ops": {"prune_runs": {"config": {"run_days": 0}}}},
        )
        assert done.success
        # Its own run is under way, and the newest of the other job is kept.
        assert instance.get_runs_count() == 2
    assert daily_upkeep.default_status is dg.DefaultScheduleStatus.RUNNING


def test_one_project_that_cannot_be_pruned_keeps_none_of_the_others_from_it_and_fails_the_run(variables, settings):
    from cortex_pipelines.resources import resources

    good = ProjectStore(settings.store, "q", settings.state)
    publish(ProjectStore(settings.store, "p", settings.state), a="1")
    publish(good, a="1")
    left = aged(Path(good.uri, "publication.x.tmp"))
    Path(settings.store, "p", "schema.json").write_text('{"schema": 99}')
    done = upkeep.execute_in_process(resources=resources(variables), raise_on_error=False)
    assert not done.success
    assert not left.exists()


def test_the_code_location_holds_the_job_and_its_schedule(settings):
    from cortex_pipelines.definitions import build_definitions

    definitions = build_definitions(settings)
    assert definitions.resolve_job_def("upkeep").name == "upkeep"
    assert definitions.resolve_schedule_def("daily_upkeep").job_name == "upkeep"


def test_a_time_is_compared_in_utc(home, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        with dg.DagsterInstance.get() as instance:
            ran(instance, idle, "a")
            ran(instance, idle, "a")
            assert delete_old_runs(instance, days=1) == 0
            [record, _] = instance.get_run_records()
            assert abs(record.update_timestamp.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(hours=1)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
