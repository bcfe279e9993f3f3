"""Backup and restore: everything is lost and comes back; a bad backup is refused and nothing is touched."""

import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from cortex_pipelines.errors import CortexError
from cortex_pipelines.lanes.cache import Cache
from cortex_pipelines.lanes.replies import Reply
from cortex_pipelines.names import CacheMode
from cortex_pipelines.operations import archive
from cortex_pipelines.operations.archive import BackupError, read_manifest
from cortex_pipelines.operations.backup import make_backup
from cortex_pipelines.operations.restore import NEW, OLD, restore_backup
from cortex_pipelines.retrieval.answering import ask
from cortex_pipelines.running import run_project
from cortex_pipelines.store import ProjectStore
from cortex_pipelines.store.tables import TABLES
from tests.store.test_store import WRITER, publish, texts

ROOT = Path(__file__).parents[2]
CORTEX = str(Path(sys.executable).with_name("cortex"))
QUESTION = "How often does a receiver upload its readings?"


@pytest.fixture
def home(home):
    """The instance, with one finished run."""

    @dg.op
    def nothing():
        """Does nothing."""

    @dg.job
    def idle():
        nothing()

    with dg.DagsterInstance.get() as instance:
        assert idle.execute_in_process(instance=instance).success
        instance.add_dynamic_partitions("projects", ["kestrel"])
    return home


@pytest.fixture
def store(settings):
    """A store of one small project, published twice."""
    store = ProjectStore(settings.store, "p", settings.state)
    publish(store, a="1")
    publish(store, a="2", b="1")
    (settings.reports / "p").mkdir(parents=True)
    (settings.reports / "p" / "ideas.md").write_text("# Ideas\n")
    return store


@pytest.fixture
def saved(store, settings, tmp_path):
    """A backup of it."""
    return make_backup(tmp_path / "saved.tar", settings).path


def tables(settings, project="kestrel"):
    snapshot = ProjectStore(settings.store, project, settings.state).snapshot()
    return {name: sorted(map(repr, snapshot.rows(name))) for name in TABLES}


def reports(settings):
    return {path.name: path.read_bytes() for path in settings.reports.rglob("*") if path.is_file()}


def everything(*folders):
    """Every file below, by content: what may not change when a restore is refused."""
    return {path: path.read_bytes() for folder in folders for path in Path(folder).rglob("*") if path.is_file()}


def lose(settings, home):
    for folder in (settings.store, settings.reports, settings.state, home):
        shutil.rmtree(folder)


def test_everything_that_was_lost_comes_back(sample, settings, home, tmp_path):
    run_project("kestrel", settings)
    (settings.state / "lanes").mkdir(exist_ok=True)
    reply = Reply("an answer", "stop", "a model", 1, 2)
    Cache(settings.state / "lanes" / "answers.db", CacheMode.WRITE, 2**20).put("key", reply)
    store = ProjectStore(settings.store, "kestrel", settings.state)
    was = tables(settings), reports(settings), ask(store.snapshot(), QUESTION)
    with dg.DagsterInstance.get() as instance:
        ran = [run.run_id for run in instance.get_runs()]
        events = len(instance.all_logs(ran[0]))
    done = make_backup(tmp_path, settings)
    assert done.path.parent == tmp_path
    assert done.notes == ()

    lose(settings, home)
    restored = restore_backup(done.path, settings)
    assert restored.projects == done.projects == {"kestrel": store.snapshot().generation}
    assert restored.notes == ()
    assert (tables(settings), reports(settings), ask(store.snapshot(), QUESTION)) == was
    assert was[2].found
    assert Cache(settings.state / "lanes" / "answers.db", CacheMode.READ, 2**20).get("key") == reply
    with dg.DagsterInstance.get() as instance:
        assert [run.run_id for run in instance.get_runs()] == ran
        assert len(instance.all_logs(ran[0])) == events
        assert instance.get_dynamic_partitions("projects") == ["kestrel"]
    assert not run_project("kestrel", settings).changed
    assert not list(tmp_path.rglob(".cortex-*"))


def test_a_run_that_finds_something_new_goes_on_from_what_was_restored(saved, store, settings):
    shutil.rmtree(settings.store)
    restore_backup(saved, settings, force=True)
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}
    assert publish(store, c="1") == 3
    assert texts(store.snapshot()) == {"a": "2", "b": "1", "c": "1"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_backup_is_refused_and_nothing_is_touched(saved, settings, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])
    before = everything(settings.store, settings.reports, settings.state)
    with pytest.raises(BackupError, match="cut or altered") as told:
        restore_backup(saved, settings, force=True)
    assert "\n" not in str(told.value)
    assert everything(settings.store, settings.reports, settings.state) == before


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(saved, settings):
    whole = saved.read_bytes()
    with tarfile.open(saved) as tar:
        start = tar.getmember(archive.MANIFEST).offset
    chance = random.Random(5)
    before = everything(settings.store)
    places = [chance.randrange(start) for _ in range(40)] + list(range(start, len(whole), 97))
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << chance.randrange(8)
        saved.write_bytes(flipped)
        try:
            contents = read_manifest(saved)
        except BackupError:
            continue
        # Only the manifest's own owner, time and the like are nobody's business.
        assert start < place < start + tarfile.BLOCKSIZE, place
        saved.write_bytes(whole)
        assert contents == read_manifest(saved)
    assert everything(settings.store) == before


def forged(path, names, kind=tarfile.REGTYPE, link="", **told):
    """A backup that is right in every respect but its names, as someone who knows the format would make it."""
    with archive.packing(path, lambda count: None) as packed:
        for name in names:
            head = tarfile.TarInfo(name)
            head.type, head.linkname = kind, link
            content = b"evil" if kind == tarfile.REGTYPE else b""
            head.size = len(content)
            packed._tar.addfile(head, io.BytesIO(content))
            packed._members[name] = archive.Member(len(content), hashlib.sha256(content).hexdigest())
        facts = {"made": "now", "version": "0", "store_schema": 1, "projects": {"p": 1}, "notes": []}
        packed.finish(facts | told)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "store/../../outside",
        "/etc/outside",
        "store//outside",
        "store/p/../../../outside",
        "store/./p/x",
        "store/q/x",
        "state/writer.lock",
        "state/../x",
        "dagster/../../x",
        "dagster/bin/x",
        "elsewhere/x",
        "store/p\\..\\x",
        "reports/.cortex-old-1/x",
        "outside",
    ],
)
def test_a_name_that_no_backup_has_is_refused(settings, tmp_path, name):
    path = forged(tmp_path / "forged.tar", [name])
    before = everything(tmp_path)
    with pytest.raises(BackupError, match="nothing was restored"):
        restore_backup(path, settings, force=True)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_is_refused(settings, tmp_path, kind):
    path = forged(tmp_path / "forged.tar", ["store/p/x"], kind, "/etc/passwd")
    with pytest.raises(BackupError, match="no plain file"):
        restore_backup(path, settings)
    assert not Path(settings.store).exists()


def test_a_name_that_is_there_twice_is_refused(settings, tmp_path):
    path = forged(tmp_path / "forged.tar", ["store/p/x", "store/p/x"])
    with pytest.raises(BackupError, match="nothing was restored"):
        restore_backup(path, settings)


def test_a_project_of_a_forged_name_is_refused(settings, tmp_path):
    path = forged(tmp_path / "forged.tar", ["store/.hidden/x"], projects={".hidden": 1})
    with pytest.raises(CortexError, match="not a plain name"):
        restore_backup(path, settings)
    assert not Path(settings.store).exists()


@pytest.mark.parametrize(("told", "said"), [({"format": 99}, "made by newer code"), ({"store_schema": 99}, "newer")])
def test_a_backup_of_newer_code_is_refused(settings, tmp_path, told, said):
    with pytest.raises(BackupError, match=said):
        restore_backup(forged(tmp_path / "forged.tar", ["store/p/x"], **told), settings)


def test_what_is_no_backup_at_all_is_refused(settings, tmp_path):
    (tmp_path / "text").write_text("hello\n" * 1000)
    for path in (tmp_path / "text", tmp_path / "nowhere", tmp_path):
        with pytest.raises(BackupError):
            restore_backup(path, settings)


def test_a_store_that_is_not_empty_is_replaced_only_by_force(saved, store, settings):
    publish(store, a="newer", z="newer")
    other = ProjectStore(settings.store, "other", settings.state)
    publish(other, x="1")
    before = everything(settings.store, settings.reports)
    with pytest.raises(BackupError, match="--force"):
        restore_backup(saved, settings)
    assert everything(settings.store, settings.reports) == before
    restore_backup(saved, settings, force=True)
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}
    assert other.snapshot().generation == 0
    assert sorted(path.name for path in Path(settings.store).iterdir()) == ["p"]


def test_reports_and_runs_that_are_there_are_not_replaced_without_force(saved, settings, tmp_path):
    shutil.rmtree(settings.store)
    with pytest.raises(BackupError, match="reports is not empty"):
        restore_backup(saved, settings)
    assert not Path(settings.store).exists()


def test_a_restore_that_fails_half_way_leaves_all_as_it_was(saved, store, settings, monkeypatch):
    publish(store, a="newer")
    before = everything(settings.store, settings.reports)
    moves = []
    rename = Path.rename

    def failing(self, target):
        moves.append(target)
        if len(moves) == 3:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(BackupError, match="the disk is full"):
        restore_backup(saved, settings, force=True)
    assert len(moves) > 3
    assert everything(settings.store, settings.reports) == before
    assert texts(store.snapshot()) == {"a": "newer", "b": "1"}
    assert not [path for path in Path(settings.store).iterdir() if path.name.startswith((NEW, OLD))]


def test_a_restore_that_was_killed_is_mended_by_restoring_again(saved, store, settings):
    # As a kill leaves it: what was there is moved aside, and the new is not there yet.
    aside = Path(settings.store, f"{OLD}killed")
    aside.mkdir()
    Path(settings.store, "p").rename(aside / "p")
    restore_backup(saved, settings, force=True)
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}
    assert not aside.exists()


def test_a_restore_waits_for_a_writer_and_tells_who_it_is(saved, store, settings, monkeypatch):
    monkeypatch.setattr("cortex_pipelines.operations.restore.HELD_SECONDS", 0.2)
    with store.publishing(), pytest.raises(CortexError, match="another run is writing"):
        restore_backup(saved, settings, force=True)
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}


def test_backups_taken_while_another_process_publishes_hold_one_publication_each(settings, tmp_path):
    store = ProjectStore(settings.store, "p", settings.state)
    # Who asks for a lock again at once gets it before one that waits.
    pausing = f"import time{WRITER}    time.sleep(0.4)\n"
    command = [sys.executable, "-c", pausing, settings.store, str(settings.state), "w", "1000"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert writer.stdout.readline() == "1\n"
        # Nobody may wait for the reader of a pipe.
        threading.Thread(target=writer.stdout.read, daemon=True).start()
        made = []
        for number in range(4):
            made.append(make_backup(tmp_path / f"{number}.tar", settings))
            time.sleep(1.0)
    finally:
        writer.kill()
        writer.wait()
    assert len({backup.projects["p"] for backup in made}) > 1
    for backup in made:
        restore_backup(backup.path, settings, force=True)
        snapshot = store.snapshot()
        assert snapshot.generation == backup.projects["p"]
        # The writer counts its publications in two tables.
        assert texts(snapshot)["count"] == str(snapshot.generation)
        assert snapshot.rows("quarantine", ["size"])[0]["size"] == snapshot.generation == len(texts(snapshot)) - 1
        publish(store, after="1")


def test_a_writer_waits_only_while_files_are_linked_not_while_they_are_read(store, settings, tmp_path):
    published = []

    def on_bytes(done, of):
        if not published:
            published.append(publish(store, a="meanwhile"))

    backup = make_backup(tmp_path / "b.tar", settings, on_bytes)
    assert published == [3]
    restore_backup(backup.path, settings, force=True)
    assert texts(store.snapshot()) == {"a": "2", "b": "1"}


def test_a_database_that_is_being_written_is_copied_as_of_one_moment(store, settings, tmp_path, home):
    path = home / "history" / "runs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writing:
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("CREATE TABLE t (x)")
        writing.execute("INSERT INTO t VALUES (1)")
        writing.execute("BEGIN")
        writing.execute("INSERT INTO t VALUES (2)")
        backup = make_backup(tmp_path / "b.tar", settings)
    lose(settings, home)
    restore_backup(backup.path, settings)
    assert not list(home.rglob("*-wal"))
    with closing(sqlite3.connect(path)) as restored:
        assert restored.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_without_a_dagster_home_its_part_is_left_and_told(store, settings, tmp_path, home, monkeypatch):
    backup = make_backup(tmp_path / "b.tar", settings)
    lose(settings, home)
    monkeypatch.delenv("DAGSTER_HOME")
    restored = restore_backup(backup.path, settings)
    assert "set DAGSTER_HOME" in restored.notes[0]
    assert not home.exists()


def test_what_is_not_in_a_backup_is_told_with_the_way_to_keep_it(store, settings, tmp_path, home):
    (home / "dagster.yaml").write_text(
        "storage:\n  postgres:\n    postgres_db:\n      hostname: db.example\n      username: {env: PG_USER}\n"
        "      password: {env: PG_PASSWORD}\n      db_name: dagster\n"
    )
    away = settings.model_copy(update={"store": "s3://bucket/team"})
    backup = make_backup(tmp_path / "b.tar", away)
    bucket, postgres = backup.notes
    assert "s3://bucket/team is not in it" in bucket
    assert 'pg_dump --format=custom --file=dagster.dump --host db.example --username "$PG_USER"' in postgres
    assert "PASSWORD" not in postgres
    assert backup.projects == {}


@pytest.mark.skipif(not Path("/proc/sys").is_dir() or os.access("/proc/sys", os.W_OK), reason="it can be written")
def test_a_home_that_cannot_be_written_keeps_nothing_from_being_restored(store, settings, tmp_path, home, monkeypatch):
    """In the image it is part of the file system, which is read-only."""
    backup = make_backup(tmp_path / "b.tar", settings)
    monkeypatch.setenv("DAGSTER_HOME", "/proc/sys")
    assert make_backup(tmp_path / "other.tar", settings).files < backup.files
    lose(settings, home)
    restored = restore_backup(backup.path, settings)
    assert "/proc/sys cannot be written" in restored.notes[-1]
    assert (settings.reports / "p" / "ideas.md").is_file()


def cortex(variables, *arguments, before=()):
    return subprocess.run(
        [*before, CORTEX, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_full_disk_is_one_line_and_leaves_neither_half_a_backup_nor_half_a_store(variables, saved, store, tmp_path):
    size = saved.stat().st_size
    target = tmp_path / "target"
    target.mkdir()
    full = cortex(variables, "backup", str(target), before=["prlimit", f"--fsize={size // 2}"])
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert "the disk is full" in full.stderr
    assert list(target.iterdir()) == []
    before = everything(variables["CORTEX_STORE"], variables["CORTEX_REPORTS"])
    # The largest file of a store is far smaller than its backup.
    largest = max(len(content) for content in before.values())
    full = cortex(variables, "restore", str(saved), "--force", before=["prlimit", f"--fsize={largest - 1}"])
    assert (full.returncode, full.stderr.count("\n")) == (2, 1)
    assert "the disk is full" in full.stderr
    assert everything(variables["CORTEX_STORE"], variables["CORTEX_REPORTS"]) == before


def test_the_commands_tell_people_and_scripts_what_they_did(variables, store, tmp_path):
    made = cortex(variables, "backup", str(tmp_path), "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["projects"] == {"p": 2}
    assert Path(told["path"]).stat().st_mode & 0o777 == 0o600
    again = cortex(variables, "backup", told["path"])
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    refused = cortex(variables, "restore", told["path"])
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    restored = cortex(variables, "restore", told["path"], "--force", "--json")
    assert json.loads(restored.stdout)["files"] == told["files"]
    plain = cortex(variables, "restore", told["path"], "--force")
    assert plain.stdout.startswith("p at generation 2 as of ")


def test_a_place_inside_of_what_is_backed_up_or_that_is_not_there_is_refused(variables, store, tmp_path):
    for place in (variables["CORTEX_REPORTS"], f"{variables['CORTEX_STORE']}/b.tar", f"{tmp_path}/nowhere/b.tar"):
        done = cortex(variables, "backup", place)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert cortex(variables, "backup", f"{tmp_path}/nowhere/").returncode == 2


def test_a_backup_that_is_exchanged_while_it_is_restored_changes_nothing(saved, store, settings, tmp_path, monkeypatch):
    publish(store, a="newer")
    other = make_backup(tmp_path / "other.tar", settings).path
    before = everything(settings.store, settings.reports)
    contents = read_manifest(saved)
    monkeypatch.setattr("cortex_pipelines.operations.restore.read_manifest", lambda path, on_bytes: contents)
    with pytest.raises(BackupError, match="cut or altered"):
        restore_backup(other, settings, force=True)
    assert everything(settings.store, settings.reports) == before


def test_a_manifest_that_lacks_what_every_one_has_is_refused(settings, tmp_path):
    with pytest.raises(BackupError, match="cut or altered"):
        restore_backup(forged(tmp_path / "forged.tar", ["store/p/x"], projects=["p"]), settings)


def test_what_takes_long_is_told_of_on_a_terminal_and_nowhere_else(monkeypatch, capsys):
    from cortex_pipelines import operations_cli

    monkeypatch.setattr(operations_cli, "QUIET_SECONDS", 0.0)
    operations_cli._progress("backup", quiet=False)(1, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    told = operations_cli._progress("backup", quiet=False)
    told(1, 4)
    told(4, 4)
    assert capsys.readouterr().err == "\r\033[Kbackup: 25 %\r\033[K"
    operations_cli._progress("backup", quiet=True)(1, 4)
    assert capsys.readouterr().err == ""


def test_nothing_to_back_up_is_one_line(variables, tmp_path):
    done = cortex(variables, "backup", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nothing to back up" in done.stderr
