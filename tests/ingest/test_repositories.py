"""The repositories product: what is stored of each repository, and how it follows what lies in the inbox."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest import repositories as module
from cortex_pipelines.ingest.archives import Limits
from cortex_pipelines.ingest.git import GitRepository, RepositoryError
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.ingest.trees import open_archive
from cortex_pipelines.settings import Settings, load_settings
from cortex_pipelines.stairs import Outcome, Plan, Work, climb
from cortex_pipelines.store import ProjectStore
from tests.ingest.archive_building import file_info, make_tar, make_zip, pack, write
from tests.ingest.git_building import commit_files, git, make_repository, object_file, plant, ran


@pytest.fixture
def work(settings: Settings) -> Work:
    (settings.inbox / "kestrel").mkdir()
    return Work("kestrel", settings, ProjectStore(settings.store, "kestrel", settings.state))


@pytest.fixture
def project(work: Work) -> Path:
    return work.settings.inbox / work.project


@pytest.fixture
def read_blobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the blobs that are read from now on."""
    read: list[str] = []
    real = GitRepository.blobs

    def blobs(self: GitRepository, oids: list[str]) -> Any:
        for blob in real(self, oids):
            read.append(blob.oid)
            yield blob

    monkeypatch.setattr(GitRepository, "blobs", blobs)
    return read


def files(work: Work) -> dict[str, str | None]:
    """Each stored file: its text, or why it has none."""
    rows = work.store.snapshot().rows("files")
    return {row["source"]: row["text"] if row["skipped"] is None else row["skipped"] for row in rows}


def file(work: Work, source: str) -> dict[str, Any]:
    [row] = work.store.snapshot().rows("files", where={"source": source})
    return row


def repository(work: Work, path: str = "r") -> dict[str, Any]:
    [row] = work.store.snapshot().rows("repositories", where={"path": path})
    return row


def quarantine(work: Work) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in work.store.snapshot().rows("quarantine")}


def run(work: Work) -> Outcome:
    outcome = climb(REPOSITORIES, work)
    assert outcome.verdicts["keys_unique"].passed
    return outcome


def test_every_file_of_a_repository_is_stored_with_what_is_known_of_it(work: Work, project: Path) -> None:
    folder = make_repository(
        project / "code" / "r",
        {
            "src/app.py": "import os\n\nprint(os)\n",
            "README.md": "# Kestrel",
            "empty.txt": "",
            "data.bin": b"a\0b",
            "model.pt": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n",
            "latin.c": "/* Jürgen */\n".encode("latin-1"),
        },
    )
    (folder / "link").symlink_to("/etc/passwd")
    commit_files(folder, {"src/app.py": "import sys\n\nprint(sys)\n"})
    outcome = run(work)
    assert files(work) == {
        "code/r/src/app.py": "import sys\n\nprint(sys)\n",
        "code/r/README.md": "# Kestrel",
        "code/r/empty.txt": "",
        "code/r/data.bin": "binary",
        "code/r/model.pt": "Git LFS pointer",
        "code/r/latin.c": "/* Jürgen */\n",
        "code/r/link": "symbolic link",
    }
    assert file(work, "code/r/src/app.py") == {
        "source": "code/r/src/app.py",
        "repository": "code/r",
        "path": "src/app.py",
        "digest": git(folder, "rev-parse", "HEAD:src/app.py"),
        "version": module.VERSION,
        "mode": "100644",
        "size": 23,
        "language": "python",
        "lines": 3,
        "text": "import sys\n\nprint(sys)\n",
        "skipped": None,
        "changes": 2,
        "target": None,
    }
    assert json.loads(file(work, "code/r/model.pt")["target"]) == {"oid": "sha256:" + "0" * 64, "size": 9}
    assert [file(work, f"code/r/{name}")["lines"] for name in ("README.md", "empty.txt", "data.bin")] == [1, 0, 0]
    stored = repository(work, "code/r")
    assert json.loads(stored.pop("languages")) == {
        "c": {"files": 1, "bytes": 13, "lines": 1},
        "markdown": {"files": 1, "bytes": 9, "lines": 1},
        "python": {"files": 1, "bytes": 23, "lines": 3},
    }
    assert json.loads(stored.pop("skipped")) == {"Git LFS pointer": 1, "binary": 1, "symbolic link": 1}
    assert stored == {
        "path": "code/r",
        "kind": "work tree",
        "commit": git(folder, "rev-parse", "HEAD"),
        "branch": "main",
        "committed_at": "2026-01-02T03:04:05+00:00",
        "commits": 2,
        "files": 7,
        "bytes": 23 + 9 + 3 + 126 + 13 + 11,
        "version": module.VERSION,
    }
    assert outcome.changed
    assert outcome.version is not None
    assert outcome.verdicts["quarantine"].passed


def test_a_bare_repository_and_a_bundle_are_repositories_too(work: Work, project: Path, tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "origin", {"a.py": "a\n"})
    git(folder, "clone", "--quiet", "--bare", ".", str(project / "bare.git"))
    git(folder, "bundle", "create", "--quiet", str(project / "r.bundle"), "--all")
    run(work)
    assert files(work) == {"bare.git/a.py": "a\n", "r.bundle/a.py": "a\n"}
    assert repository(work, "bare.git")["kind"] == "bare"
    assert repository(work, "r.bundle")["kind"] == "bundle"


def test_a_project_folder_that_is_itself_a_repository_is_read(work: Work, project: Path) -> None:
    make_repository(project, {"src/a.py": "a\n"})
    run(work)
    assert [row["path"] for row in work.store.snapshot().rows("files")] == ["src/a.py"]
    run(work)
    assert not run(work).changed


def test_a_run_with_nothing_changed_reads_no_object_and_writes_nothing(
    work: Work, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(project / "r", {"a.py": "a\n"})
    first = run(work)
    generation = work.store.snapshot().generation
    monkeypatch.setattr(GitRepository, "entries", lambda *_: pytest.fail("the tree was listed"))
    monkeypatch.setattr(ProjectStore, "publishing", lambda *_: pytest.fail("a writer was opened"))
    second = run(work)
    assert not second.changed
    assert second.version == first.version
    assert work.store.snapshot().generation == generation
    assert second.metadata["unchanged"] == 1


def test_an_empty_project_has_no_repositories_and_is_no_error(work: Work) -> None:
    outcome = run(work)
    assert not outcome.changed
    assert outcome.metadata["repositories"] == 0


def test_a_commit_of_one_file_reads_one_blob(work: Work, project: Path, read_blobs: list[str]) -> None:
    folder = make_repository(project / "r", {f"{number}.py": f"{number}\n" for number in range(50)})
    run(work)
    assert len(read_blobs) == 50
    read_blobs.clear()
    commit_files(folder, {"7.py": "changed\n"})
    assert run(work).metadata["read"] == 1
    assert read_blobs == [git(folder, "rev-parse", "HEAD:7.py")]
    assert files(work)["r/7.py"] == "changed\n"
    assert file(work, "r/7.py")["changes"] == 2
    assert repository(work)["commits"] == 2


def test_a_commit_that_changes_no_file_still_moves_the_repository(
    work: Work, project: Path, read_blobs: list[str]
) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n"})
    run(work)
    read_blobs.clear()
    commit = commit_files(folder, {})
    assert run(work).changed
    assert repository(work)["commit"] == commit
    assert read_blobs == []


def test_another_branch_at_the_same_commit_is_noticed(work: Work, project: Path) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n"})
    run(work)
    git(folder, "checkout", "--quiet", "-b", "side")
    run(work)
    assert repository(work)["branch"] == "side"


def test_a_mode_that_changed_is_stored_and_a_file_that_became_a_link_is_not_read(work: Work, project: Path) -> None:
    folder = make_repository(project / "r", {"run.sh": "echo\n", "target": "a.py"})
    run(work)
    (folder / "run.sh").chmod(0o755)
    (folder / "target").unlink()
    (folder / "target").symlink_to("a.py")
    commit_files(folder, {})
    run(work)
    assert file(work, "r/run.sh")["mode"] == "100755"
    assert files(work)["r/target"] == "symbolic link"
    (folder / "target").unlink()
    commit_files(folder, {"target": "a.py"})
    run(work)
    assert files(work)["r/target"] == "a.py"


def test_the_churn_of_a_file_that_is_not_read_again_is_still_renewed(
    work: Work, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_pipelines.ingest.git.CHURN_COMMITS", 2)
    folder = make_repository(project / "r", {"old.py": "1\n", "new.py": "1\n"})
    run(work)
    assert file(work, "r/old.py")["changes"] == 1
    for number in range(2):
        commit_files(folder, {"new.py": f"{number + 2}\n"})
    run(work)
    assert (file(work, "r/old.py")["changes"], file(work, "r/old.py")["text"]) == (0, "1\n")
    assert file(work, "r/new.py")["changes"] == 2


def derived(work: Work, *sources: str) -> None:
    """Publish something that was derived from sources, as later products do."""
    with work.store.publishing() as publishing:
        publishing.upsert(
            "indexed",
            [{"source": source, "digest": "d", "version": "1", "chunks": 1, "named": source} for source in sources],
        )
        publishing.publish()


def test_a_file_that_is_gone_disappears_with_everything_derived_from_it(work: Work, project: Path) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n", "b.py": "b\n"})
    run(work)
    derived(work, "r/a.py", "r/b.py")
    commit_files(folder, {"b.py": None})
    assert run(work).metadata["removed"] == 1
    assert files(work) == {"r/a.py": "a\n"}
    assert [row["source"] for row in work.store.snapshot().rows("indexed")] == ["r/a.py"]
    assert repository(work)["files"] == 1


@pytest.mark.parametrize("kind", ["work tree", "bundle"])
def test_a_repository_that_vanished_disappears_with_everything_derived_from_it(
    work: Work, project: Path, tmp_path: Path, kind: str
) -> None:
    make_repository(project / "kept", {"a.py": "a\n"})
    folder = make_repository((tmp_path if kind == "bundle" else project) / "gone", {"a.py": "a\n"})
    if kind == "bundle":
        git(folder, "bundle", "create", "--quiet", str(project / "gone"), "--all")
        (project / "gone").rename(project / "gone.bundle")
    run(work)
    path = "gone.bundle" if kind == "bundle" else "gone"
    derived(work, f"{path}/a.py", "kept/a.py")
    assert set(files(work)) == {f"{path}/a.py", "kept/a.py"}
    (project / path).unlink() if kind == "bundle" else shutil.rmtree(project / path)
    assert run(work).changed
    assert set(files(work)) == {"kept/a.py"}
    assert [row["path"] for row in work.store.snapshot().rows("repositories")] == ["kept"]
    assert [row["source"] for row in work.store.snapshot().rows("indexed")] == ["kept/a.py"]
    assert not list((work.settings.state / "kestrel" / "clones").glob("*"))


def test_a_bundle_is_cloned_once_and_its_old_clone_goes_when_it_changes(
    work: Work, project: Path, tmp_path: Path
) -> None:
    folder = make_repository(tmp_path / "origin", {"a.py": "one\n"})
    clones = work.settings.state / "kestrel" / "clones"
    git(folder, "bundle", "create", "--quiet", str(project / "r.bundle"), "--all")
    run(work)
    [first] = clones.iterdir()
    made = first.stat().st_ino
    assert not run(work).changed
    assert [path.stat().st_ino for path in clones.iterdir()] == [made]
    commit_files(folder, {"a.py": "two\n"})
    git(folder, "bundle", "create", "--quiet", str(project / "r.bundle"), "--all")
    run(work)
    assert files(work) == {"r.bundle/a.py": "two\n"}
    [second] = clones.iterdir()
    assert second != first


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: shutil.rmtree(folder / ".git" / "refs"), "not a git repository"),
        (lambda folder: (folder / ".git" / "HEAD").write_text("nonsense\n"), "not a git repository"),
        (lambda folder: git(folder, "update-ref", "-d", "refs/heads/main"), "it has no commit yet"),
        (lambda folder: shutil.rmtree(folder / ".git" / "objects"), "git says: "),
        (lambda folder: (folder / ".git" / "config").write_text("[broken\n"), "bad config"),
        (
            lambda folder: git(folder, "config", "core.repositoryFormatVersion", "99"),
            "repo version",
        ),
        (
            lambda folder: (folder / ".git" / "objects" / "info" / "alternates").write_text("/etc\n"),
            "alternates leads out of the project's folder",
        ),
    ],
)
def test_a_repository_that_cannot_be_read_is_quarantined_and_the_others_go_on(
    work: Work, project: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    make_repository(project / "good", {"a.py": "a\n"})
    bad = make_repository(project / "bad", {"a.py": "a\n"})
    (bad / ".git" / "objects" / "info").mkdir(exist_ok=True)
    spoil(bad)
    outcome = run(work)
    assert files(work) == {"good/a.py": "a\n"}
    assert set(quarantine(work)) == {"bad"}
    assert reason in quarantine(work)["bad"]
    assert outcome.verdicts["quarantine"].warn
    assert not outcome.verdicts["quarantine"].passed
    assert outcome.verdicts["quarantine"].metadata["reasons"][0]["paths"] == ["bad"]
    again = run(work)
    assert not again.changed
    assert not again.verdicts["quarantine"].passed


def test_a_repository_that_broke_keeps_what_was_read_and_says_so_until_it_is_whole_again(
    work: Work, project: Path
) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n"})
    run(work)
    commit = repository(work)["commit"]
    reference = folder / ".git" / "refs" / "heads" / "main"
    reference.write_text("1" * 40 + "\n")
    run(work)
    assert files(work) == {"r/a.py": "a\n"}
    assert f"its files at {commit[:12]} are kept" in quarantine(work)["r"]
    reference.write_text(f"{commit}\n")
    assert run(work).changed
    assert quarantine(work) == {}
    assert not run(work).changed


def test_a_repository_that_was_emptied_keeps_nothing(work: Work, project: Path) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n"})
    run(work)
    shutil.rmtree(folder)
    make_repository(folder, {})
    run(work)
    assert files(work) == {}
    assert work.store.snapshot().rows("repositories") == []
    assert quarantine(work) == {"r": "it has no commit yet"}


def test_a_damaged_file_is_quarantined_alone_until_it_is_whole_again(
    work: Work, project: Path, read_blobs: list[str]
) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n", "b.py": "b\n"})
    lost = object_file(folder, git(folder, "rev-parse", "HEAD:b.py"))
    lost.rename(folder / "lost")
    run(work)
    assert files(work) == {"r/a.py": "a\n"}
    assert quarantine(work) == {"r/b.py": "its object is missing or damaged"}
    assert json.loads(repository(work)["skipped"]) == {"unreadable": 1}
    assert repository(work)["files"] == 2
    read_blobs.clear()
    assert not run(work).changed
    assert len(read_blobs) == 1
    (folder / "lost").rename(lost)
    assert run(work).changed
    assert files(work) == {"r/a.py": "a\n", "r/b.py": "b\n"}
    assert quarantine(work) == {}
    assert json.loads(repository(work)["skipped"]) == {}
    assert not run(work).changed


def test_a_file_that_was_readable_and_is_damaged_in_the_next_commit_is_not_kept_as_it_was(
    work: Work, project: Path
) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n", "b.py": "b\n"})
    run(work)
    derived(work, "r/b.py")
    commit_files(folder, {"b.py": "changed\n"})
    object_file(folder, git(folder, "rev-parse", "HEAD:b.py")).unlink()
    run(work)
    assert files(work) == {"r/a.py": "a\n"}
    assert work.store.snapshot().rows("indexed") == []
    assert set(quarantine(work)) == {"r/b.py"}


def test_a_broken_bundle_is_not_tried_again_before_it_changes(
    work: Work, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "r.bundle").write_text("no bundle\n")
    run(work)
    assert quarantine(work) == {"r.bundle": "it is not a git bundle"}
    with monkeypatch.context() as patch:
        patch.setattr(module, "open_bundle", lambda *_: pytest.fail("the bundle was opened"))
        assert not run(work).changed
    folder = make_repository(tmp_path / "origin", {"a.py": "a\n"})
    git(folder, "bundle", "create", "--quiet", str(project / "r.bundle"), "--all")
    run(work)
    assert files(work) == {"r.bundle/a.py": "a\n"}
    assert quarantine(work) == {}


def test_a_state_folder_that_cannot_be_written_is_the_fault_of_no_bundle(
    work: Work, project: Path, tmp_path: Path
) -> None:
    folder = make_repository(tmp_path / "origin", {"a.py": "a\n"})
    git(folder, "bundle", "create", "--quiet", str(project / "r.bundle"), "--all")
    (work.settings.state / "kestrel").mkdir(parents=True)
    (work.settings.state / "kestrel" / "clones").write_text("a file where the folder should be")
    with pytest.raises(CortexError, match="cannot be written"):
        climb(REPOSITORIES, work)


def test_the_same_content_under_two_names_is_read_once_and_stored_twice(
    work: Work, project: Path, read_blobs: list[str]
) -> None:
    make_repository(project / "r", {"a.py": "same\n", "b.py": "same\n"})
    run(work)
    assert files(work) == {"r/a.py": "same\n", "r/b.py": "same\n"}
    assert len(read_blobs) == 1


def test_a_head_that_moves_while_it_is_read_publishes_nothing_half(
    work: Work, project: Path, read_blobs: list[str]
) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n", "b.py": "b\n"})
    plan = REPOSITORIES.plan(work)
    counts = [REPOSITORIES.map(work, batch) for batch in plan.batches]
    commit_files(folder, {"b.py": "moved\n"})
    outcome = REPOSITORIES.commit(work, plan, counts)
    assert not outcome.changed
    assert outcome.metadata["moved_while_read"] == 1
    assert files(work) == {}
    read_blobs.clear()
    run(work)
    assert files(work) == {"r/a.py": "a\n", "r/b.py": "moved\n"}
    assert len(read_blobs) == 1


def test_a_repository_that_vanishes_between_the_steps_is_no_error(work: Work, project: Path) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n"})
    plan = REPOSITORIES.plan(work)
    shutil.rmtree(folder)
    counts = [REPOSITORIES.map(work, batch) for batch in plan.batches]
    assert counts == [{"files": 0, "unreadable": 1}]
    assert not REPOSITORIES.commit(work, plan, counts).changed


def test_an_old_plan_deletes_nothing_that_is_there(work: Work, project: Path) -> None:
    folder = make_repository(project / "r", {"a.py": "a\n"})
    old = REPOSITORIES.plan(work)
    commit_files(folder, {"b.py": "b\n"})
    run(work)
    REPOSITORIES.commit(work, Plan((), old.summary), [])
    assert files(work) == {"r/a.py": "a\n", "r/b.py": "b\n"}


def test_force_reads_everything_again(work: Work, project: Path, read_blobs: list[str]) -> None:
    make_repository(project / "r", {"a.py": "a\n", "b.py": "b\n"})
    run(work)
    read_blobs.clear()
    outcome = run(Work(work.project, work.settings, work.store, force=True))
    assert outcome.metadata["read"] == 2
    assert len(read_blobs) == 2
    assert not run(work).changed


def test_another_version_of_the_maker_reads_everything_again(
    work: Work, project: Path, read_blobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(project / "r", {"a.py": "a\n"})
    run(work)
    read_blobs.clear()
    monkeypatch.setattr(module, "VERSION", "next")
    run(work)
    assert len(read_blobs) == 1
    assert file(work, "r/a.py")["version"] == "next"
    assert not run(work).changed


def _map_and_die(settings: Settings) -> None:
    work = Work("kestrel", settings, ProjectStore(settings.store, "kestrel", settings.state))
    plan = REPOSITORIES.plan(work)
    REPOSITORIES.map(work, plan.batches[0])
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_run_has_read_is_not_read_again(work: Work, project: Path, read_blobs: list[str]) -> None:
    for name in ("one", "two"):
        make_repository(project / name, {f"{number}.py": f"{name} {number}\n" for number in range(5)})
    process = multiprocessing.get_context("spawn").Process(target=_map_and_die, args=(work.settings,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert files(work) == {}
    plan = REPOSITORIES.plan(work)
    assert [item.id.split("/")[0] for batch in plan.batches for item in batch.items] == ["two"] * 5
    run(work)
    assert len(read_blobs) == 5
    assert len(files(work)) == 10
    assert work.store.staging("repositories").names() == []


def test_a_map_is_safe_to_repeat(work: Work, project: Path) -> None:
    make_repository(project / "r", {"a.py": "a\n"})
    plan = REPOSITORIES.plan(work)
    counts = [REPOSITORIES.map(work, batch) for batch in (*plan.batches, *plan.batches)]
    REPOSITORIES.commit(work, plan, counts)
    assert files(work) == {"r/a.py": "a\n"}


def test_a_large_repository_is_cut_into_batches_and_read_in_full(
    work: Work, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_pipelines.stairs.BATCH_ITEMS", 10)
    make_repository(project / "r", {f"{number}.py": f"{number}\n" for number in range(35)})
    plan = REPOSITORIES.plan(work)
    assert [len(batch.items) for batch in plan.batches] == [10, 10, 10, 5]
    run(work)
    assert len(files(work)) == 35


def test_nothing_planted_in_repositories_is_run_by_any_step(work: Work, project: Path, tmp_path: Path) -> None:
    content: Mapping[str, str] = {"a.py": "a\n", "gone.txt": "its object is gone\n"}
    folder = make_repository(project / "hostile", content)
    plant(folder, tmp_path / "traps")
    shutil.copytree(folder / ".git", project / "bare.git", symlinks=True)
    object_file(folder, git(tmp_path, "hash-object", "--stdin", given=b"its object is gone\n")).unlink()
    run(work)
    commit_past_traps(folder)
    run(work)
    assert files(work)["hostile/a.py"] == "a\n"
    assert files(work)["bare.git/gone.txt"] == "its object is gone\n"
    assert set(quarantine(work)) == {"hostile/gone.txt"}
    assert ran(tmp_path / "traps") == set()


def commit_past_traps(folder: Path) -> None:
    """Move the branch of a planted repository on without running what is planted in it."""
    config = folder / ".git" / "config"
    planted = config.read_text()
    config.write_text("[core]\nrepositoryformatversion = 0\nhooksPath = /dev/null\n")
    made = git(folder, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "Next")
    (folder / ".git" / "refs" / "heads" / "main").write_text(f"{made}\n")
    config.write_text(planted)


def test_what_was_staged_before_a_head_moved_never_stands_in_the_way(work: Work, project: Path) -> None:
    # Batches are ordered by digests: of many, some put the older content last.
    folder = make_repository(project / "r", {"a.py": "a\n", "b.py": "b\n"})
    for number in range(8):
        plan = REPOSITORIES.plan(work)
        for batch in plan.batches:
            REPOSITORIES.map(work, batch)
        commit_files(folder, {"b.py": f"moved {number}\n"})
    run(work)
    assert files(work) == {"r/a.py": "a\n", "r/b.py": "moved 7\n"}


def test_where_a_submodule_leads_is_told_and_not_followed(work: Work, project: Path, tmp_path: Path) -> None:
    inner = make_repository(tmp_path / "inner", {"x.py": "x\n"})
    commit = git(inner, "rev-parse", "HEAD")
    folder = make_repository(
        project / "r",
        {
            ".gitmodules": '[submodule "lib"]\n\tpath = third/lib\n\turl = https://me:hunter2@git.example.org/lib.git\n'
            f'[include]\n\tpath = {tmp_path}/evil\n[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "id"\n'
            '[submodule "gone"]\n\tpath = gone\n\turl = https://git.example.org/gone\n',
            "a.py": "a\n",
        },
    )
    for path in ("third/lib", "x", "untold"):
        git(folder, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git(folder, "commit", "--quiet", "--message", "Add")
    run(work)
    rows = {name: file(work, f"r/{name}") for name in ("third/lib", "x", "untold")}
    assert {row["skipped"] for row in rows.values()} == {"submodule"}
    assert {row["digest"] for row in rows.values()} == {commit}
    assert [row["target"] and json.loads(row["target"]) for row in rows.values()] == [
        {"url": "https://git.example.org/lib.git"},
        {"url": 'ext::sh -c "id"'},
        None,
    ]
    assert "hunter2" not in str(work.store.snapshot().rows("files", ["target"]))
    assert not run(work).changed
    (folder / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = ../elsewhere.git\n')
    git(folder, "add", ".gitmodules")
    git(folder, "commit", "--quiet", "--message", "Move")
    run(work)
    assert json.loads(file(work, "r/x")["target"]) == {"url": "../elsewhere.git"}
    assert file(work, "r/third/lib")["target"] is None


def test_one_commit_of_one_file_reads_one_blob(work: Work, project: Path, read_blobs: list[str]) -> None:
    folder = make_repository(project / "r", {f"src/{number}.py": f"a = {number}\n" for number in range(300)})
    run(work)
    assert len(read_blobs) == 300
    read_blobs.clear()
    commit_files(folder, {"src/7.py": "a = 'seven'\n"})
    outcome = run(work)
    assert read_blobs == [git(folder, "rev-parse", "HEAD:src/7.py")]
    assert outcome.metadata["read"] == 1


# Archives of source trees.


TREE = {
    "name-1.2/pyproject.toml": b"[project]\nname = 'name'\n",
    "name-1.2/name/__init__.py": b"import os\n",
    "name-1.2/tests/data.zip": make_zip({"x.md": b"x\n"}),
    'name-1.2/odd "name".py': b"odd = 1\n",
}


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "tar.zst", "7z"])
def test_an_archive_of_a_source_tree_is_a_repository(work: Work, project: Path, form: str) -> None:
    write(project / "code" / f"tree.{form}", pack(form, TREE))
    run(work)
    name = f"code/tree.{form}"
    assert files(work) == {
        f"{name}/pyproject.toml": "[project]\nname = 'name'\n",
        f"{name}/name/__init__.py": "import os\n",
        f"{name}/tests/data.zip": "binary",
        f'{name}/odd "name".py': "odd = 1\n",
    }
    stored = repository(work, name)
    assert (stored["kind"], stored["branch"], stored["commits"], stored["files"]) == ("archive", "", 0, 4)
    assert stored["committed_at"][:19] == "2026-01-02T03:04:06" or form == "7z"
    blob = b"import os\n"
    assert file(work, f"{name}/name/__init__.py")["digest"] == hashlib.sha1(b"blob 10\0" + blob).hexdigest()
    assert file(work, f"{name}/name/__init__.py")["changes"] == 0
    assert quarantine(work) == {}
    assert not run(work).changed


@pytest.mark.parametrize("kind", ["archive", "bundle"])
def test_where_things_lie_may_be_told_from_here(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    here = load_settings({name: str(Path(value).relative_to(tmp_path)) for name, value in variables.items()}, None)
    (here.inbox / "kestrel").mkdir()
    if kind == "archive":
        write(here.inbox / "kestrel" / "x.zip", make_zip(TREE))
    else:
        folder = make_repository(tmp_path / "origin", {"a.py": "a\n"})
        git(folder, "bundle", "create", "--quiet", str(tmp_path / "inbox" / "kestrel" / "x.bundle"), "--all")
    work = Work("kestrel", here, ProjectStore(here.store, "kestrel", here.state))
    run(work)
    assert quarantine(work) == {}
    assert files(work)


def test_a_newer_archive_reads_what_differs(work: Work, project: Path, read_blobs: list[str]) -> None:
    write(project / "tree.zip", make_zip(TREE))
    run(work)
    derived(work, "tree.zip/name/__init__.py")
    read_blobs.clear()
    write(project / "tree.zip", make_zip({**TREE, "name-1.2/name/__init__.py": b"import sys\n"}))
    assert run(work).metadata["read"] == 1
    assert len(read_blobs) == 1
    assert files(work)["tree.zip/name/__init__.py"] == "import sys\n"
    assert len(list((work.settings.state / "kestrel" / "clones").iterdir())) == 1
    (project / "tree.zip").unlink()
    run(work)
    assert files(work) == {}
    assert work.store.snapshot().rows("indexed") == []
    assert list((work.settings.state / "kestrel" / "clones").iterdir()) == []


def test_what_an_archive_holds_beside_files_is_told(work: Work, project: Path) -> None:
    data = make_tar(
        [
            file_info("t/Makefile", b"all:\n"),
            file_info("t/a.c", b"int a;\n"),
            file_info("t/.git/config", b"[core]\nfsmonitor = touch ran\n"),
            file_info("t/link.c", kind=tarfile.SYMTYPE, to="/etc/passwd"),
            file_info("t/hard.c", kind=tarfile.LNKTYPE, to="/etc/passwd"),
            file_info("t/../../out.c", b"out\n"),
            file_info("t/huge.bin", bytes(100)),
        ]
    )
    write(project / "t.tar", data)
    small = work.settings.model_copy(update={"archive_member_bytes": 50})
    few = Work(work.project, small, work.store)
    run(few)
    assert files(work) == {"t.tar/Makefile": "all:\n", "t.tar/a.c": "int a;\n", "t.tar/link.c": "symbolic link"}
    assert quarantine(work) == {
        "t.tar/.git": "is a git folder, which is not looked into: drop the repository itself, or a bundle of it",
        "t.tar/hard.c": "is a hard link",
        "t.tar/../../out.c": "its name leads out of the archive",
        "t.tar/huge.bin": "is larger than 50 bytes",
    }
    assert not run(few).changed


def test_an_archive_that_reaches_a_limit_keeps_what_it_gave(work: Work, project: Path) -> None:
    write(project / "t.zip", make_zip({"Makefile": b"all:\n", **{f"{number}.c": b"int a;\n" for number in range(9)}}))
    few = Work(work.project, work.settings.model_copy(update={"archive_members": 5}), work.store)
    run(few)
    assert len(files(work)) == 5
    assert quarantine(work) == {"t.zip": "has more than 5 members: the rest is not read"}
    assert not run(few).changed
    run(work)
    assert len(files(work)) == 10
    assert quarantine(work) == {}


def test_an_archive_of_a_bare_repository_is_refused_in_one_line(work: Work, project: Path, tmp_path: Path) -> None:
    bare = make_repository(tmp_path / "r", {"a.py": "a\n"}) / ".git"
    packed = {f"r.git/{path.relative_to(bare)}": path.read_bytes() for path in bare.rglob("*") if path.is_file()}
    write(project / "r.zip", make_zip(packed))
    make_repository(project / "good", {"a.py": "a\n"})
    run(work)
    assert files(work) == {"good/a.py": "a\n"}
    assert quarantine(work) == {
        "r.zip": "it holds a bare git repository: unpack it, or drop a bundle (git bundle create)"
    }
    assert not run(work).changed


def test_an_archive_that_changes_while_it_is_read_is_not_taken(work: Work, project: Path, tmp_path: Path) -> None:
    path = write(project / "t.zip", make_zip(TREE))
    with pytest.raises(RepositoryError, match="changed while it was read"):
        open_archive(path, "0" * 32, tmp_path / "clones", Limits())
    assert list((tmp_path / "clones").iterdir()) == []
