"""Ingest that is killed in the middle: the next run makes of the store what an undisturbed one would have made."""

import io
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.settings import load_settings
from cortex_pipelines.stairs import Work, climb
from cortex_pipelines.store import ProjectStore
from tests.ingest.git_building import commit_files, make_repository

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
ROUNDS = 10
KILLS = 10
STAIRS = (DOCUMENTS, REPOSITORIES, RAG_INDEX)
# A second process does what this one does in `build`.
CHILD = "from tests.ingest.test_killed import build; import sys; build(*sys.argv[1:])"


def work_in(inbox, store):
    given = {"CORTEX_INBOX": inbox, "CORTEX_STORE": store, "CORTEX_STATE": f"{store}-state"}
    told = load_settings({name: str(value) for name, value in given.items()}, env_file=None)
    return Work("atlas", told, ProjectStore(told.store, "atlas", told.state))


def build(inbox, store):
    print("ready", flush=True)
    for stair in STAIRS:
        assert not climb(stair, work_in(inbox, store)).failed


def killed(inbox, store, after):
    """Whether a build was killed after so many seconds; it may have been done before."""
    command = [sys.executable, "-c", CHILD, str(inbox), str(store)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    _, told = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), told.decode()[-2_000:]
    return process.returncode != 0


def disturb(folder, dice):
    """Files come, change, move and go, archives and commits among them."""
    paths = sorted(path for path in folder.rglob("*.md") if "repo" not in path.parts)
    for number in range(12):
        place = folder / f"{dice.randrange(4)}" / f"{dice.randrange(60)}.md"
        place.parent.mkdir(exist_ok=True)
        place.write_text(
            f"# Note {dice.randrange(30)}\n\n" + f"The ferry {dice.randrange(90)} leaves at {number}.\n" * 5
        )
    for path in dice.sample(paths, min(6, len(paths))):
        target = folder / f"{dice.randrange(4)}" / f"moved{dice.randrange(60)}.md"
        target.parent.mkdir(exist_ok=True)
        if path.exists() and dice.random() < 0.5:
            path.rename(target)
        else:
            path.unlink(missing_ok=True)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(20):
            archive.writestr(f"docs/{number}.md", f"The train {dice.randrange(200)} has a car.\n")
    (folder / f"pack{dice.randrange(3)}.zip").write_bytes(file.getvalue())
    commit_files(folder / "repo", {f"src/{dice.randrange(20)}.py": f"def answer():\n    return {dice.randrange(99)}\n"})


def seen(work):
    snapshot = work.store.snapshot()
    texts = {row["path"]: row["text"] for row in snapshot.rows("documents")}
    files = {row["source"]: (row["digest"], row["text"], row["changes"]) for row in snapshot.rows("files")}
    chunks = {}
    for row in snapshot.rows("chunks"):
        chunks.setdefault(row["source"], set()).add((row["text"], row["byte_start"], row["chunk_id"]))
    assert sum(len(found) for found in chunks.values()) == snapshot.count("chunks")
    held = {row["path"]: texts[row["document"]] for row in snapshot.rows("holders")}
    bodies = {source: {(text, at) for text, at, _ in found} for source, found in chunks.items()}
    by_text = sorted((texts.get(source) or files[source][1], sorted(found)) for source, found in bodies.items())
    return held, files, by_text, {row["path"]: row["reason"] for row in snapshot.rows("quarantine")}


def test_a_hundred_kills_lose_nothing(tmp_path):
    dice = random.Random(20)
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    folder = inbox / "atlas"
    folder.mkdir(parents=True)
    make_repository(folder / "repo", {"src/0.py": "x = 1\n"})
    hit = 0
    seconds = 1.0
    for number in range(ROUNDS):
        disturb(folder, dice)
        for _ in range(KILLS):
            hit += killed(inbox, store, dice.uniform(0, seconds))
        began = time.monotonic()
        build(inbox, store)
        seconds = max(1.0, time.monotonic() - began)
        anew = tmp_path / f"anew{number}"
        build(inbox, anew)
        assert seen(work_in(inbox, store)) == seen(work_in(inbox, anew))
        shutil.rmtree(anew)
    # Most of them were in the middle of something.
    assert hit > ROUNDS * KILLS // 2
