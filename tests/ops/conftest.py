"""A Dagster instance of the test's own."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an instance with SQLite, set as this project sets it, which `DAGSTER_HOME` names."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copyfile(ROOT / "ops" / "dagster.yaml", folder / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    return folder
