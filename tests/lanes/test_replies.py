"""What servers say: refusals as they worded them, and streams however the network cuts them."""

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.lanes.errors import AttemptError, SchemaViolated, StreamCut
from cortex_pipelines.lanes.replies import Gathering, refusal, served, split_reasoning
from tests.servers.faults import Answer, streamed
from tests.servers.llama import serving
from tests.servers.recorded import REFUSALS


@pytest.mark.parametrize(("server", "status", "body", "kind"), REFUSALS)
def test_every_recorded_refusal_has_its_kind(server, status, body, kind):
    error = refusal(status, body)
    assert error.kind == kind
    assert len(str(error).splitlines()) == 1


def test_the_recorded_refusals_of_llama_cpp_are_what_it_says_today(tiny_model):
    recorded = {
        (status, json.loads(body)["error"]["message"]) for who, status, body, _ in REFUSALS if who == "llama.cpp"
    }
    with serving(tiny_model(), window=512, key="right") as url:
        key = {"Authorization": "Bearer right"}
        wrong = httpx.get(f"{url}/v1/models", headers={"Authorization": "Bearer wrong"})
        unknown = httpx.get(f"{url}/nowhere", headers=key)
        none = httpx.post(f"{url}/v1/embeddings", headers=key, json={"input": "x"})
        long = {"messages": [{"role": "user", "content": "x" * 5_000}], "max_tokens": 5}
        overflow = httpx.post(f"{url}/v1/chat/completions", headers=key, json=long)
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
        short = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "response_format": schema}
        bad = httpx.post(f"{url}/v1/chat/completions", headers=key, json=short)
    for said in (wrong, unknown, none, bad):
        assert (said.status_code, said.json()["error"]["message"]) in recorded
    assert overflow.json()["error"].keys() == {"code", "message", "type", "n_prompt_tokens", "n_ctx"}
    kinds = [refusal(said.status_code, said.content).kind for said in (wrong, unknown, none, bad, overflow)]
    assert kinds == ["unauthorised", "bad request", "bad request", "bad request", "context overflow"]


ANSWERS = st.builds(
    Answer,
    text=st.text(min_size=1, max_size=60).filter(str.strip),
    reasoning=st.text(max_size=20),
    events=st.integers(1, 8),
)


@given(answer=ANSWERS, data=st.data())
def test_a_stream_is_the_same_wherever_it_is_cut(answer, data):
    whole = b": ping\n\n" + b"".join(streamed(answer))
    borders = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=12)))
    gathering = Gathering(room=10**6)
    for start, end in zip([0, *borders], [*borders, len(whole)], strict=True):
        gathering.feed(whole[start:end])
    assert gathering.done
    reply = gathering.reply()
    straight = Gathering(room=10**6)
    straight.feed(whole)
    assert reply == straight.reply()
    if "<think>" not in answer.text and "</think>" not in answer.text:
        assert reply.text == answer.text.strip()


@given(answer=ANSWERS, data=st.data())
def test_a_stream_that_ends_early_is_never_an_answer(answer, data):
    whole = b"".join(streamed(answer))
    before_the_end = whole.index(b'"finish_reason": "stop"')
    gathering = Gathering(room=10**6)
    gathering.feed(whole[: data.draw(st.integers(0, before_the_end))])
    with pytest.raises(StreamCut):
        gathering.reply()


@given(st.binary(max_size=400), st.integers(200, 599))
def test_no_bytes_of_a_server_are_more_than_an_attempt_error(body, status):
    assert isinstance(refusal(status, body), AttemptError)
    served(body, None)
    gathering = Gathering(room=10**6, structured=True)
    try:
        gathering.feed(b"data: " + body + b"\n\n")
        gathering.reply()
    except AttemptError as error:
        assert str(error).isprintable()


def test_endless_whitespace_ends_a_structured_answer():
    gathering = Gathering(room=10**6, structured=True)
    event = json.dumps({"choices": [{"delta": {"content": " \n" * 20}}]})
    with pytest.raises(SchemaViolated, match="whitespace"):
        for _ in range(50):
            gathering.feed(f"data: {event}\n\n".encode())


@pytest.mark.parametrize(
    ("said", "reasoning", "text"),
    [
        ("<think>Hm.</think>Yes.", "Hm.", "Yes."),
        ("<think>a</think>\n<think>b</think> Yes.", "a\nb", "Yes."),
        ("the template opened it</think>Yes.", "the template opened it", "Yes."),
        ("<think>cut off in the middle", "cut off in the middle", ""),
        ("Write <think> in the text.", "", "Write <think> in the text."),
        ("Yes.", "", "Yes."),
    ],
)
def test_reasoning_is_kept_apart_from_text(said, reasoning, text):
    assert split_reasoning(said) == (reasoning, text)
