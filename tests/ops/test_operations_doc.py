"""docs/operations.md does what it says: every line of every block is run, in order, and prints what stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cortex_pipelines.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Between commands the shell tells where it is.
MARK = "==== end of a command ===="


def steps():
    """Each command of the page, and what is printed below it; None where the page does not say."""
    for language, block in BLOCK.findall(PAGE):
        if language == "sh":
            yield block, None
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield command, printed


def matches(printed, expected):
    """Whether what was printed is what the page shows, where `...` stands for anything."""
    pattern = ".*".join(re.escape(piece) for piece in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def test_every_block_is_one_that_is_run():
    blocks = BLOCK.findall(PAGE)
    assert PAGE.count("```") == 2 * len(blocks)
    assert {language for language, _ in blocks} == {"sh", "console"}
    assert all(block.startswith("$ ") for language, block in blocks if language == "console")


def test_every_command_that_is_named_in_the_text_is_there():
    named = re.findall(r"`cortex ([a-z]+)(?: ([a-z]+))?", PAGE)
    assert len(named) >= 5
    for name, sub in named:
        command = main.commands[name]
        assert not sub or sub in getattr(command, "commands", {}), (name, sub)


@pytest.mark.heavy
def test_every_command_of_the_page_does_what_the_page_says(sample, settings, tmp_path):
    folder = tmp_path / "installation"
    folder.mkdir()
    shutil.move(settings.inbox, folder / "inbox")
    shutil.copytree(ROOT / "ops", folder / "ops", ignore=shutil.ignore_patterns("models", ".*"))
    commands = list(steps())
    # One shell for all: what one exports holds for those that follow.
    script = "set -euo pipefail\nexec 2>&1\n" + "".join(f"{command}\necho '{MARK}'\n" for command, _ in commands)
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environ, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=280, check=False
    )
    printed = done.stdout.split(MARK)
    assert done.returncode == 0, done.stdout[-3_000:]
    assert len(printed) == len(commands) + 1
    for (command, expected), output in zip(commands, printed, strict=False):
        # What is told of progress goes to the error output and ends with the answer.
        shown = re.sub(r"^kestrel: [a-z_]+(, \d+ batches)?\n", "", output.strip() + "\n", flags=re.MULTILINE)
        assert expected is None or matches(shown, expected), f"$ {command}\n{output}\n--- instead of\n{expected}"
