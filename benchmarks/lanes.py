"""Lanes: what a call costs, beside the openai client and LiteLLM's Router, on a server in a process of its own.

    python -m benchmarks.lanes [--peers PYTHON] [--calls N] [--json]

PYTHON is an interpreter that has litellm and openai; without one they are installed into an environment of their own,
with uv. Where that cannot be, their figures are left out and it is said so.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measuring import ProcessFailed, measure

PEERS = ("litellm==1.110.2", "openai==3.57.0")
IN_FLIGHT = (1, 64, 256)
ROOT = Path(__file__).parents[1]
CLIENT = str(Path(__file__).with_name("lane_client.py"))


# What a server takes for an answer where it is asked how much later than that it comes.
SERVER_SECONDS = 0.25


@contextmanager
def server(fault: str = "", seconds: float = 0.0) -> Iterator[str]:
    """The address of a model server, which may have a fault, and takes `seconds` for an answer."""
    command = [sys.executable, "-m", "benchmarks.model_server", "--fault", fault, "--seconds", str(seconds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.communicate("")


def client(python: str, name: str, urls: Sequence[str], in_flight: int, calls: int, *more: str) -> dict[str, float]:
    """One client in a process of its own."""
    given = ["--client", name, "--urls", ",".join(urls), "--in-flight", str(in_flight), "--calls", str(calls), *more]
    _, told = measure([python, CLIENT, *given], {"PYTHONPATH": str(ROOT)})
    result: dict[str, float] = json.loads(told.splitlines()[-1])
    return result


def import_seconds(python: str, modules: str) -> float:
    """CPU seconds of an import in a fresh process, without those of Python itself; the best of three, with bytecode."""
    with tempfile.TemporaryDirectory() as bytecode:
        environ = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
        environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        bare, loaded = (
            min(measure([python, "-c", code], environ)[0].cpu_seconds for _ in range(3))
            for code in ("pass", f"import {modules}")
        )
    return round(loaded - bare, 3)


def peers_python(folder: Path) -> str:
    """An environment with the peers."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", str(folder)], check=True, capture_output=True, timeout=120)
    python = str(folder / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--python", python, *PEERS]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    return python


def run(peers: str | None, calls: int) -> dict[str, float]:
    """Every figure, by a stable name."""
    named: dict[str, float] = {}
    ours = sys.executable
    clients = [("ours", ours, ()), ("transport", ours, ())]
    if peers:
        clients += [("openai", peers, ()), ("litellm", peers, ())]
    with server() as well:
        lane = client(ours, "logic", [well], 1, 4 * calls)
        request = client(ours, "request", [well], 1, 4 * calls)
        named["logic_p50_us"] = round(lane["cpu_us_p50"] - request["cpu_us_p50"], 1)
        named["logic_p99_us"] = round(lane["cpu_us_p99"] - request["cpu_us_p50"], 1)
        for in_flight in IN_FLIGHT:
            for name, python, _ in clients:
                told = client(python, name, [well], in_flight, calls)
                named |= {f"{name}_{what}_{in_flight}": told[what] for what in ("cpu_us", "p50_ms", "p99_ms", "failed")}
    with server(seconds=SERVER_SECONDS) as slow:
        for name, python, _ in clients:
            spread = ("--spread", str(SERVER_SECONDS))
            told = client(python, name, [slow], 256, max(calls, 2_560), *spread)
            named[f"{name}_added_p50_ms_256"] = round(told["p50_ms"] - SERVER_SECONDS * 1e3, 1)
            named[f"{name}_added_p99_ms_256"] = round(told["p99_ms"] - SERVER_SECONDS * 1e3, 1)
    for name in ("openai", "litellm") if peers else ():
        for in_flight in IN_FLIGHT:
            ratio = named[f"{name}_cpu_us_{in_flight}"] / named[f"ours_cpu_us_{in_flight}"]
            named[f"cpu_ratio_to_{name}_{in_flight}"] = round(ratio, 1)
    named |= dead_primary(ours, peers, calls)
    named["import_cpu_seconds"] = import_seconds(ours, "cortex_pipelines.lanes.client, cortex_pipelines.lanes")
    if peers:
        named["openai_import_cpu_seconds"] = import_seconds(peers, "openai")
        named["litellm_import_cpu_seconds"] = import_seconds(peers, "litellm")
    return named


def dead_primary(ours: str, peers: str | None, calls: int) -> dict[str, float]:
    """What a dead first endpoint adds to the median, beside one that is well in its place; how many calls failed."""
    named: dict[str, float] = {}
    tried: list[tuple[str, str, tuple[str, ...], str]] = [("ours", ours, (), "ours")]
    if peers:
        tried += [("litellm", peers, (), "litellm"), ("litellm_tuned", peers, ("--tuned",), "litellm")]
    for fault in ("refuse", "hang", "500"):
        with ExitStack() as servers:
            dead, first, well = (servers.enter_context(server(kind)) for kind in (fault, "", ""))
            for label, python, more, name in tried:
                # LiteLLM at its defaults tries a dead server again for seconds, at every call.
                count = 6 if label == "litellm" else calls // 4
                control = client(python, name, [first, well], 1, count, *more)
                beside = client(python, name, [dead, well], 1, count, *more)
                named[f"{label}_{fault}_added_p50_ms"] = round(beside["p50_ms"] - control["p50_ms"], 3)
                named[f"{label}_{fault}_p50_ms"] = beside["p50_ms"]
                named[f"{label}_{fault}_p99_ms"] = beside["p99_ms"]
                named[f"{label}_{fault}_failed"] = beside["failed"]
    return named


def table(named: dict[str, float], peers: bool) -> str:
    """The figures as tables in Markdown."""
    names = ["ours", "transport", *(["openai", "litellm"] if peers else [])]
    lines = ["| client | " + " | ".join(f"CPU µs, {n} in flight | p99 ms, {n}" for n in IN_FLIGHT) + " |"]
    lines.append("|---" * (2 * len(IN_FLIGHT) + 1) + "|")
    for name in names:
        cells = [f"{named[f'{name}_cpu_us_{n}']:.0f} | {named[f'{name}_p99_ms_{n}']:.1f}" for n in IN_FLIGHT]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| first endpoint dead | added p50 ms | p50 ms | p99 ms | failed |", "|---|---|---|---|---|"]
    for label in ["ours", *(["litellm", "litellm_tuned"] if peers else [])]:
        for fault in ("refuse", "hang", "500"):
            values = [named[f"{label}_{fault}_{what}"] for what in ("added_p50_ms", "p50_ms", "p99_ms", "failed")]
            lines.append(f"| {label}, {fault} | " + " | ".join(f"{value:g}" for value in values) + " |")
    lines += ["", "| 256 in flight, a server that takes 250 ms | added p50 ms | added p99 ms |", "|---|---|---|"]
    lines += [
        f"| {name} | {named[f'{name}_added_p50_ms_256']} | {named[f'{name}_added_p99_ms_256']} |" for name in names
    ]
    lines += ["", f"Lane logic: {named['logic_p50_us']} µs p50, {named['logic_p99_us']} µs p99."]
    lines += [f"Import: {named['import_cpu_seconds']} CPU-s."]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lanes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", help="not needed: nothing but the server is read")
    parser.add_argument("--peers", help="a Python that has litellm and openai")
    parser.add_argument("--calls", type=int, default=2_000, help="how many calls each measurement makes")
    parser.add_argument("--json", action="store_true", help="end with one JSON object of named figures")
    given = parser.parse_args()
    left_out = ""
    with tempfile.TemporaryDirectory() as folder:
        peers: Any = given.peers
        if peers is None:
            try:
                peers = peers_python(Path(folder) / "peers")
            except (OSError, subprocess.SubprocessError, ProcessFailed) as error:
                left_out = f"the peers were not measured: {error}"
        named = run(peers, given.calls)
    print(table(named, bool(peers)))
    if left_out:
        print(f"\n{left_out}")
    if given.json:
        print(json.dumps(named))


if __name__ == "__main__":
    main()
