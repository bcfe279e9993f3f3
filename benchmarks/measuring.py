"""Whole processes measured: wall time, CPU time with that of children, peak memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds, and the most resident memory of it or one of its children, in MB (2**20 bytes)."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


class ProcessFailed(RuntimeError):
    """A measured process did not end well."""


def measure(
    command: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[Cost, str]:
    """Run a command to its end; its cost, and what it wrote to its standard output."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            list(command),
            env={**os.environ, **(environ or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            raise ProcessFailed(f"{command[0]} ended with {process.returncode}: {errors.read()[-2_000:].decode()}")
        # Linux counts in KB, macOS in bytes.
        peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return Cost(round(wall, 2), round(used.ru_utime + used.ru_stime, 2), round(peak, 1)), out.read().decode()


def cortex(folder: Path, *arguments: str) -> tuple[Cost, str]:
    """Run `cortex` with its inbox, store, state and reports in a folder."""
    places = {f"CORTEX_{part.upper()}": str(folder / part) for part in ("inbox", "store", "state", "reports")}
    return measure([str(Path(sys.executable).with_name("cortex")), *arguments], places)


def figures(costs: Mapping[str, Cost]) -> dict[str, float]:
    """Costs as named figures."""
    return {f"{name}_{what}": value for name, cost in costs.items() for what, value in asdict(cost).items()}


def table(costs: Mapping[str, Cost]) -> str:
    """Costs as a table in Markdown."""
    rows = [f"| {name} | {c.wall_seconds:.1f} | {c.cpu_seconds:.1f} | {c.peak_mb:.0f} |" for name, c in costs.items()]
    return "\n".join(["| what | wall s | CPU s | peak MB |", "|---|---|---|---|", *rows])
