"""Ingest: a source tree scanned, read, hashed, parsed, its symbols found, chunked, beside repomix on the same tree.

    python -m benchmarks.ingest [--data DIR] [--json]

DIR is a source tree, such as an unpacked source distribution of Django; without it the Dagster package of this
environment is read. repomix is installed with npm, away from the tree; where that cannot be, its figures are left out
and it is said so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring import Cost, ProcessFailed, cortex, figures, measure, table

REPOMIX = "repomix@1.18.1"


def read(folder: Path) -> dict[str, int]:
    """Read a repository as ingest does, chunk it as the index does, and find its symbols; what there was of it."""
    from cortex_pipelines.codebase.reader import CodeReader
    from cortex_pipelines.ingest.decoding import decode
    from cortex_pipelines.ingest.git import open_repository
    from cortex_pipelines.ingest.languages import language_of, vendored_or_generated
    from cortex_pipelines.ingest.manifest import Manifest
    from cortex_pipelines.ingest.scan import scan
    from cortex_pipelines.retrieval.chunker import CodeChunker
    from cortex_pipelines.retrieval.index import chunk_file

    counts = {"files": 0, "bytes": 0, "texts": 0, "chunks": 0, "symbols": 0}
    with (
        tempfile.TemporaryDirectory() as state,
        Manifest(Path(state) / "manifest.db") as manifest,
        CodeChunker() as chunker,
        CodeReader() as reader,
    ):
        for source in scan(folder, manifest).sources:
            repository = open_repository(folder / source.path, folder)
            entries = repository.entries(repository.head().commit)
            paths: dict[str, list[str]] = {}
            for entry in entries:
                if entry.skipped is None:
                    paths.setdefault(entry.oid, []).append(entry.path)
            for blob in repository.blobs(list(paths)):
                for path in paths[blob.oid] if blob.data is not None else ():
                    counts["files"] += 1
                    counts["bytes"] += len(blob.data or b"")
                    text = decode(blob.data or b"")
                    if text is not None and vendored_or_generated(path) is None:
                        counts["texts"] += 1
                        counts["chunks"] += len(chunk_file(chunker, path, text, language_of(path))[0])
                        if language := language_of(path):
                            counts["symbols"] += len(reader.read(text, language).symbols)
    return counts


@contextmanager
def repository_of(tree: Path) -> Iterator[Path]:
    """An inbox project that holds a tree as a repository with one commit, away from the tree itself."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "inbox" / "tree" / tree.name
        shutil.copytree(tree, place, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__"))
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example"]
        for arguments in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "tree"]):
            subprocess.run(["git", *arguments], cwd=place, check=True, env={**os.environ, **quiet})
        yield Path(folder)


def run(tree: Path) -> tuple[dict[str, Cost], dict[str, int], str]:
    """Measure ingest, the whole `cortex run` twice, and repomix; the costs, what was read, and what was left out."""
    left_out = ""
    with repository_of(tree) as folder:
        project = folder / "inbox" / "tree"
        costs = {}
        costs["read"], told = measure([sys.executable, "-m", "benchmarks.ingest", "--read", str(project)])
        costs["cortex_run"], _ = cortex(folder, "run", "tree")
        costs["cortex_run_again"], _ = cortex(folder, "run", "tree")
        costs["cortex_help"], _ = cortex(folder, "--help")
        try:
            repomix = _repomix(folder)
            output = str(folder / "repomix.xml")
            given = [str(repomix), "--quiet", "--output", output, str(project / tree.name)]
            costs["repomix"], _ = measure(given, cwd=folder)
        except (ProcessFailed, OSError, subprocess.SubprocessError) as error:
            left_out = f"repomix was not measured: {error}"
    return costs, json.loads(told.splitlines()[-1]), left_out


def _repomix(folder: Path) -> Path:
    """Installed first, so that only its own work is measured."""
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder / "npm"), REPOMIX]
    subprocess.run(npm, check=True, capture_output=True, timeout=300)
    return folder / "npm" / "node_modules" / ".bin" / "repomix"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="a source tree (default: the Dagster package)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object of named figures")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        print(json.dumps(read(given.read)))
        return
    if given.data:
        tree = given.data.resolve()
    else:
        import dagster

        tree = Path(dagster.__file__).parent
    costs, counts, left_out = run(tree)
    print(f"{tree.name}: {counts['files']:,} files, {counts['bytes']:,} bytes, {counts['chunks']:,} chunks\n")
    print(table(costs))
    if left_out:
        print(f"\n{left_out}")
    named = {**counts, **figures(costs)}
    if "repomix" in costs:
        named["cpu_ratio_to_repomix"] = round(costs["read"].cpu_seconds / costs["repomix"].cpu_seconds, 3)
        named["memory_ratio_to_repomix"] = round(costs["read"].peak_mb / costs["repomix"].peak_mb, 3)
        print(f"\nread takes {named['cpu_ratio_to_repomix']} of the CPU time of repomix,")
        print(f"and {named['memory_ratio_to_repomix']} of its memory")
    if given.json:
        print(json.dumps(named))


if __name__ == "__main__":
    main()
