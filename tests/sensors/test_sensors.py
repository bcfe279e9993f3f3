"""What the sensors and the schedule ask for, tick by tick."""

import os
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import dagster as dg
import pytest

from cortex_pipelines import sensors as module
from cortex_pipelines.definitions import project_partitions
from cortex_pipelines.ingest import watch
from cortex_pipelines.ingest.manifest import Manifest
from cortex_pipelines.ingest.scan import QUIET_SECONDS, scan
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.resources import QUIET_TAG
from cortex_pipelines.sensors import project_automation
from cortex_pipelines.settings import load_settings
from tests.ingest.git_building import commit_files, make_repository


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves."""
    clock = [time.time()]
    clocks = SimpleNamespace(time=lambda: clock[0], monotonic=time.monotonic, thread_time=time.thread_time)
    monkeypatch.setattr(watch, "time", clocks)
    return clock


@pytest.fixture
def tick(settings, now):
    """One tick of a sensor by its name, ten seconds after the last."""
    instance = dg.DagsterInstance.ephemeral()
    projects = project_partitions(settings)
    found = {sensor.name: sensor for sensor in project_automation(settings, projects)[0]}

    def run(name, cursor=None, given=None):
        now[0] += 10
        sensors = (
            found if given is None else {s.name: s for s in project_automation(given, project_partitions(given))[0]}
        )
        return sensors[name](dg.build_sensor_context(instance=instance, cursor=cursor))

    return run


def drop(settings, name, text="words"):
    path = settings.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    return path


def asked(result):
    return [] if isinstance(result, dg.SkipReason) else [request.partition_key for request in result.run_requests]


def scanned(settings, project):
    with Manifest(settings.state / project / "manifest.db") as manifest:
        scan(settings.inbox / project, manifest)


def test_a_dropped_file_is_asked_for_when_it_rests_and_its_project_is_registered_at_once(tick, settings):
    drop(settings, "atlas/a.md")
    first = tick("dropped_files")
    assert asked(first) == []
    [added] = first.dynamic_partitions_requests
    result = tick("dropped_files")
    assert asked(result) == ["atlas"]
    assert (added.partitions_def_name, list(added.partition_keys)) == ("projects", ["atlas"])
    [request] = result.run_requests
    assert request.tags[QUIET_TAG]
    assert dg.AssetKey("deep_ingest_audits") not in request.asset_selection
    assert len(request.asset_selection) == len(PRODUCTS) - 1


def test_until_a_run_has_seen_it_the_same_request_has_the_same_key(tick, settings):
    drop(settings, "atlas/a.md")
    tick("dropped_files")
    keys = {tick("dropped_files").run_requests[0].run_key for _ in range(3)}
    assert len(keys) == 1
    scanned(settings, "atlas")
    assert asked(tick("dropped_files")) == []


def test_a_large_file_and_a_new_commit_ask_for_the_deep_audits(tick, settings):
    drop(settings, "atlas/big.log", "x" * (module.WINDOW_BYTES + 1))
    tick("dropped_files")
    assert dg.AssetKey("deep_ingest_audits") in tick("dropped_files").run_requests[0].asset_selection
    repository = make_repository(settings.inbox / "other" / "r", {"a.py": "a\n"})
    tick("new_commits")
    assert asked(tick("new_commits")) == ["other"]
    scanned(settings, "other")
    assert asked(tick("new_commits")) == []
    commit_files(repository, {"a.py": "b\n"})
    tick("new_commits")
    result = tick("new_commits")
    assert asked(result) == ["other"]
    assert dg.AssetKey("deep_ingest_audits") in result.run_requests[0].asset_selection


def test_at_most_fifty_are_asked_for_at_once_and_the_rest_come_next(tick, settings):
    for number in range(120):
        drop(settings, f"p{number:03d}/a.md")
    tick("dropped_files")
    seen, cursor = [], None
    for _ in range(10):
        result = tick("dropped_files", cursor)
        if isinstance(result, dg.SkipReason):
            break
        assert len(result.run_requests) <= module.REQUESTS_PER_TICK
        cursor = result.cursor
        assert len(cursor) <= 100
        for project in asked(result):
            seen.append(project)
            scanned(settings, project)
    assert sorted(seen) == [f"p{number:03d}" for number in range(120)]


def test_only_named_projects_are_watched_where_projects_are_named(tick, settings, variables):
    named = load_settings({**variables, "CORTEX_PROJECTS": "b"}, env_file=None)
    for name in ("a", "b"):
        drop(settings, f"{name}/x.md")
    tick("dropped_files", given=named)
    result = tick("dropped_files", given=named)
    assert asked(result) == ["b"]
    assert not result.dynamic_partitions_requests


def test_a_folder_that_is_no_project_and_links_are_not_followed(tick, settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.md").write_text("x")
    (settings.inbox / "link").symlink_to(tmp_path / "elsewhere")
    drop(settings, "no good name/a.md")
    tick("dropped_files")
    assert asked(tick("dropped_files")) == []


def test_the_weekly_audit_asks_for_every_project_once(settings, variables):
    named = load_settings({**variables, "CORTEX_PROJECTS": "a,b"}, env_file=None)
    [audit] = project_automation(named, project_partitions(named))[1]
    assert audit.cron_schedule == "0 5 * * 1"
    at = datetime(2026, 11, 23, 5, tzinfo=UTC)
    context = dg.build_schedule_context(instance=dg.DagsterInstance.ephemeral(), scheduled_execution_time=at)
    requests = list(audit(context))
    assert [(request.partition_key, request.run_key) for request in requests] == [
        ("a", "a@2026-11-23"),
        ("b", "b@2026-11-23"),
    ]


def test_all_are_on_from_the_start(settings):
    sensors, schedules = project_automation(settings, project_partitions(settings))
    assert all(sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in sensors)
    assert all(schedule.default_status is dg.DefaultScheduleStatus.RUNNING for schedule in schedules)


def test_a_tick_over_many_files_is_quick(settings, tick):
    folder = settings.inbox / "many"
    folder.mkdir()
    for number in range(5_000):
        (folder / f"{number}.md").write_bytes(b"x")
    began = time.process_time()
    tick("dropped_files")
    # A tick is cut off after 60 s; this is a bound against work that is not linear, not a measurement.
    assert time.process_time() - began < 10


@pytest.fixture
def waiting_tick(settings, monkeypatch):
    """A tick of `dropped_files` in a daemon that gives each sensor a thread, by the real clock."""
    [sensor] = [s for s in project_automation(settings, project_partitions(settings))[0] if s.name == "dropped_files"]

    def run(seconds):
        monkeypatch.setattr(module, "WAIT_SECONDS", seconds)
        with dg.DagsterInstance.ephemeral(settings={"sensors": {"use_threads": True}}) as instance:
            return sensor(dg.build_sensor_context(instance=instance))

    return run


def test_a_tick_that_may_wait_asks_for_a_dropped_file_as_soon_as_it_rests(waiting_tick, settings):
    dropping = threading.Timer(0.5, drop, [settings, "atlas/a.md"])
    dropping.start()
    began = time.monotonic()
    result = waiting_tick(60)
    took = time.monotonic() - began
    assert asked(result) == ["atlas"]
    assert [list(added.partition_keys) for added in result.dynamic_partitions_requests] == [["atlas"]]
    assert QUIET_SECONDS < took < QUIET_SECONDS + 20


def test_a_tick_that_may_wait_ends_in_time_where_nothing_lands(waiting_tick, settings):
    began = time.monotonic()
    assert isinstance(waiting_tick(0.3), dg.SkipReason)
    assert 0.3 <= time.monotonic() - began < 10
