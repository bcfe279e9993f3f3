"""What a glance at a folder tells a sensor, and what a scan then takes: nothing that grows, and nothing is lost."""

import os
import subprocess
import sys

import pytest

from cortex_pipelines.ingest import scan as module
from cortex_pipelines.ingest.manifest import Manifest
from cortex_pipelines.ingest.scan import repository_head, scan
from cortex_pipelines.ingest.watch import glance
from tests.ingest.git_building import commit_files, git, make_repository

QUIET = module.QUIET_SECONDS


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def manifest(tmp_path):
    with Manifest(tmp_path / "state" / "manifest.db") as opened:
        yield opened


def put(path, text, age=60.0):
    path.write_text(text)
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))


def test_a_file_counts_once_it_has_looked_the_same_for_a_while(folder, manifest):
    put(folder / "a.md", "a")
    assert glance(folder, manifest, 100.0).files == ()
    assert glance(folder, manifest, 100.0 + QUIET - 1).growing == ("a.md",)
    assert glance(folder, manifest, 100.0 + QUIET).files == ("a.md",)


def test_a_file_that_grows_waits_again(folder, manifest):
    put(folder / "a.md", "a")
    glance(folder, manifest, 100.0)
    put(folder / "a.md", "a and more")
    assert glance(folder, manifest, 100.0 + QUIET).files == ()
    assert glance(folder, manifest, 100.0 + 2 * QUIET).files == ("a.md",)


def test_what_was_scanned_is_not_asked_for_again(folder, manifest):
    put(folder / "a.md", "a")
    glance(folder, manifest, 100.0)
    scan(folder, manifest)
    assert glance(folder, manifest, 200.0).files == ()


def test_a_file_that_is_gone_counts(folder, manifest):
    put(folder / "a.md", "a")
    scan(folder, manifest)
    (folder / "a.md").unlink()
    glance(folder, manifest, 100.0)
    assert glance(folder, manifest, 100.0 + QUIET).files == ("a.md",)


def test_equal_fingerprints_mean_equal_changes(folder, manifest):
    put(folder / "a.md", "a")
    glance(folder, manifest, 100.0)
    first = glance(folder, manifest, 110.0).fingerprint
    assert glance(folder, manifest, 120.0).fingerprint == first
    put(folder / "b.md", "b")
    glance(folder, manifest, 130.0)
    assert glance(folder, manifest, 140.0).fingerprint != first


def test_a_quiet_scan_leaves_what_grows_as_it_was_and_a_later_one_takes_it(folder, manifest):
    put(folder / "a.md", "old")
    [old] = scan(folder, manifest).sources
    put(folder / "a.md", "new and longer", age=30)
    put(folder / "b.md", "b")
    glance(folder, manifest, module.time.time())
    assert scan(folder, manifest, quiet=True).sources == (old,)
    assert [source.path for source in scan(folder, manifest).sources] == ["a.md", "b.md"]
    assert scan(folder, manifest).sources[0].digest != old.digest


def test_a_file_written_again_within_the_clocks_tick_is_noticed(folder, manifest):
    (folder / "a.md").write_text("one")
    stamp = (folder / "a.md").stat().st_mtime_ns
    before = scan(folder, manifest).sources[0].digest
    (folder / "a.md").write_text("two")
    os.utime(folder / "a.md", ns=(stamp, stamp))
    assert scan(folder, manifest).sources[0].digest != before


def test_a_commit_a_branch_and_packed_references_are_seen_without_running_git(folder, manifest):
    repository = make_repository(folder / "r", {"a.py": "a\n"})
    scan(folder, manifest)
    assert glance(folder, manifest, 100.0).repositories == ()
    commit = commit_files(repository, {"a.py": "b\n"})
    glance(folder, manifest, 110.0)
    assert glance(folder, manifest, 120.0).repositories == ("r",)
    assert commit in repository_head(repository)
    before = repository_head(repository)
    git(repository, "pack-refs", "--all")
    assert repository_head(repository) == before
    git(repository, "checkout", "--quiet", "-b", "side")
    assert repository_head(repository) != before


@pytest.mark.parametrize(
    "head", ["ref: ../../../etc/passwd", "ref: refs/../../secret", "", "\0\1", "ref: refs/heads/gone"]
)
def test_a_head_that_lies_leads_nowhere(folder, head):
    (folder / "r" / ".git").mkdir(parents=True)
    (folder / "secret").write_text("secret")
    (folder / "r" / ".git" / "HEAD").write_text(head)
    assert "secret" not in repository_head(folder / "r").replace("refs/../../secret", "")


def test_a_killed_scan_loses_nothing(folder, tmp_path):
    for number in range(50):
        put(folder / f"{number}.md", str(number))
    code = (
        "import os, sys; from pathlib import Path; from cortex_pipelines.ingest import scan; "
        "from cortex_pipelines.ingest.manifest import Manifest; real = scan.file_digest; "
        "scan.file_digest = lambda path: os._exit(9) if path.name == '30.md' else real(path); "
        "scan.scan(Path(sys.argv[1]), Manifest(Path(sys.argv[2])))"
    )
    place = tmp_path / "state" / "manifest.db"
    done = subprocess.run([sys.executable, "-c", code, str(folder), str(place)], check=False, timeout=60)
    assert done.returncode == 9
    with Manifest(place) as manifest:
        assert len(scan(folder, manifest).sources) == 50
