"""Downloads against a hub that breaks off, lies, refuses and is not there; only whole files ever get their name."""

import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import time
from collections import namedtuple

import pytest

from cortex_pipelines.models import downloads
from cortex_pipelines.models.downloads import only_download
from cortex_pipelines.models.lock import Lock
from cortex_pipelines.models.manifest import load_manifest
from tests.models.conftest import SMALL, WEIGHTS
from tests.servers.hub import Fault

PLACE = "gguf/reader/weights.gguf"


def weights(folder):
    return folder / PLACE


def lock_of(folder):
    return json.loads((folder / "models.lock.json").read_text())["models"]


def partials(folder):
    return [path.name for path in folder.rglob("*.part")]


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_download_is_there_checked_and_in_the_lock_and_a_second_one_asks_nobody(models, hub, folder):
    first = models("download")
    assert first.exit_code == 0, first.output
    assert weights(folder).read_bytes() == WEIGHTS
    assert (folder / "gguf" / "reader" / "config.json").read_bytes() == SMALL
    assert partials(folder) == []
    pinned = lock_of(folder)["reader"]
    assert pinned["commit"] == hub.commit
    assert {file["path"]: (file["sha256"], file["size"], file["verified"]) for file in pinned["files"]} == {
        "weights.gguf": (hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS), True),
        "config.json": (hashlib.sha256(SMALL).hexdigest(), len(SMALL), True),
    }
    hub.asked.clear()
    second = models("download", "--json")
    assert second.exit_code == 0
    assert {file["state"] for file in json.loads(second.stdout)["files"]} == {"there"}
    assert hub.asked == []


def test_files_are_readable_by_the_servers_that_run_under_another_user(models, folder):
    old = os.umask(0o022)
    try:
        assert models("download").exit_code == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE(weights(folder).stat().st_mode) == 0o644


def test_an_interrupted_download_leaves_no_file_and_goes_on_with_the_rest_only(models, hub, folder):
    answers = [Fault(cut=2_000_000)]
    dead = Fault(status=503)
    hub.fault = lambda path: (answers.pop() if answers else dead) if path == "weights.gguf" else None
    first = models("download")
    assert first.exit_code == 1
    assert f"{PLACE}  missing: the hub cannot give team/reader, weights.gguf, now (503)" in first.stderr
    assert not weights(folder).exists()
    assert (folder / "gguf" / "reader" / "config.json").read_bytes() == SMALL, "the other files go on"
    (partial,) = weights(folder).parent.glob("*.part")
    begun = partial.stat().st_size
    assert 1_500_000 < begun <= 2_000_000
    assert models("verify").exit_code == 1

    del hub.fault
    hub.asked.clear()
    second = models("download")
    assert second.exit_code == 0, second.output
    assert weights(folder).read_bytes() == WEIGHTS
    assert [asked.range for asked in hub.fetched("weights.gguf")] == [f"bytes={begun}-"]
    assert partials(folder) == []


def test_a_connection_that_breaks_is_taken_up_again_in_the_same_run(models, hub, folder):
    hub.faults["weights.gguf"] = Fault(cut=1_000_000, times=2)
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    ranges = [asked.range for asked in hub.fetched("weights.gguf")]
    assert ranges[0] is None
    assert len(ranges) == 3
    assert all(told is not None for told in ranges[1:])


def test_a_mirror_that_cannot_begin_in_the_middle_is_read_from_the_start(models, hub, folder):
    hub.faults["weights.gguf"] = Fault(cut=1_000_000, times=1)
    told = hub.fault
    hub.fault = lambda path: told(path) or (Fault(whole=True) if path == "weights.gguf" else None)
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    assert [bool(asked.range) for asked in hub.fetched("weights.gguf")] == [False, True]


def test_a_killed_download_leaves_no_file_and_is_gone_on_with(started, models, hub, folder, manifest):
    hub.faults["weights.gguf"] = Fault(cut=2_000_000, stall=True, times=1)
    process = started("download", "--manifest", str(manifest()))
    until = time.monotonic() + 60
    while not any(part.stat().st_size > 1_000_000 for part in folder.rglob(".weights*.part")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not weights(folder).exists()
    hub.asked.clear()
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    (asked,) = hub.fetched("weights.gguf")
    assert int(asked.range.removeprefix("bytes=").rstrip("-")) > 1_000_000


def test_wrong_bytes_of_the_right_size_get_no_name_and_are_not_gone_on_with(models, hub, folder):
    wrong = bytearray(WEIGHTS)
    wrong[5] ^= 1
    hub.faults["weights.gguf"] = Fault(sent=bytes(wrong))
    first = models("download")
    assert first.exit_code == 1
    assert "weights.gguf has wrong bytes: sha256" in first.stderr
    assert not weights(folder).exists()
    assert partials(folder) == []
    hub.faults.clear()
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS


def test_wrong_bytes_of_a_small_file_are_found_by_its_git_name(models, hub, folder):
    hub.faults["config.json"] = Fault(sent=SMALL[::-1])
    assert "config.json has wrong bytes: git blob" in models("download").stderr
    assert not (folder / "gguf" / "reader" / "config.json").exists()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (WEIGHTS[:-10], "weights.gguf has 2,999,990 bytes and should have 3,000,000"),
        (WEIGHTS + b"more", "the hub sends more than its 3,000,000 bytes"),
    ],
    ids=["shorter", "longer"],
)
def test_a_wrong_size_is_told_and_gets_no_name_also_when_it_is_tried_again(models, hub, folder, sent, told):
    hub.faults["weights.gguf"] = Fault(sent=sent)
    for _ in range(2):
        result = models("download")
        assert result.exit_code == 1
        assert told in result.stderr
        assert not weights(folder).exists()
        assert partials(folder) == []


def test_a_rest_that_is_longer_than_the_file_at_the_hub_is_thrown_away(models, hub, folder):
    hub.faults["weights.gguf"] = Fault(cut=2_000_000, times=1, sent=None)
    told = hub.fault
    hub.fault = lambda path: told(path) or (Fault(sent=WEIGHTS[:1_000]) if path == "weights.gguf" else None)
    result = models("download")
    assert result.exit_code == 1
    assert "weights.gguf has 0 bytes and should have 3,000,000" in result.stderr
    assert partials(folder) == []


def test_a_file_that_the_repository_does_not_hold(models, hub, folder, manifest):
    ours = manifest({"files": [{"path": "other.gguf"}]}, {"name": "small", "files": [{"path": "*.json"}]})
    result = models("download", "--manifest", str(ours))
    assert result.exit_code == 1
    assert "gguf/reader: team/reader holds no other.gguf at main" in result.stderr
    assert (folder / "gguf" / "small" / "config.json").read_bytes() == SMALL


def test_a_file_that_is_listed_and_gone(models, hub, folder):
    hub.hidden.add("weights.gguf")
    result = models("download")
    assert result.exit_code == 1
    assert f"{PLACE}  missing: team/reader holds no weights.gguf" in result.stderr
    assert not weights(folder).exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"repository": "team/none"}, "the hub has no team/none, or it is private: set HF_TOKEN"),
        ({"revision": "v9"}, "team/reader has no revision v9"),
        ({"files": [{"path": "weights.gguf", "size": 5}]}, "its size is 3000000 at the hub and 5 in the manifest"),
        ({"files": [{"path": "weights.gguf", "sha256": "0" * 64}]}, f"and {'0' * 64} in the manifest"),
    ],
)
def test_what_the_hub_says_is_held_to_the_manifest(models, manifest, folder, changed, told):
    result = models("download", "--manifest", str(manifest(**changed)))
    assert result.exit_code == 1
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not weights(folder).exists()


def test_a_gated_model_needs_a_token_and_the_content_server_never_sees_it(models, hub, folder, manifest, monkeypatch):
    hub.gated.add("team/reader")
    ours = str(manifest(gated=True))
    without = models("download", "--manifest", ours)
    assert without.exit_code == 1
    assert "team/reader is gated: accept its terms at the hub and set HF_TOKEN" in without.stderr
    assert hub.asked == []
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    bad = models("download", "--manifest", ours)
    assert bad.exit_code == 1
    assert "team/reader is gated: the owner of HF_TOKEN has to accept its terms" in bad.stderr
    assert not weights(folder).exists()
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert models("download", "--manifest", ours).exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    assert "hf_" not in bad.output
    seen = hub.fetched("weights.gguf")
    assert seen
    assert {asked.authorization for asked in seen} == {None}


def test_a_repository_that_became_gated_without_the_manifest_knowing(models, hub):
    hub.gated.add("team/reader")
    result = models("download")
    assert result.exit_code == 1
    assert "team/reader is gated: set HF_TOKEN" in result.stderr


def test_the_hub_is_asked_for_the_model_only_without_a_token_of_the_users_home_and_uncompressed(
    started, hub, tmp_path, manifest
):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_home")
    process = started("download", "--manifest", str(manifest()))
    assert process.wait(timeout=120) == 0
    process.communicate()
    assert {asked.authorization for asked in hub.asked} == {None}
    assert [asked.path for asked in hub.asked if "/team/reader/" not in asked.path] == []
    assert {asked.encoding for asked in hub.asked if "/api/" not in asked.path} == {"identity"}


def test_a_non_commercial_licence_has_to_be_accepted_by_name(models, hub, folder, manifest):
    ours = str(manifest({"non_commercial": True, "licence": "cc-by-nc-4.0"}))
    silent = models("download", "--manifest", ours)
    assert silent.exit_code == 0
    assert silent.stderr.splitlines()[0] == (
        "reader: left out, its licence cc-by-nc-4.0 is non-commercial: to accept it, add --accept-licence cc-by-nc-4.0"
    )
    assert hub.asked == []
    assert models("download", "--manifest", ours, "--accept-licence", "another").exit_code == 0
    assert not weights(folder).exists()
    assert models("download", "--manifest", ours, "--accept-licence", "CC-BY-NC-4.0").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    flip_a_bit(weights(folder))
    assert models("verify", "--manifest", ours).exit_code == 1, "it is looked at without accepting it again"


def test_too_little_space_is_told_before_anything_starts(models, hub, folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(10, 0, 102_000_000))
    result = models("download")
    assert result.exit_code == 2
    assert f"{folder} has 102.0 MB free, too little: 3.0 MB are missing and 104.9 MB are left spare" in result.stderr
    assert hub.fetched("weights.gguf") == []
    assert models("download", "--dry-run").exit_code == 2


def test_a_disk_that_becomes_full_fails_the_file_and_the_others_go_on(started, models, hub, folder, manifest):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    process = started("download", "--manifest", str(manifest()), preexec_fn=little_room)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"{PLACE}  missing: {PLACE}: the disk is full" in told
    assert "Traceback" not in told
    assert not weights(folder).exists()
    assert (folder / "gguf" / "reader" / "config.json").read_bytes() == SMALL
    hub.asked.clear()
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    assert hub.fetched("weights.gguf")[0].range is not None


def test_offline_says_what_is_missing_and_is_content_with_what_is_there(started, models, hub, manifest, monkeypatch):
    ours = str(manifest())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    process = started("download", "--manifest", ours)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert told.splitlines() == [
        "gguf/reader: team/reader is not all here, and HF_HUB_OFFLINE is set: unset it, or copy the files"
    ]
    assert hub.asked == []
    assert models("download").exit_code == 0, "this process was not started offline"
    process = started("download", "--manifest", ours)
    assert process.wait(timeout=120) == 0
    process.communicate()


def test_a_hub_that_is_not_there_is_one_line(models, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = models("download")
    assert result.exit_code == 1
    assert result.stderr.startswith("gguf/reader: the hub does not give team/reader, main: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_dry_run_writes_nothing_and_tells_the_sum(models, hub, folder):
    result = models("download", "--dry-run")
    assert result.exit_code == 0
    assert f"{PLACE}  3.0 MB  to download" in result.stdout
    assert "3.0 MB to download into" in result.stdout
    assert not folder.exists()
    assert hub.fetched("weights.gguf") == []
    told = json.loads(models("download", "--dry-run", "--json").stdout)
    assert told["missing_bytes"] == len(WEIGHTS) + len(SMALL)


@pytest.mark.parametrize("command", [("verify",), ("download", "--verify")])
def test_a_bit_that_flipped_later_is_found_and_mended_by_the_next_download(models, hub, folder, command):
    assert models("download").exit_code == 0
    assert models(*command).exit_code == 0
    flip_a_bit(weights(folder))
    hub.asked.clear()
    result = models(*command)
    assert result.exit_code == 1
    assert f"{PLACE}  wrong: weights.gguf has wrong bytes" in result.stderr
    assert "config.json  there" in result.stdout
    assert hub.asked == [], "nobody is asked"
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS
    assert models(*command).exit_code == 0


def test_verify_tells_what_is_missing(models, folder):
    never = models("verify", "--json")
    assert never.exit_code == 1
    assert json.loads(never.stdout)["files"] == [
        {"place": "gguf/reader", "state": "missing", "size": 0, "reason": "it was never downloaded"}
    ]
    assert not folder.exists()
    assert models("download").exit_code == 0
    weights(folder).unlink()
    gone = models("verify")
    assert gone.exit_code == 1
    assert f"{PLACE}  missing: it is not there" in gone.stderr


def test_a_file_put_there_by_hand_is_read_and_taken_over_or_replaced(models, hub, folder):
    weights(folder).parent.mkdir(parents=True)
    weights(folder).write_bytes(WEIGHTS)
    assert models("download").exit_code == 0
    assert hub.fetched("weights.gguf") == []
    (folder / "models.lock.json").unlink()
    flip_a_bit(weights(folder))
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS


def test_pins_hold_when_the_repository_moves_on(models, hub, folder):
    pinned = models("download", "--pin")
    assert pinned.exit_code == 0
    assert not weights(folder).exists()
    assert lock_of(folder)["reader"]["files"][0]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert not any(file["verified"] for file in lock_of(folder)["reader"]["files"])
    hub.repositories["team/reader"]["weights.gguf"] = WEIGHTS[::-1]
    moved = models("download")
    assert moved.exit_code == 1
    assert "has wrong bytes" in moved.stderr
    assert models("download", "--pin").exit_code == 0
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS[::-1]
    hub.repositories["team/reader"]["weights.gguf"] = WEIGHTS
    assert models("download", "--pin").exit_code == 0
    assert models("download").exit_code == 0
    assert weights(folder).read_bytes() == WEIGHTS, "what was verified of other bytes says nothing of these"


def test_a_lock_that_contradicts_the_manifest_is_not_believed(models, hub, folder, manifest):
    assert models("download").exit_code == 0
    changed = str(manifest(files=[{"path": "weights.gguf", "sha256": "1" * 64}, {"path": "*.json"}]))
    assert models("verify", "--manifest", changed).exit_code == 1
    result = models("download", "--manifest", changed)
    assert result.exit_code == 1
    assert f"and {'1' * 64} in the manifest" in result.stderr


def test_a_manifest_that_pins_everything_asks_for_nothing_but_bytes(models, hub, folder, manifest):
    file = {"path": "weights.gguf", "size": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}
    ours = str(manifest(revision=hub.commit, files=[file]))
    assert models("download", "--manifest", ours).exit_code == 0
    assert not [asked for asked in hub.asked if asked.path.startswith("/api")]
    listed = json.loads(models("list", "--manifest", ours, "--json").stdout)
    assert listed["models"][0]["pinned_by"] == "manifest"


def test_a_link_out_of_the_models_folder_is_not_followed(models, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "gguf").mkdir(parents=True)
    (folder / "gguf" / "reader").symlink_to(outside)
    result = models("download")
    assert result.exit_code == 1
    assert "would lie outside of" in result.stderr
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [("x/..", "holds no x/*"), ("x/back\\slash", "whose name is refused"), ("x/new\nline", "whose name is refused")],
)
def test_a_name_from_the_hub_cannot_leave_the_folder(models, hub, folder, manifest, name, told):
    hub.repositories["team/reader"] = {name: WEIGHTS}
    result = models("download", "--manifest", str(manifest(files=[{"path": "x/*"}])))
    assert result.exit_code == 1
    assert told in result.stderr
    assert [path.name for path in folder.iterdir()] == [".download.lock"]


def test_two_downloads_into_one_folder_do_not_meet(models, folder):
    with only_download(folder):
        result = models("download")
    assert result.exit_code == 2
    assert f"another download into {folder} is under way" in result.stderr
    assert models("download").exit_code == 0


def test_two_processes_that_write_the_lock_keep_each_others_words(models, folder, manifest):
    assert models("download", "--pin").exit_code == 0
    (model,) = load_manifest(manifest()).models
    one, other = Lock(folder), Lock(folder)
    first, second = one.of(model).files
    one.mark(model, [first.model_copy(update={"verified": True})])
    other.mark(model, [second.model_copy(update={"verified": True})])
    assert all(file["verified"] for file in lock_of(folder)["reader"]["files"])


def test_a_folder_that_cannot_be_written_to_is_verified_all_the_same_and_not_downloaded_into(
    models, hub, folder, monkeypatch
):
    assert models("download").exit_code == 0
    flip_a_bit(weights(folder))

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Lock, "_write", refuse)
    result = models("verify")
    assert result.exit_code == 1
    assert "has wrong bytes" in result.stderr
    (folder / "models.lock.json").unlink()
    hub.asked.clear()
    refused = models("download")
    assert refused.exit_code == 2
    assert "models.lock.json cannot be written: Permission denied" in refused.stderr
    assert hub.fetched("weights.gguf") == []


def test_a_broken_lock_file_is_one_line(models, folder):
    folder.mkdir()
    (folder / "models.lock.json").write_text('{"models": {"../x": {}}}')
    for command in ("download", "verify", "list"):
        result = models(command)
        assert result.exit_code == 2
        assert "models.lock.json is not what was written" in result.stderr


def test_list_tells_what_is_pinned_and_there(models, hub):
    before = models("list")
    assert before.exit_code == 0
    assert "team/reader at main, not pinned yet, not there" in before.stdout
    assert hub.asked == []
    assert models("download").exit_code == 0
    assert "pinned by the lock, 2 of 2 files there" in models("list").stdout
    told = json.loads(models("list", "--json").stdout)
    assert told["models"][0]["files_there"] == 2
    assert told["free_bytes"] > 0


def test_no_more_than_a_few_files_at_a_time_and_each_is_whole(models, hub, folder, manifest):
    many = {f"part-{number}.gguf": bytes([number]) * 50_000 for number in range(20)}
    hub.repositories["team/reader"] = dict(many)
    assert models("download", "--manifest", str(manifest(files=[{"path": "part-*.gguf"}]))).exit_code == 0
    for name, content in many.items():
        assert (folder / "gguf" / "reader" / name).read_bytes() == content


@pytest.mark.parametrize("flags", [("--dry-run", "--pin"), ("--verify", "--dry-run")])
def test_flags_that_contradict_each_other_are_refused(models, flags):
    result = models("download", *flags)
    assert result.exit_code == 2
    assert "choose one of --dry-run, --verify and --pin" in result.stderr


def test_amounts_are_as_a_person_reads_them():
    assert [downloads.amount(size) for size in (5, 1_500, 3_000_000, 61_000_000_000)] == [
        "5 bytes",
        "1.5 kB",
        "3.0 MB",
        "61.0 GB",
    ]
