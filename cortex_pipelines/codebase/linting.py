"""Ruff over Python files, on a copy of their text alone: no repository, no configuration, no names of theirs."""

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from posixpath import basename
from subprocess import Popen

from cortex_pipelines import confined
from cortex_pipelines.codebase.rules import RUFF_IGNORED, RUFF_RULES
from cortex_pipelines.errors import CortexError

# Ruff reads 20 MB in a second of one core: more is a file made to hang it, such as a long `a=a=a=…`.
LEAST_SECONDS = 10.0
SECONDS_PER_MEGABYTE = 1.0
# All runs over the files of one call, so that many such files do not take hours.
MOST_SECONDS = 600.0
# A finding takes some 500 bytes; one file of 1 MB can have 100,000.
OUTPUT_BYTES = 512 * 2**20
FINDINGS_PER_FILE = 200
# The newest syntax, so that no file is refused for being too new.
TARGET_VERSION = "py314"

SYNTAX_ERROR = "invalid-syntax"


class LinterMissing(CortexError):
    """There is no ruff to run."""


@dataclass(frozen=True, slots=True)
class Lint:
    """What ruff says of a place: lines and columns are 1-based, `line_end` is inclusive."""

    code: str
    message: str
    line_start: int
    line_end: int
    column: int


@dataclass
class LintRun:
    """Findings by file, for every file that was read; why the others were not; how many findings were cut off."""

    found: dict[str, list[Lint]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    cut: int = 0


def lint(files: Mapping[str, str]) -> LintRun:
    """Run ruff over texts by name; a file that it cannot read fails alone, with its reason.

    Raises `LinterMissing` when ruff is not installed.
    """
    program = _program()
    run = LintRun()
    names = list(files)
    deadline = time.monotonic() + MOST_SECONDS
    with tempfile.TemporaryDirectory(prefix="cortex-lint-") as folder:
        paths = [_write(Path(folder), number, name, files[name]) for number, name in enumerate(names)]
        todo = [slice(0, len(names))] if names else []
        while todo:
            part = todo.pop()
            size = sum(len(files[name]) for name in names[part])
            seconds = min(LEAST_SECONDS + SECONDS_PER_MEGABYTE * size / 1e6, deadline - time.monotonic())
            fault = _run(program, paths[part], seconds, names, run) if seconds > 0 else "there was no time left for it"
            middle = (part.start + part.stop) // 2
            if fault and middle > part.start and seconds > 0:
                # One file breaks ruff for all: look for it in each half.
                todo += [slice(middle, part.stop), slice(part.start, middle)]
            elif fault:
                run.failed |= dict.fromkeys(names[part], f"ruff: {fault}")
    return run


@cache
def _program() -> str:
    try:
        from ruff import find_ruff_bin  # type: ignore[import-untyped]

        return str(find_ruff_bin())
    except (ImportError, FileNotFoundError):
        raise LinterMissing("ruff is not installed: install cortex-pipelines with its dependencies") from None


def _write(folder: Path, number: int, name: str, text: str) -> Path:
    """A file under a name of ours; of its own it keeps what rules look at: whether it is a package or a stub."""
    path = folder / f"{number}{'.pyi' if name.endswith('.pyi') else '.py'}"
    if basename(name) == "__init__.py":
        path = folder / str(number) / "__init__.py"
        path.parent.mkdir()
    # Ruff ends a line at a lone carriage return; lines here end at line feeds.
    path.write_bytes(text.replace("\r\n", "\n").replace("\r", " ").encode("utf-8", "replace"))
    return path


def _number(path: Path) -> int:
    return int(path.parent.name if path.stem == "__init__" else path.stem)


def _run(program: str, paths: Sequence[Path], seconds: float, names: Sequence[str], run: LintRun) -> str | None:
    """Run ruff over some of the files and keep what it finds; the reason when it did not end well."""
    command = [
        *(program, "check", "--isolated", "--no-cache", "--quiet"),
        *("--output-format", "json-lines", "--target-version", TARGET_VERSION),
        *("--select", ",".join(RUFF_RULES), "--ignore", ",".join(RUFF_IGNORED), "--", *map(str, paths)),
    ]
    found: dict[str, list[Lint]] = {names[_number(path)]: [] for path in paths}
    failed: dict[str, str] = {}
    cut = 0
    expired = threading.Event()
    process = confined.start(command)

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, expire)
    timer.start()
    try:
        for number, told in _told(process):
            name = names[number]
            if told.code == SYNTAX_ERROR:
                failed.setdefault(name, f"ruff: line {told.line_start}: {told.message}")
            elif len(found[name]) < FINDINGS_PER_FILE:
                found[name].append(told)
            else:
                cut += 1
        # 0: nothing found; 1: something found.
        ended = process.wait() in (0, 1)
    except ValueError:
        ended = False
    finally:
        timer.cancel()
        confined.stop(process)
    if expired.is_set():
        return f"it took more than {seconds:.0f} s"
    if not ended:
        return "it crashed, ran out of memory or said too much"
    run.found |= {name: lints for name, lints in found.items() if name not in failed}
    run.failed |= failed
    run.cut += cut
    return None


def _told(process: "Popen[bytes]") -> Iterator[tuple[int, Lint]]:
    """What ruff says, with the number of the file; `ValueError` when it ends within a line or does not end."""
    assert process.stdout is not None
    room = OUTPUT_BYTES
    for line in process.stdout:
        room -= len(line)
        if room < 0:
            raise ValueError("too much output")
        told = json.loads(line)
        # A fault of a whole file has no place.
        start = told["location"] or {"row": 1, "column": 1}
        end = told["end_location"] or start
        # A range that ends before the first column does not hold that line.
        last = end["row"] - (end["column"] == 1 and end["row"] > start["row"])
        lint = Lint(told["code"] or SYNTAX_ERROR, told["message"], start["row"], last, start["column"])
        yield _number(Path(told["filename"])), lint
