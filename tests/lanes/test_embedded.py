"""A GGUF in this process: the same interface, structured output included."""

from typing import Literal

import pytest
from pydantic import BaseModel

from cortex_pipelines.lanes import LaneFailed
from cortex_pipelines.names import Lane
from tests.servers.faults import serving

HELLO = [{"role": "user", "content": "Say something."}]


class Status(BaseModel):
    status: Literal["implemented", "unmapped"]


def test_a_gguf_answers_without_any_server(lanes, tiny_model):
    path = tiny_model("The ferry leaves at seven.")
    ours = lanes(ARGOS_LANE_GOVERNANCE_MODEL_PATH=str(path), ARGOS_LLAMA_CPP_N_CTX="512", ARGOS_LLAMA_CPP_N_THREADS="1")
    done = ours.complete(Lane.GOVERNANCE, HELLO, max_tokens=50)
    assert (done.text, done.endpoint, done.model) == ("The ferry leaves at seven.", str(path), path.stem)
    with pytest.raises(LaneFailed, match="do not fit 512"):
        ours.complete(Lane.GOVERNANCE, [{"role": "user", "content": "x" * 600}], max_tokens=50)


def test_two_files_are_two_models_with_windows_of_their_own(lanes, tiny_model):
    one, other = tiny_model("I am one."), tiny_model("I am the other.")
    variables = {"ARGOS_LANE_CODER_MODEL_PATH": str(one), "ARGOS_LANE_GOVERNANCE_MODEL_PATH": str(other)}
    ours = lanes(**variables, ARGOS_LLAMA_CPP_N_CTX="512", ARGOS_LLAMA_CPP_N_THREADS="1")
    for lane, path, text in ((Lane.CODER, one, "I am one."), (Lane.GOVERNANCE, other, "I am the other.")):
        done = ours.complete(lane, HELLO, max_tokens=50)
        assert (done.text, done.model) == (text, path.stem)


def test_it_keeps_to_a_shape(lanes, tiny_model):
    variables = {"ARGOS_LANE_CODER_MODEL_PATH": str(tiny_model()), "ARGOS_LLAMA_CPP_N_THREADS": "1"}
    done = lanes(**variables, ARGOS_LLAMA_CPP_N_CTX="4096").complete(Lane.CODER, HELLO, max_tokens=500, schema=Status)
    assert isinstance(done.parsed, Status)


def test_a_file_that_cannot_be_loaded_is_one_line_and_the_next_endpoint_answers(lanes, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with serving() as server:
        for name in ("broken.gguf", "missing.gguf"):
            variables = {"ARGOS_LANE_CODER_MODEL_PATH": str(tmp_path / name), "ARGOS_LLM_BASE_URL": server.url}
            done = lanes(**variables).complete(Lane.CODER, HELLO, max_tokens=5)
            assert [attempt.outcome for attempt in done.attempts] == ["embedded", "answered"]
            assert name in done.attempts[0].detail
