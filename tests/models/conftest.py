"""What the tests of models share: a hub with a small model, a manifest that names it, and the command."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from cortex_pipelines.cli import main
from cortex_pipelines.models import downloads
from tests.servers.hub import Hub, serving

WEIGHTS = random.Random(7).randbytes(3_000_000)
SMALL = b'{"model_type": "llama"}'
ENTRY = {
    "name": "reader",
    "lane": "GOVERNANCE",
    "kind": "gguf",
    "repository": "team/reader",
    "revision": "main",
    "files": [{"path": "weights.gguf"}, {"path": "*.json"}],
    "licence": "apache-2.0",
    "gated": False,
    "non_commercial": False,
    "profiles": ["laptop"],
    "why": "a test wants it",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that holds `team/reader`: weights of 3 MB and a small file."""
    with serving(Hub({"team/reader": {"weights.gguf": WEIGHTS, "config.json": SMALL}})) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where models are put."""
    return tmp_path / "models"


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write a manifest of the small model with some fields changed, or of several of those."""

    def write(*changes: dict[str, object], **changed: object) -> Path:
        path = tmp_path / "ours.yaml"
        models = [ENTRY | change for change in changes or (changed,)]
        path.write_text(yaml.safe_dump({"version": 1, "models": models}))
        return path

    return write


@pytest.fixture
def environment(hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The local hub is the mirror, and nobody waits long for it."""
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    values = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    for name, value in (values | {"no_proxy": "127.0.0.1", "ARGOS_MODELS_DIR": str(folder)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def models(environment: None, manifest: Callable[..., Path]) -> Callable[..., Result]:
    """Run `cortex models` in this process; without a manifest of its own, the small model's."""

    def call(*arguments: str) -> Result:
        own = [] if "--manifest" in arguments else ["--manifest", str(manifest())]
        return CliRunner().invoke(main, ["models", *arguments, *own])

    return call


@pytest.fixture
def started(environment: None) -> Callable[..., "subprocess.Popen[str]"]:
    """Start `cortex models` as a process of its own."""

    def start(*arguments: str, **more: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", "from cortex_pipelines.cli import main; main()", "models", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload,no-any-return]

    return start
