"""The Makefile installs what is locked, with uv and with plain pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.install, pytest.mark.timeout(1_500)]

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_fresh_environment_is_made_and_the_command_works(tmp_path, installer):
    project = tmp_path / "project"
    project.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, project / name)
    for name in ("cortex_pipelines", "requirements"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    venv = tmp_path / "venv"
    uv = str(Path(sys.executable).with_name("uv")) if installer == "uv" else ""
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = ["make", f"VENV={venv}", f"UV={uv}", f"PYTHON={sys.executable}", f"{venv}/installed"]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    told = subprocess.run([str(venv / "bin" / "cortex"), "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith("0.1.0")
    check = [str(venv / "bin" / "python"), "-c", "import dagster, lancedb, cortex_pipelines.definitions"]
    subprocess.run(check, cwd=tmp_path, check=True, capture_output=True)
    # Installing again does nothing.
    assert (
        "up to date"
        in subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=True).stdout
    )


def test_the_locks_are_hashed_and_name_no_address():
    for name in ("run.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "index-url" not in text
