"""What is known of endpoints: breakers, limits and leases, in one process and among many."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.lanes.health import (
    ENDPOINTS,
    FAILURES_IN_A_ROW,
    LIMIT,
    OPEN_SECONDS_AT_MOST,
    Effect,
    Health,
    State,
    health_at,
)
from tests.servers.faults import nobody

ROOT = Path(__file__).parents[2]
ONE = "http://one"


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(None, clock)


def call(health, effect, name=ONE, **given):
    refused = health.enter(name)
    assert refused is None, refused
    health.leave(name, None, effect, **given)


def test_three_failures_in_a_row_open_it_longer_each_time_until_a_probe_goes_well(health, clock):
    call(health, Effect.ANSWERED)
    waited = []
    for round_number in range(6):
        while health.status(ONE).state is not State.OPEN:
            call(health, Effect.FAILED, reason="connection")
        refused = health.enter(ONE)
        assert (refused.state, refused.reason) == (State.OPEN, "connection")
        waited.append(refused.until - clock.now)
        clock.now = refused.until + 0.001
        assert health.enter(ONE).state is State.PROBING
        assert health.probe(ONE, None)
        assert not health.probe(ONE, None)
        if round_number < 5:
            health.probed(ONE, None, Effect.FAILED, "connection")
            assert health.enter(ONE).state is State.OPEN
        else:
            health.probed(ONE, None, Effect.ANSWERED)
    assert all(later > 1.2 * earlier for earlier, later in pairwise(waited[:3]))
    assert max(waited) <= OPEN_SECONDS_AT_MOST
    call(health, Effect.ANSWERED)
    assert health.status(ONE).state is State.READY


def test_a_success_in_between_keeps_it_closed_but_half_of_many_does_not(health):
    for _ in range(FAILURES_IN_A_ROW - 1):
        call(health, Effect.FAILED)
    call(health, Effect.ANSWERED)
    assert health.status(ONE).state is State.READY
    effects = [Effect.FAILED, Effect.ANSWERED, Effect.FAILED]
    for number in range(9):
        if health.enter(ONE) is None:
            health.leave(ONE, None, effects[number % 3])
    assert health.status(ONE).state is State.OPEN


def test_overload_halves_the_limit_and_is_no_failure(health, clock):
    call(health, Effect.ANSWERED)
    for _ in range(40):
        assert health.enter(ONE) is None
    health.leave(ONE, None, Effect.OVERLOADED, retry_after=7.0)
    status = health.status(ONE)
    assert (status.state, status.limit, status.record.failed) == (State.OVERLOADED, 20, 0)
    assert health.enter(ONE).until == pytest.approx(clock.now + 7.0)
    clock.now += 7.1
    assert health.enter(ONE).state is State.SATURATED
    for _ in range(39):
        health.leave(ONE, None, Effect.ANSWERED)
    before = health.status(ONE).limit
    for _ in range(2_000):
        for _ in range(health.status(ONE).limit):
            assert health.enter(ONE) is None
        while health.status(ONE).in_flight:
            health.leave(ONE, None, Effect.ANSWERED)
        if health.status(ONE).limit > before:
            break
    assert health.status(ONE).limit > before


def test_what_is_wrongly_set_up_or_loading_is_left_alone_for_a_while(health, clock):
    call(health, Effect.MISCONFIGURED, reason="unauthorised")
    assert (health.enter(ONE).state, health.enter(ONE).reason) == (State.MISCONFIGURED, "unauthorised")
    clock.now += 31
    call(health, Effect.LOADING, reason="loading")
    assert health.enter(ONE).state is State.LOADING
    clock.now += 1.3
    call(health, Effect.ANSWERED)
    assert health.status(ONE).state is State.READY


def test_of_what_nobody_knows_no_more_are_asked_at_once_than_may_fail(health):
    assert [health.enter(ONE) for _ in range(FAILURES_IN_A_ROW)] == [None] * FAILURES_IN_A_ROW
    assert health.enter(ONE).state is State.SATURATED
    health.alive(ONE, None)
    assert health.enter(ONE) is None


def test_a_clock_that_is_set_back_shuts_nothing_for_long(health, clock):
    for _ in range(3):
        call(health, Effect.FAILED)
    clock.now -= 100_000
    assert health.enter(ONE).state is State.PROBING


def test_more_endpoints_than_there_is_room_for_forget_the_oldest(health, clock):
    for number in range(ENDPOINTS + 10):
        clock.now += 1
        call(health, Effect.ANSWERED, f"http://{number}")
    assert len(health.statuses()) == ENDPOINTS
    assert health.status(f"http://{ENDPOINTS + 9}").state is State.READY


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "leave", "probe", "probed", "wait"]), st.sampled_from(list(Effect))),
        max_size=60,
    )
)
def test_leases_and_limits_hold_whatever_happens(steps):
    clock = Clock()
    health = Health(None, clock)
    held, probing = 0, False
    for step, effect in steps:
        if step == "enter":
            held += health.enter(ONE) is None
        elif step == "leave" and held:
            health.leave(ONE, None, effect, reason="x")
            held -= 1
        elif step == "probe":
            got = health.probe(ONE, None)
            assert not (got and probing)
            probing = probing or got
        elif step == "probed" and probing:
            health.probed(ONE, None, effect)
            probing = False
        elif step == "wait":
            clock.now += 3
        status = health.status(ONE)
        assert status.in_flight == held
        assert 1 <= status.limit <= LIMIT
        assert status.until <= clock.now + OPEN_SECONDS_AT_MOST


def test_a_page_that_is_broken_or_cannot_be_had_is_no_failure(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "other").write_bytes(b"x" * 100_000)
    (tmp_path / "cut").write_bytes(b"cortex lanes 2\n")
    for name in ("file/health", "other", "cut"):
        health = Health(tmp_path / name)
        for _ in range(3):
            call(health, Effect.FAILED)
        assert health.status(ONE).state is State.OPEN
    page = tmp_path / "torn"
    health = Health(page)
    call(health, Effect.ANSWERED)
    with page.open("r+b") as file:
        file.seek(4096 + 300)
        file.write(b"\xff" * 60)
    assert health.status(ONE).state is State.UNKNOWN


def run(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


HOLD = """
import sys
from pathlib import Path
from cortex_pipelines.lanes.health import Effect, health_at
health = health_at(Path(sys.argv[1]))
health.alive("http://one", None)
for _ in range(5):
    assert health.enter("http://one") is None
print(health.status("http://one").in_flight, flush=True)
sys.stdin.read()
"""


def test_places_of_a_killed_process_are_free_at_once(tmp_path):
    page = tmp_path / "health"
    holding = [run(HOLD, page) for _ in range(3)]
    counts = sorted(int(process.stdout.readline()) for process in holding)
    assert counts[-1] == 15
    health = health_at(page)
    assert health.status(ONE).in_flight == 15
    for process in holding:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert health.status(ONE).in_flight == 0
    assert health.enter(ONE) is None


FAIL = """
import sys, json, time
from pathlib import Path
from cortex_pipelines.lanes import Lanes, LaneFailed, Limits
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import load_settings
settings = load_settings({"ARGOS_LANE_CODER_URL": sys.argv[2], "CORTEX_STATE": sys.argv[1]}, env_file=None)
lanes = Lanes(settings, Limits(connect=2))
print("ready", flush=True)
sys.stdin.readline()
try:
    lanes.complete(Lane.CODER, [{"role": "user", "content": "x"}], max_tokens=5, timeout=1.5)
    print("answered")
except LaneFailed as error:
    print(json.dumps([attempt.outcome for attempt in error.attempts]))
"""


@pytest.mark.heavy
def test_ten_processes_at_a_dead_endpoint_make_three_attempts_in_all(tmp_path):
    dead = nobody()
    running = [run(FAIL, tmp_path, dead) for _ in range(10)]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert sum(outcome != "passed by" for attempts in told for outcome in attempts) <= 3
    assert health_at(tmp_path / "lanes" / "health").statuses()[0].state is State.OPEN


PROBE = """
import sys, time
from pathlib import Path
from cortex_pipelines.lanes.health import Effect, State, health_at
health = health_at(Path(sys.argv[1]))
print("ready", flush=True)
until = time.time() + 4
got = 0
while time.time() < until:
    if health.probe("http://one", None):
        got += 1
        print(time.time(), flush=True)
        time.sleep(0.3)
        print(time.time(), flush=True)
        health.probed("http://one", None, Effect.NOTHING)
    time.sleep(0.001)
"""


@pytest.mark.heavy
def test_there_is_one_probe_at_a_time_among_processes_and_a_killed_one_frees_it(tmp_path):
    page = tmp_path / "health"
    health = health_at(page)
    for _ in range(3):
        call(health, Effect.FAILED)
    # The breaker is half open from here on.
    slot = health._slot(ONE, None)
    record = health._read(slot)
    record.shut_until = 0.0
    health._write(slot, record)
    running = [run(PROBE, page) for _ in range(4)]
    told = [process.communicate(timeout=60)[0].split()[1:] for process in running]
    spans = sorted((float(begin), float(end)) for one in told for begin, end in zip(one[::2], one[1::2], strict=True))
    assert len(spans) >= 5
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    victim = run(PROBE, page)
    victim.stdout.readline()
    victim.stdout.readline()
    assert not health.probe(ONE, None)
    victim.kill()
    victim.wait()
    assert health.probe(ONE, None)


def test_what_one_process_learns_another_knows_within_a_second(tmp_path):
    page = tmp_path / "health"
    health = health_at(page)
    other = run(
        "import sys; from pathlib import Path; from cortex_pipelines.lanes.health import Effect, health_at\n"
        "health = health_at(Path(sys.argv[1]))\n"
        "for _ in range(3):\n"
        "    health.enter('http://one'); health.leave('http://one', None, Effect.FAILED, reason='timeout')\n"
        "print('done', flush=True); sys.stdin.read()",
        page,
    )
    assert other.stdout.readline() == "done\n"
    began = time.monotonic()
    while health.status(ONE).state is not State.OPEN:
        assert time.monotonic() - began < 1
    other.communicate("")


def test_a_forked_child_has_locks_of_its_own(tmp_path):
    page = tmp_path / "health"
    health = health_at(page)
    health.alive(ONE, None)
    assert health.enter(ONE) is None
    child = os.fork()
    if not child:
        mine = health_at(page)
        mine.enter(ONE)
        os._exit(0 if mine.status(ONE).in_flight == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert health.status(ONE).in_flight == 1
