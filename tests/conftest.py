"""Fixtures every test may use: the sample inbox, built once, and settings that point into the test's own folder."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cortex_pipelines.settings import Settings, load_settings
from cortex_pipelines.stairs import Work
from cortex_pipelines.store import ProjectStore
from tests.servers import postgres

pytest_plugins = ["tests.servers.fixtures"]

if TYPE_CHECKING:
    import click.testing

ROOT = Path(__file__).parent.parent


# What the tests of a marker need, whether it is there, and the words where it is not.
NEEDED = {
    "vllm": (os.environ.get("VLLM_PYTHON"), "a real vLLM: VLLM_PYTHON names no Python that has it (docs/lanes.md)"),
    "router": (os.environ.get("LLAMA_SERVER"), "a real llama.cpp router: LLAMA_SERVER names none (docs/lanes.md)"),
    "postgres": (postgres.PROGRAMS, "a real PostgreSQL: postgresql is not installed"),
    "redis": (shutil.which("redis-server"), "a real Redis: redis-server is not installed"),
    "kubectl": (shutil.which("kubectl"), "kustomize: kubectl is not installed"),
    "libreoffice": (shutil.which("soffice"), "files made by LibreOffice: libreoffice-writer is not installed"),
    "tesseract": (shutil.which("tesseract"), "images with text: tesseract-ocr is not installed"),
    "docker": (
        os.environ.get("CORTEX_DOCKER_TESTS") == "1" and all(map(shutil.which, ("dockerd", "docker-compose"))),
        "a real container engine: CORTEX_DOCKER_TESTS is not 1, or docker is not installed (docs/deployment.md)",
    ),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a server that is not there."""
    missing = [marker for marker, (there, _) in NEEDED.items() if not there]
    without = [item for item in items if any(item.get_closest_marker(marker) for marker in missing)]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if item not in without]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it."""
    told = [words for there, words in NEEDED.values() if not there]
    if told:
        terminalreporter.section("LEFT OUT")
    for words in told:
        terminalreporter.line(f"the tests against {words}")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CORTEX_", "ARGOS_", "DAGSTER_")) or name == "HF_TOKEN":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def built_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inbox that holds the sample project `kestrel`. Do not write into it."""
    from examples.build_sample import build_sample

    inbox = tmp_path_factory.mktemp("sample") / "inbox"
    build_sample(inbox)
    return inbox


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The variables of an empty installation in the test's own folder."""
    (tmp_path / "inbox").mkdir()
    return {
        "CORTEX_INBOX": str(tmp_path / "inbox"),
        "CORTEX_STORE": str(tmp_path / "store"),
        "CORTEX_REPORTS": str(tmp_path / "reports"),
        "CORTEX_STATE": str(tmp_path / "state"),
    }


@pytest.fixture
def cortex(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., "click.testing.Result"]:
    """Run the command in an empty installation."""
    from click.testing import CliRunner

    from cortex_pipelines.cli import main

    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(main, list(arguments))


@pytest.fixture
def settings(variables: dict[str, str]) -> Settings:
    """The settings of an empty installation in the test's own folder."""
    return load_settings(variables, env_file=None)


@pytest.fixture
def work(settings: Settings) -> Work:
    """An empty project `atlas` to build."""
    (settings.inbox / "atlas").mkdir()
    return Work("atlas", settings, ProjectStore(settings.store, "atlas", settings.state))


@pytest.fixture
def folder(work: Work) -> Path:
    """The folder of the project `atlas`."""
    return work.settings.inbox / work.project


@pytest.fixture
def sample(built_sample: Path, settings: Settings) -> Path:
    """The sample project `kestrel`, copied into the test's own inbox."""
    folder = settings.inbox / "kestrel"
    shutil.copytree(built_sample / "kestrel", folder, symlinks=True)
    return folder
