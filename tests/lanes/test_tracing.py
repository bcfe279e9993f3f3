"""Spans of calls: one for the call, one for each attempt, and nothing of what was said."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cortex_pipelines.lanes import LaneFailed
from cortex_pipelines.names import Lane
from tests.servers.faults import Answer, nobody, serving

SECRET = [{"role": "user", "content": "a secret prompt"}]


@pytest.fixture
def spans(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter.get_finished_spans


def test_a_call_and_its_attempts_are_spans(lanes, spans):
    dead = nobody()
    with serving(Answer(text="a secret answer")) as server:
        lanes(ARGOS_LANE_CODER_URL=f"{dead},{server.url}").complete(Lane.CODER, SECRET, max_tokens=5)
    *attempts, call = spans()
    assert call.name == "chat m"
    assert call.attributes["cortex.lane"] == "CODER"
    assert (call.attributes["gen_ai.usage.input_tokens"], call.attributes["gen_ai.usage.output_tokens"]) == (7, 3)
    assert call.attributes["server.port"] == int(server.url.rsplit(":", 1)[1])
    assert [span.attributes["cortex.outcome"] for span in attempts] == ["connection", "answered"]
    assert attempts[0].attributes["error.type"] == "connection"
    assert all(span.parent.span_id == call.context.span_id for span in attempts)
    assert call.start_time <= attempts[0].start_time <= attempts[1].start_time <= attempts[1].end_time <= call.end_time
    assert "secret" not in "".join(span.to_json() for span in spans())


def test_a_call_that_nobody_answers_is_an_error(lanes, spans):
    with serving(Answer(finish="length")) as server, pytest.raises(LaneFailed):
        lanes(ARGOS_LANE_CODER_URL=server.url).complete(Lane.CODER, SECRET, max_tokens=5)
    assert spans()[-1].status.status_code is trace.StatusCode.ERROR
    assert spans()[-1].attributes["error.type"] == "truncated"
