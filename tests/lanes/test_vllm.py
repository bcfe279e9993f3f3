"""Lanes against a real vLLM server on the CPU: what the recorded answers stand for, as it says it today."""

import json
import os
from typing import Literal

import httpx
import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from cortex_pipelines.cli import main
from cortex_pipelines.lanes import LaneFailed, Limits, Request
from cortex_pipelines.lanes.client import run
from cortex_pipelines.lanes.replies import refusal
from cortex_pipelines.names import Lane
from tests.servers import vllm

pytestmark = pytest.mark.vllm
HELLO = [{"role": "user", "content": "Say something."}]


class Status(BaseModel):
    status: Literal["implemented", "unmapped"]
    certain: bool


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with vllm.serving(os.environ["VLLM_PYTHON"], tmp_path_factory.mktemp("vllm")) as address:
        yield address


def test_it_answers_and_counts(lanes, url):
    done = lanes(ARGOS_LANE_CODER_URL=url).complete(Lane.CODER, HELLO, max_tokens=450, temperature=0.7)
    assert done.text
    assert done.model == "tiny"
    assert done.prompt_tokens > 10


def test_it_keeps_to_a_shape(lanes, url):
    ours = lanes(ARGOS_LANE_CODER_URL=url)
    for _ in range(5):
        done = ours.complete(Lane.CODER, HELLO, max_tokens=200, schema=Status, temperature=0.7)
        assert isinstance(done.parsed, Status)


def test_a_prompt_that_does_not_fit_is_counted_by_its_tokenizer_and_not_sent(lanes, url):
    long = [{"role": "user", "content": "x" * 480}]
    with pytest.raises(LaneFailed, match=r"not sent: \d{3} tokens and 50 for the answer do not fit 512"):
        lanes(ARGOS_LANE_CODER_URL=url).complete(Lane.CODER, long, max_tokens=50)


def test_its_refusals_have_their_kinds(url):
    def refused(**changed):
        body = {"model": "tiny", "messages": HELLO, "max_tokens": 5} | changed
        said = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
        return refusal(said.status_code, said.content).kind

    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
    assert refused(model="nope") == "model not found"
    assert refused(messages=[{"role": "user", "content": "x" * 600}]) == "context overflow"
    assert refused(messages=[{"role": "user", "content": "x" * 60_000}]) == "context overflow"
    assert refused(max_tokens=100_000) == "context overflow"
    assert refused(response_format=schema) == "bad request"
    assert refused(temperature=-1) == "bad request"


def test_more_calls_than_its_queue_holds_are_all_answered(lanes, url):
    ours = lanes(ARGOS_LANE_CODER_URL=url)
    done = ours.map(Lane.CODER, [Request(HELLO, 300, 0.5, prompt_version=str(n)) for n in range(40)], in_flight=40)
    # What the random model says may be nothing, or not end; whatever it is, the server said it.
    failed = [attempt.outcome for answer in done if isinstance(answer, LaneFailed) for attempt in answer.attempts[-1:]]
    assert set(failed) <= {"empty answer", "truncated"}
    assert len(failed) < 20
    [status] = ours.health.statuses()
    assert status.record.overloaded > 0
    assert status.limit < 40
    assert status.in_flight == 0


def test_a_server_that_sleeps_hangs_although_it_is_healthy_and_a_call_wakes_it(lanes, url):
    ours = lanes(Limits(connect=2, first=0.7, stall=0.7), ARGOS_LANE_CODER_URL=url)
    httpx.post(f"{url}/sleep?level=1", timeout=30).raise_for_status()
    try:
        assert httpx.get(f"{url}/health").status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            body = {"model": "tiny", "messages": HELLO, "max_tokens": 5}
            httpx.post(f"{url}/v1/chat/completions", json=body, timeout=1)
        done = ours.complete(Lane.CODER, HELLO, max_tokens=450, temperature=0.7, timeout=60)
    finally:
        httpx.post(f"{url}/wake_up", timeout=30).raise_for_status()
    assert done.text
    assert done.attempts[0].outcome == "asleep"


def test_it_is_let_go_of_and_woken(lanes, url):
    ours = lanes(ARGOS_LANE_CODER_URL=url)
    endpoint = ours.resolve(Lane.CODER).endpoints[0]
    assert run(ours.residency.unload(endpoint))
    assert httpx.get(f"{url}/is_sleeping").json() == {"is_sleeping": True}
    assert not run(ours.residency.unload(endpoint))
    assert run(ours.residency.prewarm([Lane.CODER])) == {Lane.CODER: "loaded"}
    assert httpx.get(f"{url}/is_sleeping").json() == {"is_sleeping": False}


def test_weights_that_it_discarded_are_read_again(lanes, url):
    ours = lanes(ARGOS_LANE_CODER_URL=url, CORTEX_SLEEP_LEVEL="2")
    endpoint = ours.resolve(Lane.CODER).endpoints[0]
    body = {"model": "tiny", "messages": HELLO, "max_tokens": 20, "temperature": 0}

    def said():
        told = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
        return told.json()["choices"][0]["message"]["content"]

    before = said()
    assert run(ours.residency.unload(endpoint))
    # What the imitation is made after.
    assert 'sleep_state="discard_all"} 1.0' in httpx.get(f"{url}/metrics").text
    half = httpx.post(f"{url}/wake_up?tags=weights").raise_for_status()
    assert half.json() == {"status": "sleeping", "tags": ["weights"]}
    assert httpx.get(f"{url}/is_sleeping").json() == {"is_sleeping": True}
    assert 'sleep_state="discard_all"} 1.0' in httpx.get(f"{url}/metrics").text
    # From the middle, and at the setting that discards nothing.
    assert run(lanes(ARGOS_LANE_CODER_URL=url).residency.load(endpoint))
    assert said() == before
    assert httpx.get(f"{url}/is_sleeping").json() == {"is_sleeping": False}
    assert 'sleep_state="awake"} 1.0' in httpx.get(f"{url}/metrics").text


def test_the_doctor_knows_it(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(main, ["lanes", "doctor", "--json"], env={"ARGOS_LANE_CODER_URL": url})
    assert told.exit_code == 0, told.output
    [one] = [one for one in json.loads(told.stdout) if one["endpoint"]]
    assert (one["backend"], one["window"], one["served"]) == ("vllm", 512, ["tiny"])
    assert one["version"]
    assert one["counts_prompts"] == "/tokenize"
