"""Answers of a given shape: each server's dialect, what is read out of an answer, and one turn to mend it."""

import json
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cortex_pipelines.lanes import LaneFailed
from cortex_pipelines.lanes.structured import Violation, parse, response_format
from cortex_pipelines.names import Backend, Lane
from tests.servers.faults import Answer, serving

HELLO = [{"role": "user", "content": "Judge it."}]


class Verdict(BaseModel):
    status: Literal["implemented", "unmapped"]
    confidence: float
    notes: list[str] = []


GOOD = '{"status": "implemented", "confidence": 0.5, "notes": ["x"]}'
VERDICT = Verdict(status="implemented", confidence=0.5, notes=["x"])


@pytest.mark.parametrize(
    "said",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```json\n{GOOD}",
        f"Here it is:\n{GOOD}\nI hope that helps.",
        GOOD.replace('"x"', '"x"').replace(" ", "  \n "),
    ],
)
def test_what_is_meant_is_read(said):
    assert parse(Verdict, said) == VERDICT


def test_raw_control_characters_in_strings_are_taken():
    assert parse(Verdict, GOOD.replace('"x"', '"a\x07b"')).notes == ["a\x07b"]


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no JSON at all",
        GOOD[:-5],
        GOOD.replace("0.5", "1e999"),
        GOOD.replace("0.5", "Infinity"),
        GOOD.replace("0.5", "NaN"),
        GOOD.replace("implemented", "perhaps"),
        "[1, 2]",
        "[" * 100_000,
        '{"confidence": ' + "9" * 10_000 + "}",
    ],
)
def test_what_is_not_of_the_shape_is_told_in_a_line(said):
    with pytest.raises(Violation) as told:
        parse(Verdict, said)
    assert len(str(told.value)) < 1_000


@given(
    st.builds(
        Verdict,
        status=st.sampled_from(["implemented", "unmapped"]),
        confidence=st.floats(allow_nan=False, allow_infinity=False),
        notes=st.lists(st.text(), max_size=3),
    ),
    st.sampled_from(["{}", "```json\n{}\n```", "Sure. {}", "\n\n{}\n"]),
)
def test_every_instance_comes_back(verdict, around):
    read = parse(Verdict, around.replace("{}", verdict.model_dump_json()))
    assert isinstance(read, Verdict)
    assert (read.status, read.notes) == (verdict.status, verdict.notes)
    assert math.isclose(read.confidence, verdict.confidence)


@pytest.mark.parametrize(
    ("backend", "key"), [(Backend.VLLM, "json_schema"), (Backend.LLAMA_CPP, "json_schema"), (Backend.TGI, "value")]
)
def test_each_server_is_asked_in_its_dialect(backend, key):
    asked = response_format(Verdict, backend)
    assert asked[key]["schema"] == Verdict.model_json_schema()


def test_a_real_llama_cpp_server_keeps_to_the_shape(lanes, llama_server):
    class Status(BaseModel):
        status: Literal["implemented", "unmapped"]
        certain: bool

    ours = lanes(ARGOS_LANE_CODER_URL=llama_server)
    for _ in range(5):
        done = ours.complete(Lane.CODER, HELLO, max_tokens=2_000, schema=Status, temperature=0.7)
        assert isinstance(done.parsed, Status)
        assert [attempt.outcome for attempt in done.attempts] == ["answered"]


def test_one_turn_mends_an_answer_then_another_endpoint_is_asked(lanes):
    with serving([Answer(text='{"status": "perhaps"}'), Answer(text=GOOD)]) as server:
        done = lanes(ARGOS_LANE_CODER_URL=server.url).complete(Lane.CODER, HELLO, max_tokens=99, schema=Verdict)
        assert done.parsed == VERDICT
        assert [message["role"] for message in server.asked[1]["messages"]] == ["user", "assistant", "user"]
        assert "confidence: Field required" in server.asked[1]["messages"][2]["content"]
    with serving(Answer(text="never")) as bad, serving(Answer(text=GOOD)) as good:
        urls = f"{bad.url},{good.url}"
        done = lanes(ARGOS_LANE_CODER_URL=urls).complete(Lane.CODER, HELLO, max_tokens=99, schema=Verdict)
        assert [attempt.outcome for attempt in done.attempts] == ["schema violated", "answered"]
        assert len(bad.asked) == 2
        with pytest.raises(LaneFailed, match="schema violated: there is no JSON in it"):
            lanes(ARGOS_LANE_CODER_URL=bad.url).complete(Lane.CODER, HELLO, max_tokens=99, schema=Verdict)


def test_a_schema_is_never_part_of_a_plain_request(lanes):
    with serving() as server:
        lanes(ARGOS_LANE_CODER_URL=server.url).complete(Lane.CODER, HELLO, max_tokens=9)
    assert "response_format" not in json.dumps(server.asked)
