"""What Prometheus scrapes, over HTTP; and that what is drawn and alerted on is there."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import dagster as dg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cortex_pipelines.lanes import Lanes
from cortex_pipelines.names import Lane
from cortex_pipelines.running import run_project
from cortex_pipelines.settings import load_settings
from tests.servers.faults import serving

ROOT = Path(__file__).parents[1]


@pytest.fixture
def scraped(sample, variables, tmp_path):
    """The metrics of the sample project, of a lane that was called, and of an instance with no run."""
    with serving() as server:
        given = variables | {"ARGOS_LANE_CODER_URL": server.url}
        settings = load_settings(given, env_file=None)
        run_project("kestrel", settings)
        Lanes(settings).complete(Lane.CODER, [{"role": "user", "content": "x"}], max_tokens=5)
    (tmp_path / "home").mkdir()
    dg.DagsterInstance.local_temp(str(tmp_path / "home")).dispose()
    environ = given | {"DAGSTER_HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "cortex_pipelines.exporter", "--port", "0"]
    process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
    finally:
        process.kill()
        process.wait()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }, {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_projects_lanes_and_runs_are_scraped_and_what_is_drawn_is_there(scraped):
    values, names = scraped
    assert values["cortex_product_value", "documents", "kestrel", "quarantined"] == 2
    assert values["cortex_check_passed", "error", "evidence_resolves", "kestrel", "roadmap"] == 1
    assert values["cortex_check_passed", "documents", "kestrel", "quarantine", "warning"] == 0
    assert [value for key, value in values.items() if key[0] == "cortex_lane_answered_total"] == [1]
    assert values["cortex_runs", "queued"] == 0
    assert values["cortex_runs_failed_last_day",] == 0
    assert any(key[0] == "cortex_published_timestamp_seconds" for key in values)
    for file in ("ops/grafana/cortex.json", "ops/prometheus/alerts.yml"):
        drawn = set(re.findall(r"\bcortex_[a-z0-9_]+", (ROOT / file).read_text()))
        assert drawn
        assert drawn <= names


def test_the_dashboard_is_one_that_grafana_reads():
    board = json.loads((ROOT / "ops" / "grafana" / "cortex.json").read_text())
    assert board["title"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) > 5
    for panel in board["panels"]:
        assert panel["targets"]
        assert {"x", "y", "w", "h"} <= panel["gridPos"].keys()
