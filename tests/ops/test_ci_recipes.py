"""The recipes for CI, run as they are written: in a checkout that passes, in one that does not, and a second time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.ingest.git_building import make_repository

ROOT = Path(__file__).parents[2]
PRD = "# Product requirements\n\n## Requirements\n\n- R-1: The service must answer within 2 seconds.\n"
INSTALL = "pip install cortex-pipelines"


def github() -> tuple[dict[str, str], list[str]]:
    job = yaml.safe_load((ROOT / "ops" / "ci" / "github-actions.yml").read_text())["jobs"]["gate"]
    return job["env"], [step["run"].strip() for step in job["steps"] if "run" in step]


def gitlab() -> tuple[dict[str, str], list[str]]:
    job = yaml.safe_load((ROOT / "ops" / "ci" / "gitlab-ci.yml").read_text())["cortex"]
    return job["variables"], [*job["before_script"], *job["script"]]


@pytest.fixture(params=[github, gitlab], ids=["github", "gitlab"])
def recipe(request, tmp_path) -> Callable[[Path], "subprocess.CompletedProcess[str]"]:
    """Run every command of a recipe but the installation, in order, until one fails."""
    environ, commands = request.param()
    assert commands.pop(0) == INSTALL

    def run(checkout: Path) -> "subprocess.CompletedProcess[str]":
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        script = "set -e\n" + "\n".join(commands)
        given = {"PATH": path, "HOME": str(tmp_path), "CI": "true", **environ}
        return subprocess.run(
            ["bash", "-c", script], check=False, cwd=checkout, env=given, capture_output=True, text=True, timeout=200
        )

    return run


@pytest.fixture
def checkout(tmp_path) -> Path:
    return make_repository(
        tmp_path / "checkout", {"docs/prd.md": PRD, "service.py": "def answer(text):\n    return eval(text)\n"}
    )


@pytest.mark.heavy
def test_a_checkout_passes_and_the_second_time_only_what_changed_is_done(recipe, checkout):
    first = recipe(checkout)
    assert first.returncode == 0, first.stderr[-2_000:]
    reports = checkout / ".cortex-ci" / "reports" / "review"
    assert "R\\-1" in (reports / "gap_report.md").read_text()
    assert (reports / "compliance_report.html").is_file()
    assert (reports / "code_analyses.md").is_file()
    # What a code host is given is about files of the checkout.
    told = json.loads((reports / "code_analyses.sarif").read_text())
    found = [result for run in told["runs"] for result in run["results"]]
    places = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in found}
    assert places and all((checkout / place).is_file() for place in places)
    before = (checkout / ".cortex-ci" / "store" / "review" / "publication.json").read_bytes()
    again = recipe(checkout)
    assert again.returncode == 0, again.stderr[-2_000:]
    assert (checkout / ".cortex-ci" / "store" / "review" / "publication.json").read_bytes() == before


@pytest.mark.heavy
def test_a_blocking_finding_fails_the_gate_and_its_report_is_there(recipe, checkout):
    unsafe = "- R-2: The service must disable TLS verification when it sends passwords.\n"
    (checkout / "docs" / "prd.md").write_text(PRD + unsafe)
    failed = recipe(checkout)
    assert failed.returncode == 1, failed.stdout[-2_000:]
    assert (checkout / ".cortex-ci" / "reports" / "review" / "compliance_report.md").is_file()
