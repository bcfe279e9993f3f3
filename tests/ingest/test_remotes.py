"""Repositories that a project names: fetched from real servers, or read where they lie, and never more than allowed."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cortex_pipelines.ingest import remotes as module
from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.remotes import Remote, Remotes, read_sources
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.stairs import Outcome, Work, climb
from tests.ingest.git_building import commit_files, git, make_repository, plant, ran
from tests.servers.git_servers import Web, git_daemon, git_web

FILES: dict[str, str | bytes] = {"a.py": "a = 1\n", "b.py": "b = 1\n"}


@pytest.fixture(autouse=True)
def _always_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.0)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository that a server has."""
    return make_repository(tmp_path / "served" / "kestrel", FILES)


@pytest.fixture
def daemon(origin: Path) -> Iterator[str]:
    with git_daemon(origin.parent) as place:
        yield place


@pytest.fixture
def web(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with git_web(origin.parent, tmp_path / "keys") as web:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(web.certificate))
        yield web


def allow(work: Work, *places: str, **more: Any) -> Work:
    settings = work.settings.model_copy(update={"remotes": places})
    return Work(work.project, settings, work.store, **more)


def name(folder: Path, text: str) -> None:
    (folder / "sources.yaml").write_text(text)


def run(work: Work) -> Outcome:
    climb(DOCUMENTS, work)
    outcome = climb(REPOSITORIES, work)
    assert outcome.verdicts["keys_unique"].passed
    return outcome


def files(work: Work) -> dict[str, str]:
    return {row["source"]: row["text"] for row in work.store.snapshot().rows("files")}


def quarantine(work: Work) -> dict[str, str]:
    return {row["path"]: row["reason"] for row in work.store.snapshot().rows("quarantine")}


def stored(work: Work, path: str = "kestrel") -> dict[str, Any]:
    [row] = work.store.snapshot().rows("repositories", where={"path": path})
    return row


def test_a_daemon_is_fetched_from_and_its_news_with_it(work: Work, folder: Path, origin: Path, daemon: str) -> None:
    name(folder, f"- url: git://{daemon}/kestrel\n")
    work = allow(work, daemon)
    run(work)
    assert files(work) == {"kestrel/a.py": "a = 1\n", "kestrel/b.py": "b = 1\n"}
    row = stored(work)
    assert (row["kind"], row["branch"], row["commit"]) == ("remote", "main", git(origin, "rev-parse", "HEAD"))
    assert quarantine(work) == {}
    assert not run(work).changed
    commit_files(origin, {"b.py": "b = 2\n"})
    outcome = run(work)
    assert outcome.metadata["read"] == 1
    assert files(work)["kestrel/b.py"] == "b = 2\n"
    assert stored(work)["commits"] == 2
    commit_files(origin, {"b.py": None})
    git(origin, "reset", "--quiet", "--soft", "HEAD~2")
    git(origin, "commit", "--quiet", "--amend", "--message", "Rewritten")
    run(work)
    assert files(work) == {"kestrel/a.py": "a = 1\n"}


def test_a_branch_and_a_depth_are_what_is_fetched(work: Work, folder: Path, origin: Path, daemon: str) -> None:
    git(origin, "checkout", "--quiet", "-b", "release/1.2")
    for number in range(5):
        commit_files(origin, {"a.py": f"a = {number}\n"})
    git(origin, "checkout", "--quiet", "main")
    name(folder, f"- {{url: 'git://{daemon}/kestrel', name: old, branch: release/1.2, depth: 2}}\n")
    work = allow(work, daemon)
    run(work)
    assert files(work)["old/a.py"] == "a = 4\n"
    assert (stored(work, "old")["branch"], stored(work, "old")["commits"]) == ("release/1.2", 2)
    name(folder, f"- {{url: 'git://{daemon}/kestrel', name: old, branch: gone}}\n")
    run(work)
    assert quarantine(work) == {"old": "it has no branch gone"}
    assert files(work)["old/a.py"] == "a = 4\n"
    (folder / "sources.yaml").unlink()
    run(work)
    assert files(work) == {}
    assert quarantine(work) == {}
    assert list((work.settings.state / work.project / "remotes").iterdir()) == []


def test_one_that_cannot_be_reached_stays_as_it_was_and_is_told(work: Work, folder: Path, origin: Path) -> None:
    with git_daemon(origin.parent) as daemon:
        name(folder, f"- url: git://{daemon}/kestrel\n")
        work = allow(work, daemon)
        run(work)
    before = files(work)
    run(work)
    assert files(work) == before
    assert quarantine(work)["kestrel"].endswith("what was fetched last is kept")
    assert "git says: " in quarantine(work)["kestrel"]
    assert not run(work).changed


def test_a_state_that_is_lost_takes_nothing_with_it(work: Work, folder: Path, origin: Path, daemon: str) -> None:
    import shutil

    name(folder, f"- url: git://{daemon}/kestrel\n")
    work = allow(work, daemon)
    run(work)
    shutil.rmtree(work.settings.state / work.project)
    (origin / ".git").rename(origin / "hidden")
    run(work)
    assert len(files(work)) == 2
    assert "git says: " in quarantine(work)["kestrel"]
    (origin / "hidden").rename(origin / ".git")
    run(work)
    assert len(files(work)) == 2
    assert quarantine(work) == {}


def test_a_step_on_another_machine_fetches_what_it_needs(work: Work, folder: Path, origin: Path, daemon: str) -> None:
    import shutil

    name(folder, f"- url: git://{daemon}/kestrel\n")
    work = allow(work, daemon)
    plan = REPOSITORIES.plan(work)
    shutil.rmtree(work.settings.state / work.project / "remotes")
    counts = [REPOSITORIES.map(work, batch) for batch in plan.batches]
    assert counts == [{"files": 2, "unreadable": 0}]
    REPOSITORIES.commit(work, plan, counts)
    assert len(files(work)) == 2


def test_a_sensor_does_not_ask(work: Work, folder: Path, origin: Path, daemon: str) -> None:
    name(folder, f"- url: git://{daemon}/kestrel\n")
    run(allow(work, daemon, quiet=True))
    assert files(work) == {}
    run(allow(work, daemon))
    commit_files(origin, {"a.py": "a = 2\n"})
    assert not run(allow(work, daemon, quiet=True)).changed
    assert run(allow(work, daemon)).changed


def test_what_was_asked_just_now_is_not_asked_again(
    work: Work, folder: Path, origin: Path, daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH_SECONDS", 60.0)
    name(folder, f"- url: git://{daemon}/kestrel\n")
    run(allow(work, daemon))
    commit_files(origin, {"a.py": "a = 2\n"})
    assert not run(allow(work, daemon)).changed


# The web.


def test_a_token_goes_to_its_server_and_is_kept_nowhere(
    work: Work, folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TOKEN_ACME", "s3cret-token")
    web.wanted = "Basic " + base64.b64encode(b"oauth2:s3cret-token").decode()
    name(folder, f"- url: https://{web.place}/kestrel\n  credentials: {{env: GIT_TOKEN_ACME, user: oauth2}}\n")
    work = allow(work, web.place)
    run(work)
    assert len(files(work)) == 2
    assert set(web.authorizations) == {web.wanted}
    for path in (work.settings.state / work.project).rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes()


def test_a_server_that_takes_no_token_is_asked_without_one(work: Work, folder: Path, web: Web) -> None:
    name(folder, f"- url: https://{web.place}/kestrel/.git/\n  name: kestrel\n")
    work = allow(work, web.place.upper())
    run(work)
    assert len(files(work)) == 2
    assert set(web.authorizations) == {None}


def test_a_refused_token_or_none_is_told_without_it(
    work: Work, folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.wanted = "Basic other"
    name(folder, f"- url: https://{web.place}/kestrel\n  credentials: {{env: GIT_TOKEN}}\n")
    work = allow(work, web.place)
    run(work)
    assert quarantine(work) == {"kestrel": "the variable GIT_TOKEN holds no token: set it where Cortex runs"}
    assert web.authorizations == []
    monkeypatch.setenv("GIT_TOKEN", "s3cret-token")
    run(work)
    assert "git says: " in quarantine(work)["kestrel"]
    assert "s3cret" not in quarantine(work)["kestrel"]


def test_a_server_that_sends_elsewhere_is_not_followed(work: Work, folder: Path, web: Web, tmp_path: Path) -> None:
    with git_web(tmp_path / "served", tmp_path / "more-keys") as other:
        web.moved = f"https://{other.place}"
        name(folder, f"- url: https://{web.place}/kestrel\n")
        run(allow(work, web.place, other.place))
        assert "git says: " in quarantine(work)["kestrel"]
        assert other.authorizations == []


def test_a_certificate_nobody_vouches_for_is_refused(
    work: Work, folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GIT_SSL_CAINFO")
    name(folder, f"- url: https://{web.place}/kestrel\n")
    run(allow(work, web.place))
    assert "certificate" in quarantine(work)["kestrel"]
    assert web.authorizations == []


# What is allowed.


def test_nothing_is_asked_that_the_setting_does_not_name(work: Work, folder: Path, daemon: str) -> None:
    name(folder, f"- url: git://{daemon}/kestrel\n")
    run(allow(work, "git.example.org"))
    assert files(work) == {}
    assert quarantine(work) == {
        "kestrel": f"{daemon} is not among the places of CORTEX_REMOTES: whoever runs Cortex can add it"
    }


def test_a_repository_of_this_machine_is_read_where_it_lies(work: Work, folder: Path, origin: Path) -> None:
    git(origin, "branch", "other")
    commit_files(origin, {"a.py": "a = 2\n"})
    name(folder, f"- url: file://{origin}\n- {{url: 'file://{origin}', name: other, branch: other}}\n")
    work = allow(work, str(origin.parent))
    run(work)
    assert files(work)["kestrel/a.py"] == "a = 2\n"
    assert files(work)["other/a.py"] == "a = 1\n"
    assert stored(work, "other")["branch"] == "other"
    assert not run(work).changed
    commit_files(origin, {"a.py": "a = 3\n"})
    assert run(work).metadata["read"] == 1


def test_a_repository_of_this_machine_runs_nothing(work: Work, folder: Path, origin: Path, tmp_path: Path) -> None:
    plant(origin, tmp_path / "traps")
    name(folder, f"- url: file://{origin}\n")
    work = allow(work, str(origin.parent))
    run(work)
    assert len(files(work)) == 2
    assert ran(tmp_path / "traps") == set()


@pytest.mark.parametrize("way", ["beside", "dots", "link", "alternate"])
def test_no_way_leads_out_of_the_folders_that_are_allowed(
    work: Work, folder: Path, origin: Path, tmp_path: Path, way: str
) -> None:
    secret = make_repository(tmp_path / "secret" / "kestrel", {"password.txt": "hunter2\n"})
    allowed = tmp_path / "served"
    path = {"beside": secret, "dots": f"{origin}/../../secret/kestrel"}.get(way, allowed / "x")
    if way == "link":
        (allowed / "x").symlink_to(secret)
    elif way == "alternate":
        make_repository(allowed / "x", {"a.py": "a\n"})
        (allowed / "x" / ".git" / "objects" / "info").mkdir(exist_ok=True)
        (allowed / "x" / ".git" / "objects" / "info" / "alternates").write_text(f"{secret}/.git/objects\n")
    name(folder, f"- url: file://{path}\n  name: x\n")
    work = allow(work, str(allowed))
    run(work)
    assert files(work) == {}
    assert set(quarantine(work)) == {"x"}


# The file.


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("url: https://x/y", "should be a list of at most 200 entries"),
        ("- https://x/y", "entry 1: "),
        ("- {url: 'https://x/y', token: abc}", "entry 1: token: Extra inputs are not permitted"),
        ("- {url: 'https://x/y', depth: 0}", "entry 1: depth: "),
        ("- {url: 'https://x/y', depth: '1'}", "entry 1: depth: "),
        ("- {url: 'https://x/y', branch: '--upload-pack=id'}", "entry 1: branch: should be a branch's name"),
        ("- {url: 'https://x/y', branch: 'a..b'}", "entry 1: branch: should be a branch's name"),
        ("- {url: 'https://x/y', name: '../up'}", "entry 1 (../up): name: "),
        ("- {url: 'https://x/y', name: '.git'}", "entry 1 (.git): name: "),
        ("- {name: x}", "entry 1 (x): url: Field required"),
        ("- url: http://x/y", "entry 1: url: should begin with https://, git:// or file://"),
        ("- url: ssh://git@x/y", "entry 1: url: should begin with https://, git:// or file://"),
        ("- url: git@github.com:a/b.git", "entry 1: url: should begin with https://, git:// or file://"),
        ("- url: 'ext::sh -c id'", "entry 1: url: holds a space"),
        ("- url: '--upload-pack=id'", "entry 1: url: should begin with"),
        ("- url: https://me:hunter2@x/y", "entry 1: url: holds a name or a password"),
        ("- url: https://x", "entry 1: url: should name a repository"),
        ("- url: https:///y", "entry 1: url: should name a host"),
        ("- url: file://host/y", "entry 1: url: should be file:///absolute/path"),
        ("- {url: 'https://x/y', credentials: {env: HOME}}", "entry 1: credentials.env: "),
        ("- {url: 'https://x/y', credentials: {token: abc}}", "entry 1: credentials.env: Field required"),
        ("- {url: 'git://x/y', credentials: {env: GIT_TOKEN}}", "entry 1: credentials go with https only"),
        ("- {url: 'https://x/y'}\n- {url: 'git://z/y'}", "the name y is there twice"),
        ("- {url: 'https://x/y'}\n- {url: [}", "line 2: "),
        ("- a\xff", "is no YAML"),
        ("[" * 30_000, "is no YAML"),
        ("- !!python/object/apply:os.system [id]", "line 1: "),
        ("#" * 70_000, "is larger than 64 KiB"),
    ],
)
def test_a_fault_in_the_file_is_one_line_that_says_where(text: str, fault: str) -> None:
    _, faults = read_sources(text.encode("latin-1"))
    assert faults
    assert fault in faults[0]
    assert all("\n" not in line and "hunter2" not in line for line in faults)


def test_a_file_without_entries_names_nothing() -> None:
    assert read_sources(b"") == ([], [])
    assert read_sources(b"# later\n") == ([], [])


def test_a_name_is_the_last_part_of_the_url_where_none_is_given() -> None:
    [remote], faults = read_sources(b"- url: https://git.example.org/acme/kestrel.git\n")
    assert faults == []
    assert remote == Remote(url="https://git.example.org/acme/kestrel.git", name="kestrel")


def test_a_file_that_broke_is_quarantined_and_the_last_good_one_stands(work: Work, folder: Path, origin: Path) -> None:
    name(folder, f"- url: file://{origin}\n")
    work = allow(work, str(origin.parent))
    run(work)
    commit_files(origin, {"a.py": "a = 2\n"})
    name(folder, "- url: [\n")
    run(work)
    assert files(work)["kestrel/a.py"] == "a = 2\n"
    assert set(quarantine(work)) == {"sources.yaml"}
    name(folder, f"- url: file://{origin}\n")
    run(work)
    assert quarantine(work) == {}


def test_a_name_that_the_project_holds_already_is_refused(work: Work, folder: Path, origin: Path) -> None:
    make_repository(folder / "kestrel", {"own.py": "own\n"})
    name(folder, f"- url: file://{origin}\n")
    work = allow(work, str(origin.parent))
    run(work)
    assert files(work) == {"kestrel/own.py": "own\n"}
    assert "the project's folder holds something of this name" in quarantine(work)["sources.yaml"]


def test_a_file_that_is_a_link_is_not_read(work: Work, folder: Path, tmp_path: Path, origin: Path) -> None:
    (tmp_path / "real.yaml").write_text(f"- url: file://{origin}\n")
    (folder / "sources.yaml").symlink_to(tmp_path / "real.yaml")
    run(allow(work, str(origin.parent)))
    assert files(work) == {}
    assert quarantine(work)["sources.yaml"].startswith("cannot be read")


def test_a_fetch_that_writes_too_much_is_ended(
    tmp_path: Path, origin: Path, daemon: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_files(origin, {"big.bin": os.urandom(3 * 2**20)})
    monkeypatch.setattr(module, "FETCH_BYTES", 2**20)
    (tmp_path / "project").mkdir()
    name(tmp_path / "project", f"- url: git://{daemon}/kestrel\n")
    remotes = Remotes(tmp_path / "project", tmp_path / "state", [daemon])
    [source], [refused] = remotes.sources(fetch=True)
    assert source.digest == ""
    assert "larger than" in refused.reason or "git says" in refused.reason
    assert sum(path.stat().st_size for path in (tmp_path / "state").rglob("*") if path.is_file()) < 3 * 2**20
