"""A repository that is set up to run its own commands runs none of them."""

import os
from pathlib import Path

import pytest

from cortex_pipelines.ingest.git import SUBMODULE, GitRepository, open_bundle, open_repository, submodule_urls
from tests.ingest.git_building import commit_files, commit_tree, git, make_repository, object_file, plant, ran, tree
from tests.ingest.test_git import digest_of

FILES = {"a.py": "a = 1\n", "b.txt": "text\n", "gone.txt": "its object is gone\n"}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A repository in which everything that can be planted is, one of whose objects is missing."""
    folder = make_repository(tmp_path / "inbox" / "hostile", FILES)
    commit_files(folder, {"a.py": "a = 2\n"})
    plant(folder, tmp_path / "traps")
    object_file(folder, missing(folder)).unlink()
    return folder


def missing(folder: Path) -> str:
    return git(folder, "hash-object", "--stdin", given=FILES["gone.txt"].encode())


def use_all(repository: GitRepository) -> None:
    head = repository.head()
    entries = repository.entries(head.commit)
    assert {"a.py", "b.txt", "gone.txt"} <= {entry.path for entry in entries}
    read = {blob.oid: blob.data for blob in repository.blobs([entry.oid for entry in entries])}
    assert b"a = 2\n" in read.values()
    assert repository.history(head.commit).changes["a.py"] == 2


def test_the_traps_do_run_in_porcelain_so_that_their_silence_means_something(hostile: Path, tmp_path: Path) -> None:
    for path in hostile.glob("*.py"):
        # Git runs the filter only over what may have changed since its index was written.
        os.utime(path, (1, 1))
    git(hostile, "status", check=False)
    git(hostile, "diff", check=False)
    git(hostile, "log", "-1", "--format=%H", check=False)
    git(hostile, "cat-file", "-p", missing(hostile), check=False)
    git(hostile, "log", "-1", "-p", "--textconv", "--no-ext-diff", "HEAD~1", check=False)
    git(hostile, "config", "alias.planted", f"!{tmp_path}/traps/alias", check=False)
    git(hostile, "planted", check=False)
    git(hostile, "checkout", "--force", "HEAD~1", check=False)
    traps = {"fsmonitor", "clean", "gpg", "uploadpack", "textconv", "alias", "post-checkout"}
    assert traps <= ran(tmp_path / "traps")


def test_nothing_planted_in_a_repository_is_run(hostile: Path, tmp_path: Path) -> None:
    use_all(open_repository(hostile, tmp_path / "inbox"))
    assert ran(tmp_path / "traps") == set()


def test_nothing_planted_in_a_bare_repository_is_run(hostile: Path, tmp_path: Path) -> None:
    bare = (hostile / ".git").rename(tmp_path / "inbox" / "bare.git")
    use_all(open_repository(bare, tmp_path / "inbox"))
    assert ran(tmp_path / "traps") == set()


def test_nothing_planted_beside_a_bundle_is_run(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", FILES)
    commit_files(folder, {"a.py": "a = 2\n", ".gitattributes": "* filter=evil\n"})
    bundle = tmp_path / "inbox" / "x.bundle"
    bundle.parent.mkdir()
    git(folder, "bundle", "create", "--quiet", str(bundle), "--all")
    # Git's clone takes a repository of this name for the bundle.
    trapped = make_repository(tmp_path / "inbox" / "x.bundle.git", FILES)
    plant(trapped, tmp_path / "traps")
    use_all(open_bundle(bundle, digest_of(bundle), tmp_path / "clones"))
    assert ran(tmp_path / "traps") == set()


def test_a_submodule_that_would_run_something_is_only_listed(hostile: Path, tmp_path: Path) -> None:
    inside = open_repository(hostile, tmp_path / "inbox")
    commit = inside.head().commit
    modules = (hostile / ".gitmodules").read_bytes()
    oid = git(hostile, "hash-object", "-w", "--stdin", "--no-filters", given=modules)
    commit_tree(hostile, tree(("100644", b".gitmodules", oid), ("160000", b"m", commit), ("160000", b"n", commit)))
    repository = open_repository(hostile, tmp_path / "inbox")
    entries = {entry.path: entry for entry in repository.entries(repository.head().commit)}
    assert (entries["m"].skipped, entries["m"].oid) == (SUBMODULE, commit)
    [blob] = repository.blobs([entries[".gitmodules"].oid])
    assert submodule_urls(blob.data or b"")["m"].startswith("ext::")
    assert ran(tmp_path / "traps") == set()


def test_replaced_and_grafted_history_is_not_believed(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "real\n"})
    commit_files(folder, {"b.py": "b\n"})
    real = git(folder, "rev-parse", "HEAD:a.py")
    fake = git(folder, "hash-object", "-w", "--stdin", given=b"fake\n")
    git(folder, "replace", real, fake)
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "grafts").write_text(git(folder, "rev-parse", "HEAD") + "\n")
    assert git(folder, "cat-file", "-p", real) == "fake"
    assert git(folder, "rev-list", "--count", "HEAD") == "1"
    repository = open_repository(folder, tmp_path)
    assert [blob.data for blob in repository.blobs([real])] == [b"real\n"]
    assert repository.history(repository.head().commit).commits == 2


def test_an_argument_that_a_name_could_become_stays_a_name(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "--output=x", {"--help": "a\n"})
    git(folder, "update-ref", "refs/heads/--exec=touch", "HEAD")
    git(folder, "symbolic-ref", "HEAD", "refs/heads/--exec=touch")
    repository = open_repository(folder, tmp_path)
    assert repository.head().branch == "--exec=touch"
    assert [entry.path for entry in repository.entries(repository.head().commit)] == ["--help"]
