"""Runs that fail: which are started again, and which are found to have no process any more."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
import yaml

from cortex_pipelines.assets.outcome import NO_RETRY
from cortex_pipelines.sensors.lost_runs import _alive
from cortex_pipelines.settings import load_settings

OPS = Path(__file__).parents[2] / "ops"


@pytest.fixture
def run(variables):
    """Materialize a project; whether it went well, and the tags of its run."""
    # It reads the environment when it is imported.
    from cortex_pipelines.definitions import build_definitions

    definitions = build_definitions(load_settings(variables, env_file=None), variables)

    def materialize(project: str) -> tuple[bool, dict[str, str]]:
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions("projects", [project])
            job = definitions.resolve_implicit_global_asset_job_def()
            done = job.execute_in_process(instance=instance, partition_key=project, raise_on_error=False)
            return done.success, dict(instance.get_run_by_id(done.run_id).tags)

    return materialize


@pytest.mark.parametrize("path", sorted(OPS.glob("dagster*.yaml")))
def test_a_run_that_failed_is_started_again(path):
    assert yaml.safe_load(path.read_text())["run_retries"]["retry_on_asset_or_op_failure"] is True


def test_but_not_where_a_check_stopped_it(run, settings):
    (settings.inbox / "notes").mkdir()
    (settings.inbox / "notes" / "prd.md").write_text(
        "# Product requirements\n\n## Requirements\n\n"
        "- REQ-1: The service must disable TLS verification when it sends passwords.\n"
    )
    success, tags = run("notes")
    assert not success
    assert NO_RETRY.items() <= tags.items()


def test_nor_where_a_step_says_what_is_wrong(run, settings):
    (settings.inbox / "notes").mkdir()
    (settings.inbox / "notes" / "a.md").write_text("# A\n\nThe ferry leaves at seven.\n")
    success, tags = run("notes")
    assert success
    assert not NO_RETRY.items() <= tags.items()
    Path(settings.store, "notes", "schema.json").write_text('{"schema": 9999}')
    success, tags = run("notes")
    assert not success
    assert NO_RETRY.items() <= tags.items()


def test_a_process_is_known_by_its_number_and_by_when_it_was_started():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        told = time.time()
        assert _alive(process.pid, told)
        assert _alive(process.pid, told + 3600)
        if Path("/proc/self/stat").exists():
            # The number was told by another process, an hour before this one was started.
            assert not _alive(process.pid, told - 3600)
            process.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            # It has ended, and nobody has asked after it.
            assert not _alive(process.pid, told)
    finally:
        process.kill()
        process.wait()
    assert not _alive(process.pid, told)
