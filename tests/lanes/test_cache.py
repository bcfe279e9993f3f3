"""Answers that were given before: what names them, the modes, a bounded file, one flight for equal requests."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cortex_pipelines.lanes import LaneFailed, Request
from cortex_pipelines.lanes.cache import Cache, key_of
from cortex_pipelines.lanes.replies import Reply
from cortex_pipelines.names import CacheMode, Lane
from tests.servers.faults import Answer, serving

HELLO = [{"role": "user", "content": "Say something."}]


def test_a_repeated_call_costs_no_tokens_in_any_process(lanes):
    with serving() as server:
        for _ in range(2):
            ours = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE="write")
            done = ours.complete(Lane.CODER, HELLO, max_tokens=9)
        assert (done.cached, done.text, done.prompt_tokens) == (True, "The answer.", 0)
        assert len(server.asked) == 1
        assert ours.records.told()["CODER"]["cached"] == 1
        for changed in ({"max_tokens": 10}, {"temperature": 0.5}, {"prompt_version": "2"}):
            assert not ours.complete(Lane.CODER, HELLO, **({"max_tokens": 9} | changed)).cached


def test_another_model_at_the_same_address_has_its_own_answers(lanes):
    with serving() as server:
        lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE="write").complete(Lane.CODER, HELLO, max_tokens=9)
        server.model = "other"
        again = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE="write")
        assert not again.complete(Lane.CODER, HELLO, max_tokens=9).cached


@pytest.mark.parametrize(("mode", "asked"), [("off", 3), ("read", 3), ("write", 1), ("refresh", 3)])
def test_each_mode_reads_and_keeps_what_it_says(lanes, mode, asked):
    with serving() as server:
        for _ in range(3):
            lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE=mode).complete(Lane.CODER, HELLO, max_tokens=9)
        assert len(server.asked) == asked
        done = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE="read").complete(
            Lane.CODER, HELLO, max_tokens=9
        )
        assert done.cached == (mode in ("write", "refresh"))


def test_equal_requests_at_the_same_time_are_asked_once(lanes):
    with serving(Answer(delay=0.2)) as server:
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE="write")
        done = ours.map(Lane.CODER, [Request(HELLO, 9)] * 5, in_flight=5)
        assert len(server.asked) == 1
    assert [answer.text for answer in done] == ["The answer."] * 5
    assert sum(answer.cached for answer in done) == 4


def test_a_failure_is_never_kept(lanes):
    boom = Answer(status=500, body=b"{}")
    with serving([boom, boom, boom, Answer()]) as server:
        ours = lanes(ARGOS_LANE_CODER_URL=server.url, CORTEX_LANE_CACHE="write")
        with pytest.raises(LaneFailed):
            ours.complete(Lane.CODER, HELLO, max_tokens=9, timeout=2)
        assert ours.complete(Lane.CODER, HELLO, max_tokens=9, timeout=30).text == "The answer."


def test_the_file_stays_bounded_and_the_latest_used_stay(tmp_path):
    cache = Cache(tmp_path / "answers.db", CacheMode.WRITE, 400_000)
    for number in range(300):
        cache.put(f"k{number}", Reply("x" * 5_000, "", "m", 1, 1))
        assert cache.get("k0") is not None
    assert cache.get("k299") is not None
    assert cache.get("k1") is None
    assert sum(path.stat().st_size for path in tmp_path.glob("answers.db")) < 800_000


def test_a_broken_or_unwritable_file_costs_nothing_but_the_cache(tmp_path):
    (tmp_path / "answers.db").write_bytes(b"not a database" * 1_000)
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "answers.db", tmp_path / "file" / "answers.db"):
        cache = Cache(path, CacheMode.WRITE, 10**6)
        cache.put("k", Reply("x", "", "m", 1, 1))
        assert cache.get("k") is None


def test_a_full_disk_or_a_writer_in_the_way_costs_an_answer_and_no_more(tmp_path):
    path, reply = tmp_path / "answers.db", Reply("x" * 5_000, "", "m", 1, 1)
    full, other = (Cache(path, CacheMode.WRITE, 10**7) for _ in range(2))
    full.put("a", reply)
    # The file may not grow: SQLite says that the disk is full.
    full._database.execute("PRAGMA max_page_count = 5")
    for number in range(5):
        full.put(f"too much {number}", reply)
    other.put("b", reply)
    assert (full.get("a"), full.get("b"), full.get("too much 4")) == (reply, reply, None)
    other._database.execute("BEGIN IMMEDIATE")
    full.put("c", reply)
    assert full.get("a") == reply
    other._database.execute("ROLLBACK")


def test_keys_differ_in_whatever_differs():
    one = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    keys = {
        key_of(one, "model", ""),
        key_of(one, "other model", ""),
        key_of(one, "model", "2"),
        key_of(one | {"max_tokens": 6}, "model", ""),
        key_of(one | {"response_format": {"type": "json_schema"}}, "model", ""),
        key_of(one | {"messages": [{"role": "user", "content": "\udcff"}]}, "model", ""),
    }
    assert len(keys) == 6
    assert key_of(dict(reversed(one.items())), "model", "") == key_of(one, "model", "")


ASK = """
import json, sys
from cortex_pipelines.lanes import Lanes
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import load_settings
lanes = Lanes(load_settings({"ARGOS_LANE_CODER_URL": sys.argv[2], "CORTEX_STATE": sys.argv[1]}, env_file=None))
print("ready", flush=True)
sys.stdin.readline()
done = lanes.complete(Lane.CODER, [{"role": "user", "content": "x"}], max_tokens=5)
print(json.dumps([done.text, done.cached]))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("killed", [False, True])
def test_equal_requests_of_several_processes_are_asked_once_also_when_the_first_is_killed(tmp_path, killed):
    with serving(Answer(delay=1.0)) as server:
        command = [sys.executable, "-c", ASK, str(tmp_path), server.url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        running = [subprocess.Popen(command, cwd=Path(__file__).parents[2], text=True, **pipes) for _ in range(4)]
        for process in running:
            assert process.stdout.readline() == "ready\n"
        first, *others = running
        first.stdin.write("\n")
        first.stdin.flush()
        while not server.asked:
            time.sleep(0.01)
        if killed:
            first.kill()
        told = [json.loads(process.communicate("\n", timeout=60)[0]) for process in others]
        first.communicate(timeout=60)
        assert [text for text, _ in told] == ["The answer."] * 3
        assert sum(not cached for _, cached in told) == killed
        assert len(server.asked) == 1 + killed
