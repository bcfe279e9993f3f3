"""The command that CI runs, `dagster asset materialize`, really run."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

pytestmark = pytest.mark.heavy


def materialize(
    variables: dict[str, str], *arguments: str, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environ = os.environ | variables | ({"DAGSTER_HOME": str(home)} if home else {})
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "--select", "*"]
    return subprocess.run(
        [*command, "-m", "cortex_pipelines.definitions", *arguments],
        check=False,
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_named_project_is_materialized_without_a_registered_instance(variables, sample, settings):
    done = materialize({**variables, "CORTEX_PROJECTS": "kestrel"}, "--partition", "kestrel")
    assert done.returncode == 0, done.stderr[-4000:]
    assert (settings.reports / "kestrel" / "roadmap.md").is_file()


def test_a_failed_blocking_check_exits_with_1(variables, settings):
    folder = settings.inbox / "unsafe"
    folder.mkdir()
    (folder / "prd.md").write_text(
        "# Product requirements\n\n- REQ-1: The service must disable TLS verification when it sends passwords.\n"
    )
    done = materialize({**variables, "CORTEX_PROJECTS": "unsafe"}, "--partition", "unsafe")
    assert done.returncode == 1
    assert "no_blocking_findings" in done.stderr + done.stdout


def test_a_project_that_is_not_named_is_refused(variables, sample):
    done = materialize({**variables, "CORTEX_PROJECTS": "other"}, "--partition", "kestrel")
    assert done.returncode == 1


def test_a_registered_dynamic_partition_is_materialized(variables, settings, tmp_path):
    (settings.inbox / "notes").mkdir()
    (settings.inbox / "notes" / "a.md").write_text("# A\n\nSomething worth keeping.\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("projects", ["notes"])
    done = materialize(variables, "--partition", "notes", home=home)
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_bad_variable_is_one_clear_line(variables):
    done = materialize({**variables, "CORTEX_EXECUTOR": "warp"}, "--partition", "x")
    assert done.returncode != 0
    assert "CORTEX_EXECUTOR=warp (from environment)" in done.stderr
