"""What the kernel tells of an inbox: every change that a scan would see, and no watch on what it would not."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cortex_pipelines.ingest import changes as module
from cortex_pipelines.ingest.changes import Changes
from tests.ingest.git_building import commit_files, git, make_repository

LONG = 10.0
SHORT = 0.6


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "inbox" / "atlas" / "notes").mkdir(parents=True)
    return tmp_path / "inbox"


def told(changes, wanted, seconds=LONG):
    """Whether a project is told of within some seconds."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if wanted in changes.wait(left):
            return True
    return False


def silent(changes):
    """Whether nothing is told of."""
    return changes.wait(SHORT) == set()


def watches():
    """How many folders this process watches."""
    listed = [path.read_text() for path in Path("/proc/self/fdinfo").iterdir() if path.exists()]
    return sum(text.count("inotify wd:") for text in listed)


def test_a_change_is_told_of_at_once_with_its_project(inbox):
    (inbox / "other").mkdir()
    with Changes(inbox) as changes:
        assert silent(changes)
        began = time.monotonic()
        threading.Timer(0.3, (inbox / "atlas" / "notes" / "a.md").write_text, ["words"]).start()
        assert changes.wait(LONG) == {"atlas"}
        assert time.monotonic() - began < LONG / 2
        (inbox / "atlas" / "notes" / "a.md").unlink()
        assert changes.wait(LONG) == {"atlas"}


def test_new_projects_and_folders_in_them_are_watched_from_then_on(inbox):
    with Changes(inbox) as changes:
        (inbox / "nova").mkdir()
        assert told(changes, "nova")
        (inbox / "nova" / "deep" / "deeper").mkdir(parents=True)
        assert told(changes, "nova")
        while changes.wait(SHORT):
            pass
        (inbox / "nova" / "deep" / "deeper" / "a.md").write_text("words")
        assert told(changes, "nova")
        shutil.rmtree(inbox / "nova")
        assert told(changes, "nova")
        (inbox / "atlas" / "b.md").write_text("words")
        assert told(changes, "atlas")


def test_only_projects_that_are_named_are_watched(inbox):
    (inbox / "other").mkdir()
    with Changes(inbox, ["other"]) as changes:
        (inbox / "atlas" / "a.md").write_text("words")
        assert silent(changes)
        (inbox / "other" / "a.md").write_text("words")
        assert told(changes, "other")


def test_what_a_scan_leaves_out_is_not_told_of(inbox):
    with Changes(inbox) as changes:
        for name in (".hidden", "~$lock.docx", "film.mp4.part", "a.md.swp"):
            (inbox / "atlas" / name).write_text("words")
        assert silent(changes)
        (inbox / "atlas" / "film.mp4.part").rename(inbox / "atlas" / "film.mp4")
        assert told(changes, "atlas")


def test_of_a_repository_a_commit_is_told_of_and_nothing_else_is_watched(inbox):
    files = {f"package{number}/module.py": f"a = {number}\n" for number in range(100)}
    repository = make_repository(inbox / "atlas" / "r", files)
    with Changes(inbox) as changes:
        # The inbox, the project, its notes, and of the repository .git and what is in refs; no objects, no files.
        assert watches() < 12
        (repository / "package1" / "module.py").write_text("a = 0\n")
        git(repository, "add", "--all")
        assert silent(changes)
        commit_files(repository, {"package2/module.py": "b = 0\n"})
        assert told(changes, "atlas")
        while changes.wait(SHORT):
            pass
        git(repository, "checkout", "--quiet", "-b", "side/deep")
        assert told(changes, "atlas")


def test_links_lead_nowhere(inbox, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (inbox / "atlas" / "link").symlink_to(tmp_path / "elsewhere")
    with Changes(inbox) as changes:
        (tmp_path / "elsewhere" / "a.md").write_text("words")
        assert silent(changes)


def test_a_name_that_is_no_text_is_a_reason_to_look_everywhere_and_no_end(inbox):
    with Changes(inbox) as changes:
        Path(os.fsdecode(bytes(inbox / "atlas") + b"/\xff.md")).write_text("words")
        assert told(changes, "atlas")
        while changes.wait(SHORT):
            pass
        (inbox / "atlas" / "a.md").write_text("words")
        assert told(changes, "atlas")


def test_an_inbox_that_other_machines_write_to_is_not_trusted_to_tell(inbox, tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(module, "MOUNTS", mounts)
    local = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    mounts.write_text(f"{local}40 22 0:50 / {inbox} rw,relatime - nfs4 server:/export rw\n")
    with Changes(inbox) as changes:
        assert "the inbox is on nfs4" in changes.fault
        assert silent(changes)
    mounts.write_text(f"{local}40 22 0:50 / {tmp_path}/other rw,relatime - nfs4 server:/export rw\n")
    with Changes(inbox) as changes:
        assert changes.fault == ""


def limited(what, number, *command):
    """A command in a user namespace of its own that has few watches; None where there can be no such namespace."""
    unshare = shutil.which("unshare")
    script = f'echo {number} > /proc/sys/user/{what} && exec "$@"'
    whole = [str(unshare), "--user", "--map-root-user", "sh", "-c", script, "sh", *command]
    probe = unshare and subprocess.run([*whole[:6], "sh", "true"], capture_output=True, check=False, timeout=30)
    return whole if probe and probe.returncode == 0 else None


@pytest.mark.parametrize(
    ("what", "number", "named"),
    [("max_inotify_watches", 2, "max_user_watches"), ("max_inotify_instances", 0, "max_user_instances")],
)
def test_where_watches_have_run_out_the_setting_is_named(inbox, what, number, named):
    code = (
        "import sys; from pathlib import Path; from cortex_pipelines.ingest.changes import Changes; "
        "changes = Changes(Path(sys.argv[1])); print(changes.fault, changes.wait(0.1))"
    )
    command = limited(what, number, sys.executable, "-c", code, str(inbox))
    if command is None:
        pytest.skip("this machine lets nobody have a user namespace")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert f"fs.inotify.{named}" in done.stdout
    assert done.stdout.rstrip().endswith("set()")
    assert done.stdout.count("\n") == 1
