"""Repositories are read whole and true, and what is wrong with one is said."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.errors import CortexError
from cortex_pipelines.ingest import git as module
from cortex_pipelines.ingest.git import (
    BLOB_BYTES,
    Blob,
    GitMissing,
    GitRepository,
    RepositoryError,
    _safe_path,
    open_bundle,
    open_repository,
    remove_clones,
)
from tests.ingest.git_building import (
    commit_files,
    commit_tree,
    git,
    loose,
    make_repository,
    object_file,
    overwrite_object,
    tree,
    write_object,
)


def read(repository: GitRepository) -> dict[str, bytes | str | None]:
    """Every file at the head: its content, or why there is none."""
    entries = repository.entries(repository.head().commit)
    blobs = {blob.oid: blob for blob in repository.blobs({entry.oid for entry in entries if not entry.skipped})}
    return {
        entry.path: entry.skipped if entry.skipped else blobs[entry.oid].data or blobs[entry.oid].fault
        for entry in entries
    }


def digest_of(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_work_tree_is_read_at_its_head_commit_not_as_it_lies_there(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "committed\n", "sub/b.txt": "b\n"})
    (folder / "a.py").write_text("not committed\n")
    repository = open_repository(folder, tmp_path)
    assert repository.head() == module.Head(git(folder, "rev-parse", "HEAD"), "main")
    assert read(repository) == {"a.py": b"committed\n", "sub/b.txt": b"b\n"}


def test_a_bare_repository_is_read(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a\n"})
    git(tmp_path, "clone", "--quiet", "--bare", "r", "bare.git")
    assert read(open_repository(tmp_path / "bare.git", tmp_path)) == {"a.py": b"a\n"}
    assert open_repository(tmp_path / "bare.git", tmp_path).head().commit == git(folder, "rev-parse", "HEAD")


def test_a_linked_work_tree_is_read_at_its_own_head(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "main", {"a.py": "one\n"})
    git(folder, "worktree", "add", "--quiet", "-b", "side", "../side")
    commit_files(tmp_path / "side", {"a.py": "two\n"})
    repository = open_repository(tmp_path / "side", tmp_path)
    assert repository.head().branch == "side"
    assert read(repository) == {"a.py": b"two\n"}
    with pytest.raises(RepositoryError, match=r"its \.git file leads out"):
        open_repository(tmp_path / "side", tmp_path / "side")


def test_a_repository_with_sha256_ids_is_read(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a\n"}, "--object-format=sha256")
    repository = open_repository(folder, tmp_path)
    assert len(repository.head().commit) == 64
    assert read(repository) == {"a.py": b"a\n"}
    assert repository.history(repository.head().commit).commits == 1


def test_a_packed_repository_is_read(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {f"{number}.txt": "line\n" * 50 + str(number) for number in range(20)})
    git(folder, "repack", "-adfq")
    git(folder, "pack-refs", "--all")
    assert len(read(open_repository(folder, tmp_path))) == 20


def test_a_detached_head_has_no_branch(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a": "a"})
    git(folder, "checkout", "--quiet", "--detach")
    assert open_repository(folder, tmp_path).head() == module.Head(git(folder, "rev-parse", "HEAD"), "")


@pytest.mark.parametrize(("branches", "chosen"), [(("dev", "main"), "main"), (("b", "c"), "b"), ((), "v1")])
def test_where_head_names_nothing_the_usual_branch_is_read(
    tmp_path: Path, branches: tuple[str, ...], chosen: str
) -> None:
    folder = make_repository(tmp_path / "r", {"a": "a"})
    git(folder, "tag", "-a", "v1", "-m", "one")
    for branch in branches:
        git(folder, "branch", "--force", branch, check=False)
    git(folder, "symbolic-ref", "HEAD", "refs/heads/gone")
    if "main" not in branches:
        git(folder, "branch", "-D", "main")
    repository = open_repository(folder, tmp_path)
    assert repository.head().branch == chosen
    assert read(repository) == {"a": b"a"}
    assert repository.history(repository.head().commit).commits == 1


def test_a_repository_without_a_commit_says_so(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="it has no commit yet"):
        open_repository(make_repository(tmp_path / "r", {}), tmp_path).head()


def test_what_is_no_repository_says_so(tmp_path: Path) -> None:
    (tmp_path / "r" / ".git").mkdir(parents=True)
    with pytest.raises(RepositoryError, match="not a git repository"):
        open_repository(tmp_path / "r", tmp_path).head()
    (tmp_path / "plain").mkdir()
    with pytest.raises(RepositoryError, match="not a git repository"):
        open_repository(tmp_path / "plain", tmp_path)
    (tmp_path / "plain" / ".git").write_text("nonsense")
    with pytest.raises(RepositoryError, match=r"its \.git file names no folder"):
        open_repository(tmp_path / "plain", tmp_path)


def test_a_head_that_is_missing_from_the_objects_says_so(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a": "a"})
    commit = git(folder, "rev-parse", "HEAD")
    object_file(folder, commit).unlink()
    repository = open_repository(folder, tmp_path)
    with pytest.raises(RepositoryError, match="git says: "):
        repository.entries(repository.head().commit)


def test_git_that_is_not_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_repository(tmp_path / "r", {"a": "a"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitMissing, match="git is not installed or not on PATH"):
        open_repository(folder, tmp_path).head()


def test_what_must_not_be_followed_or_read_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a\n", "large.csv": b"x" * (BLOB_BYTES + 1), "x": "x\n"})
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "module").mkdir()
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{git(folder, 'rev-parse', 'HEAD')},module")
    commit_files(folder, {})
    repository = open_repository(folder, tmp_path)
    entries = {entry.path: entry for entry in repository.entries(repository.head().commit)}
    assert {path: entry.skipped for path, entry in entries.items()} == {
        "a.py": None,
        "large.csv": "too large",
        "link": "symbolic link",
        "module": "submodule",
        "x": None,
    }
    assert (entries["a.py"].mode, entries["a.py"].size) == ("100644", 2)
    assert (entries["module"].mode, entries["module"].size) == ("160000", 0)


@pytest.mark.parametrize(
    "name",
    [
        *(b"a\nb", b"tab\there", b"esc\x1b[2J", b"back\\slash", b"\xff\xfe", b"..", b".", b".git", b".GIT", b"git~1"),
        *("rtl\u202efdp.exe".encode(), b"../../etc/passwd", b"/etc/passwd", b"a//b", b"n" * 2000, "l\u2028s".encode()),
    ],
)
def test_a_name_that_could_lead_astray_is_listed_escaped_and_not_read(tmp_path: Path, name: bytes) -> None:
    folder = make_repository(tmp_path / "r", {})
    oid = write_object(folder, "blob", b"content")
    commit = commit_tree(folder, tree(("100644", name, oid), ("100644", b"z.py", oid)))
    entries = open_repository(folder, tmp_path).entries(commit)
    assert [entry.skipped for entry in entries] == ["unsafe name", None]
    assert "\\" in entries[0].path
    assert entries[0].path.isprintable()
    assert ".." not in entries[0].path


@pytest.mark.parametrize("name", ["ümlaut.py", "日本語.md", "with space.txt", ".gitignore", "a..b", "e\u0301.txt"])
def test_an_unusual_but_honest_name_is_kept(tmp_path: Path, name: str) -> None:
    folder = make_repository(tmp_path / "r", {name: "text"})
    assert read(open_repository(folder, tmp_path)) == {name: b"text"}


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=2, max_size=2, unique=True))
def test_different_names_are_shown_differently_and_a_safe_one_as_it_is(names: list[bytes]) -> None:
    shown = [_safe_path(name) for name in names]
    assert shown[0][0] != shown[1][0]
    for name, (path, safe) in zip(names, shown, strict=True):
        assert path.isprintable() or safe
        assert safe == ("\\" not in path)
        if safe:
            assert path.encode() == name
            assert not {"", ".", "..", ".git"} & set(path.split("/"))


def test_a_path_that_a_tree_names_twice_is_read_once(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {})
    one, two = (write_object(folder, "blob", content) for content in (b"one", b"two"))
    commit_tree(folder, tree(("100644", b"a", one), ("100644", b"a", two), ("100644", b"a", two)))
    assert read(open_repository(folder, tmp_path)) == {
        "a": b"one",
        "a\\": "duplicate name",
        "a\\\\": "duplicate name",
    }


def test_a_tree_that_lists_itself_over_and_over_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_repository(tmp_path / "r", {})
    mode, oid = "100644", write_object(folder, "blob", b"boom")
    for _ in range(9):
        oid = write_object(folder, "tree", tree(*((mode, f"f{number}".encode(), oid) for number in range(10))))
        mode = "40000"
    commit = commit_tree(folder, tree(("40000", b"d", oid)))
    monkeypatch.setattr(module, "LISTING_BYTES", 2**20)
    with pytest.raises(RepositoryError, match="more than 1 MiB of names"):
        open_repository(folder, tmp_path).entries(commit)


def test_one_damaged_object_spoils_no_other(tmp_path: Path) -> None:
    contents = {f"{name}.txt": f"{name}\n" * 200 for name in "abcdefg"}
    folder = make_repository(tmp_path / "r", contents)
    oids = {name: git(folder, "rev-parse", f"HEAD:{name}") for name in contents}
    object_file(folder, oids["b.txt"]).unlink()
    overwrite_object(folder, oids["c.txt"], b"\0 no zlib at all")
    overwrite_object(folder, oids["d.txt"], loose("blob", os.urandom(100_000))[:90_000])
    overwrite_object(folder, oids["e.txt"], loose("blob", b"another content"))
    overwrite_object(folder, oids["f.txt"], loose("tree", b""))
    repository = open_repository(folder, tmp_path)
    found = {blob.oid: blob for blob in repository.blobs(oids.values())}
    assert found[oids["a.txt"]] == Blob(oids["a.txt"], b"a\n" * 200)
    assert found[oids["g.txt"]] == Blob(oids["g.txt"], b"g\n" * 200)
    assert found[oids["b.txt"]].fault == "its object is missing or damaged"
    assert found[oids["c.txt"]].fault == "its object is missing or damaged"
    assert found[oids["d.txt"]].fault.startswith("git says: ")
    assert found[oids["e.txt"]].fault == "its object is corrupt: the content does not match its id"
    assert found[oids["f.txt"]].fault == "its object is a tree"
    assert all(found[oids[f"{name}.txt"]].data is None for name in "bcdef")


def test_an_object_larger_than_listed_is_passed_over(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a": b"x" * (BLOB_BYTES + 1), "b": "b"})
    oids = [git(folder, "rev-parse", f"HEAD:{name}") for name in "ab"]
    found = list(open_repository(folder, tmp_path).blobs(oids))
    assert found == [Blob(oids[0], None, "its object is larger than listed"), Blob(oids[1], b"b")]


def test_what_is_no_object_id_never_reaches_git(tmp_path: Path) -> None:
    repository = open_repository(make_repository(tmp_path / "r", {"a": "a"}), tmp_path)
    for wrong in ("HEAD", "--output=x", "", "0" * 39):
        with pytest.raises(RepositoryError, match="is not an object id"):
            repository.entries(wrong)
        with pytest.raises(RepositoryError, match="is not an object id"):
            list(repository.blobs([wrong]))


def test_the_history_counts_commits_and_the_churn_of_each_path(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "1", "b.py": "1"})
    for number in range(3):
        commit_files(folder, {"a.py": str(number + 2)})
    git(folder, "checkout", "--quiet", "-b", "side", "HEAD~2")
    commit_files(folder, {"ü.py": "side"})
    git(folder, "checkout", "--quiet", "main")
    git(folder, "merge", "--quiet", "--no-edit", "side")
    repository = open_repository(folder, tmp_path)
    history = repository.history(repository.head().commit)
    assert history.commits == 6
    assert history.changes == {"a.py": 4, "b.py": 1, "ü.py": 1}
    assert history.committed_at == "2026-01-02T03:04:05+00:00"


def test_the_churn_is_of_the_latest_commits_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "1", "b.py": "1"})
    for number in range(4):
        commit_files(folder, {"a.py": str(number + 2)})
    monkeypatch.setattr(module, "CHURN_COMMITS", 2)
    repository = open_repository(folder, tmp_path)
    assert repository.history(repository.head().commit) == module.History("2026-01-02T03:04:05+00:00", 5, {"a.py": 2})


def test_a_shallow_clone_counts_the_history_it_has(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "full", {"a.py": "1"})
    for number in range(4):
        commit_files(folder, {"a.py": str(number + 2)})
    git(tmp_path, "clone", "--quiet", "--depth=2", folder.as_uri(), "shallow")
    repository = open_repository(tmp_path / "shallow", tmp_path)
    assert read(repository) == {"a.py": b"5"}
    assert repository.history(repository.head().commit).commits == 2


def test_a_partial_clone_reads_what_it_has_and_fetches_nothing(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "full", {"a.py": "old"})
    commit_files(folder, {"a.py": "new", "b.py": "b"})
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", "--no-checkout", folder.as_uri(), "partial")
    repository = open_repository(tmp_path / "partial", tmp_path)
    assert read(repository) == dict.fromkeys(("a.py", "b.py"), "its object is missing or damaged")
    assert repository.history(repository.head().commit).changes == {"a.py": 2, "b.py": 1}


def test_borrowed_objects_inside_the_project_are_read_and_outside_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_repository(project / "origin", {"a.py": "a"})
    git(project, "clone", "--quiet", "--shared", "origin", "inside")
    assert read(open_repository(project / "inside", project)) == {"a.py": b"a"}
    make_repository(tmp_path / "victim", {"secret.txt": "secret"})
    git(project, "clone", "--quiet", "--shared", "../victim", "outside")
    with pytest.raises(RepositoryError, match="alternates leads out of the project's folder"):
        open_repository(project / "outside", project)
    # One that borrows from one that borrows from outside.
    git(project, "clone", "--quiet", "--shared", "outside", "chained")
    with pytest.raises(RepositoryError, match="alternates leads out of the project's folder"):
        open_repository(project / "chained", project)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a repository `r`, beside a repository `victim` that lies outside."""
    make_repository(tmp_path / "victim", {"secret.txt": "secret"})
    make_repository(tmp_path / "project" / "r", {"a.py": "a"})
    return tmp_path / "project"


@pytest.mark.parametrize(
    "content",
    [
        b"../../../../victim/.git/objects",
        b'"../../../../victim/.git/objects"',
        b"# comment\n\n../../../../victim/.git/objects\n",
        # By name this leads out; with links resolved first it does not.
        b"deep/../../../../../victim/.git/objects",
        b"x/" * 40_000,
        b"a\0/../../../../victim/.git/objects",
    ],
)
def test_no_way_of_writing_an_alternate_leads_out(project: Path, content: bytes) -> None:
    objects = project / "r" / ".git" / "objects"
    (project / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    (objects / "deep").symlink_to(project / "a" / "b" / "c" / "d" / "e")
    (objects / "info").mkdir(exist_ok=True)
    (objects / "info" / "alternates").write_bytes(content)
    with pytest.raises(RepositoryError, match="alternates"):
        open_repository(project / "r", project)


def test_a_list_of_alternates_that_is_itself_a_link_is_still_looked_at(project: Path) -> None:
    info = project / "r" / ".git" / "objects" / "info"
    info.mkdir(exist_ok=True)
    (project / "list").write_text("../../../../victim/.git/objects\n")
    (info / "alternates").symlink_to(project / "list")
    with pytest.raises(RepositoryError, match="alternates leads out"):
        open_repository(project / "r", project)


@pytest.mark.parametrize("part", ["objects", "refs", "HEAD", "config", "objects/pack", "packed-refs", "shallow"])
def test_a_link_out_of_the_project_is_refused(project: Path, part: str) -> None:
    inside, outside = project / "r" / ".git" / part, project.parent / "victim" / ".git" / part
    if inside.exists():
        inside.rename(project / "moved")
    inside.symlink_to(outside)
    with pytest.raises(RepositoryError, match="leads out of the project's folder"):
        open_repository(project / "r", project)


def test_a_link_within_the_project_is_followed_and_what_it_leads_to_is_looked_at(project: Path) -> None:
    objects = project / "r" / ".git" / "objects"
    objects.rename(project / "store")
    objects.symlink_to(project / "store")
    assert read(open_repository(project / "r", project)) == {"a.py": b"a"}
    (project / "store" / "zz").symlink_to(project.parent / "victim")
    with pytest.raises(RepositoryError, match="zz in its git folder leads out"):
        open_repository(project / "r", project)


@pytest.mark.parametrize("kind", ["link", "file", "link with a line end", "repository itself"])
def test_a_git_folder_outside_the_project_is_refused(project: Path, kind: str) -> None:
    victim = project.parent / "victim"
    folder = project / "evil"
    if kind == "repository itself":
        folder.symlink_to(victim)
    else:
        folder.mkdir()
        if kind == "link":
            (folder / ".git").symlink_to(victim / ".git")
        elif kind == "file":
            (folder / ".git").write_text("gitdir: ../../victim/.git\n")
        else:
            (folder / "x\r").mkdir()
            (folder / "x").symlink_to(victim / ".git")
            (folder / ".git").write_bytes(b"gitdir: x\r\n")
    with pytest.raises(RepositoryError, match="leads out of the project's folder"):
        open_repository(folder, project)


@pytest.mark.parametrize("content", [b"../../../victim/.git\n", b"x\r\n"])
def test_a_common_folder_outside_the_project_is_refused(project: Path, content: bytes) -> None:
    git_dir = project / "r" / ".git"
    (git_dir / "x\r").mkdir()
    (project / "r" / "x").symlink_to(project.parent / "victim" / ".git")
    (git_dir / "commondir").write_bytes(content)
    if b"\r" in content:
        (git_dir / "x").symlink_to("../x")
    with pytest.raises(RepositoryError, match="leads out of the project's folder"):
        open_repository(project / "r", project)


def test_a_pipe_in_a_git_folder_hangs_nobody(project: Path) -> None:
    os.mkfifo(project / "r" / ".git" / "packed-refs")
    with pytest.raises(RepositoryError, match="packed-refs in its git folder is no plain file"):
        open_repository(project / "r", project)


def test_a_link_that_is_never_read_is_no_fault(project: Path) -> None:
    git_dir = project / "r" / ".git"
    (git_dir / "hooks").mkdir(exist_ok=True)
    (git_dir / "hooks" / "pre-commit").symlink_to("/usr/share/hooks/pre-commit")
    (git_dir / "lfs").symlink_to("/var/cache/lfs")
    assert read(open_repository(project / "r", project)) == {"a.py": b"a"}


def test_git_that_hangs_is_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(project / "pipe")
    git(project / "r", "config", "include.path", str(project / "pipe"))
    monkeypatch.setattr(module, "REF_SECONDS", 0.3)
    with pytest.raises(RepositoryError, match="git took more than"):
        open_repository(project / "r", project).head()


def test_git_cannot_allocate_without_bound(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small blob stored as a difference to a large one makes git unpack both."""
    base = os.urandom(24 * 2**20)
    folder = make_repository(project / "big", {"file": base})
    commit_files(folder, {"file": base[: BLOB_BYTES // 2]})
    git(folder, "-c", "core.bigFileThreshold=1g", "repack", "-adfq")
    oid = git(folder, "rev-parse", "HEAD:file")
    assert git(folder, "cat-file", "--batch-check=%(deltabase)", given=f"{oid}\n".encode()) == git(
        folder, "rev-parse", "HEAD~1:file"
    )
    repository = open_repository(folder, project)
    assert [blob.data for blob in repository.blobs([oid])] == [base[: BLOB_BYTES // 2]]
    monkeypatch.setattr(module, "MEMORY_BYTES", 20 * 2**20)
    [starved] = repository.blobs([oid])
    assert starved.data is None
    assert starved.fault.startswith("git says: ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_a_repository_of_another_user_is_read(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a"})
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 12345, 12345)
    assert git(folder, "status", check=False) == ""
    assert read(open_repository(folder, tmp_path)) == {"a.py": b"a"}


def test_a_bundle_is_cloned_once_per_content(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a"})
    git(folder, "bundle", "create", "--quiet", "../r.bundle", "--all")
    bundle, clones = tmp_path / "r.bundle", tmp_path / "state" / "clones"
    first = open_bundle(bundle, digest_of(bundle), clones)
    assert read(first) == {"a.py": b"a"}
    assert first.head().branch == "main"
    assert names_in(clones) == [f"{digest_of(bundle)}.git"]
    bundle.rename(tmp_path / "away.bundle")
    assert read(open_bundle(bundle, digest_of(tmp_path / "away.bundle"), clones)) == {"a.py": b"a"}


def test_a_bundle_of_one_branch_without_head_is_read(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a"})
    git(folder, "branch", "--move", "feature")
    git(folder, "bundle", "create", "--quiet", "../r.bundle", "feature")
    repository = open_bundle(tmp_path / "r.bundle", digest_of(tmp_path / "r.bundle"), tmp_path / "clones")
    assert repository.head().branch == "feature"
    assert read(repository) == {"a.py": b"a"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: b"gitdir: ../victim/.git\n", "it is not a git bundle"),
        (lambda content: b"", "it is not a git bundle"),
        (lambda content: content[: len(content) // 2], "git says: "),
        (lambda content: content[:-40] + bytes(40), "git says: "),
    ],
)
def test_what_is_no_whole_bundle_is_refused_and_leaves_nothing(project: Path, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    bundle = project / "r.bundle"
    git(project / "r", "bundle", "create", "--quiet", str(bundle), "--all")
    bundle.write_bytes(damage(bundle.read_bytes()))
    with pytest.raises(RepositoryError, match=reason):
        open_bundle(bundle, digest_of(bundle), project.parent / "clones")
    assert names_in(project.parent / "clones") == []


def test_a_bundle_that_builds_on_commits_it_lacks_is_refused(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a"})
    commit_files(folder, {"a.py": "b"})
    git(folder, "bundle", "create", "--quiet", "../r.bundle", "HEAD~1..main")
    with pytest.raises(RepositoryError, match="git says: "):
        open_bundle(tmp_path / "r.bundle", digest_of(tmp_path / "r.bundle"), tmp_path / "clones")


def test_a_bundle_that_changed_since_it_was_seen_or_vanished_is_not_taken_for_what_it_was(tmp_path: Path) -> None:
    folder = make_repository(tmp_path / "r", {"a.py": "a"})
    git(folder, "bundle", "create", "--quiet", "../r.bundle", "--all")
    with pytest.raises(RepositoryError, match="it changed while it was read"):
        open_bundle(tmp_path / "r.bundle", "0" * 32, tmp_path / "clones")
    with pytest.raises(RepositoryError, match="it cannot be read: No such file"):
        open_bundle(tmp_path / "gone.bundle", "0" * 32, tmp_path / "clones")


def test_a_disk_that_would_be_full_is_the_fault_of_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "r.bundle").touch()
    os.truncate(tmp_path / "r.bundle", shutil.disk_usage(tmp_path).free)
    with pytest.raises(CortexError, match=r"bytes free, r\.bundle needs") as raised:
        open_bundle(tmp_path / "r.bundle", "0" * 32, tmp_path / "clones")
    assert not isinstance(raised.value, RepositoryError)


def test_clones_that_are_no_longer_wanted_are_removed(tmp_path: Path) -> None:
    clones = tmp_path / "clones"
    for name in ("old.git", "kept.git", ".unfinished-now", ".unfinished-killed"):
        (clones / name / "objects").mkdir(parents=True)
    os.utime(clones / ".unfinished-killed", (0, 0))
    assert remove_clones(clones, ["kept"]) == 2
    assert names_in(clones) == [".unfinished-now", "kept.git"]
    assert remove_clones(tmp_path / "nothing", []) == 0
