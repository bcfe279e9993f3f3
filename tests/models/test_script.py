"""`ops/download_all_models.sh`, with the shipped manifest, against the local hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cortex_pipelines.models.manifest import Profile, load_manifest

SCRIPT = Path(__file__).parents[2] / "ops" / "download_all_models.sh"


@pytest.fixture
def script(environment, hub, folder, tmp_path):
    """Run a copy of the script beside no checkout, with the command of this environment on the path."""
    for model in load_manifest().models:
        names = [file.path.replace("*", "-one") for file in model.files]
        hub.repositories[model.repository] = {name.lstrip("-"): f"{model.name} {name}".encode() * 99 for name in names}
    copied = tmp_path / "elsewhere" / "ops" / SCRIPT.name
    copied.parent.mkdir(parents=True)
    shutil.copy(SCRIPT, copied)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "cortex").write_text(f"#!{sys.executable}\nfrom cortex_pipelines.cli import main\nmain()\n")
    (commands / "cortex").chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    root = str(SCRIPT.parents[1])

    def call(*arguments, **more):
        environ = os.environ | {"PATH": path, "PYTHONPATH": root} | more
        command = ["bash", str(copied), "--models-dir", str(folder), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)

    return call


def test_a_dry_run_tells_everything_and_writes_nothing(script, folder):
    done = script("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "vllm/Qwen3-Coder-30B-A3B-Instruct-AWQ-4bit/" in done.stdout
    assert "UltraLong" not in done.stdout
    assert "--accept-licence cc-by-nc-4.0" in done.stderr
    assert not folder.exists()


def test_it_downloads_every_model_of_the_reference_box_and_finds_a_flipped_bit(script, folder):
    done = script("--accept-licence", "cc-by-nc-4.0")
    assert done.returncode == 0, done.stderr
    expected = {model.folder for model in load_manifest().models if Profile.STRIX in model.profiles}
    assert {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")} == expected
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"vllm", "gguf", "embeddings"}
    assert script("--accept-licence", "cc-by-nc-4.0", "--verify").returncode == 0
    (changed,) = folder.glob("gguf/granite-4.0-h-small/*.gguf")
    content = bytearray(changed.read_bytes())
    content[0] ^= 1
    changed.write_bytes(content)
    found = script("--verify")
    assert found.returncode == 1
    assert changed.name in found.stderr


def test_kinds_are_skipped_and_a_failure_is_told_by_the_exit_code(script, hub, folder):
    done = script("--skip-vllm", "--skip-embeddings")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["gguf"]
    del hub.repositories["intfloat/multilingual-e5-small"]
    assert script("--profile", "laptop", "--skip-gguf").returncode == 1
    assert script("--skip-gguf", HF_ENDPOINT="http://127.0.0.1:9").returncode == 1


@pytest.mark.parametrize("wrong", [("--skip-everything",), ("--profile", "mainframe"), ("--profile",)])
def test_a_wrong_option_is_no_success(script, folder, wrong):
    assert script(*wrong).returncode != 0
    assert not folder.exists()
