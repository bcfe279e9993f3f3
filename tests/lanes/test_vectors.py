"""Embeddings and reranking through a lane: in batches, whole or not at all, of one model."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.lanes import LaneFailed
from cortex_pipelines.lanes.router import EMBEDDED_TEXTS, batched
from cortex_pipelines.names import Lane
from tests.servers import llama
from tests.servers.faults import nobody, serving


def test_a_real_llama_cpp_server_embeds(lanes, tiny_model):
    texts = [f"text number {number} " * (number % 7) + "end" for number in range(150)]
    with llama.serving(tiny_model(), window=512, embedding=True) as url:
        ours = lanes(ARGOS_LANE_FAST_RAG_URL=f"{nobody()},{url}")
        vectors = ours.embed(Lane.FAST_RAG, texts, batch_bytes=1_000)
        assert ours.embed(Lane.FAST_RAG, texts[3:5]) == [pytest.approx(vector, abs=1e-4) for vector in vectors[3:5]]
        with pytest.raises(LaneFailed, match="context overflow"):
            ours.embed(Lane.FAST_RAG, ["x" * 4_000], timeout=2)
    assert len(vectors) == 150
    assert all(math.isclose(sum(number * number for number in vector), 1, rel_tol=1e-3) for vector in vectors)


def test_a_server_that_does_not_embed_is_named(lanes, llama_server):
    with pytest.raises(LaneFailed, match="does not support embeddings"):
        lanes(ARGOS_LANE_FAST_RAG_URL=llama_server).embed(Lane.FAST_RAG, ["x"])


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "bytes"}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("inf")]}],
    ],
)
def test_half_of_the_vectors_are_none(lanes, data):
    answer = json.dumps({"data": data, "model": "m"}).encode()
    with serving(posts={"/v1/embeddings": answer}) as server, pytest.raises(LaneFailed):
        lanes(ARGOS_LANE_FAST_RAG_URL=server.url).embed(Lane.FAST_RAG, ["a", "b"], timeout=3)


@given(st.lists(st.text(max_size=50), max_size=200), st.integers(1, 200))
def test_batches_are_all_texts_in_their_order(texts, size):
    batches = list(batched(texts, size))
    assert [text for batch in batches for text in batch] == texts
    assert all(0 < len(batch) <= EMBEDDED_TEXTS for batch in batches)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= size for batch in batches)


def test_scores_come_in_the_order_of_the_texts_and_logits_are_brought_to_the_same_range(lanes):
    def answer(scores):
        rows = [{"index": index, "relevance_score": score} for index, score in scores]
        return {"/v1/rerank": json.dumps({"results": rows}).encode()}

    with serving(posts=answer([(2, 0.9), (0, 0.5), (1, 0.1)])) as vllm:
        assert lanes(ARGOS_LANE_FAST_RAG_URL=vllm.url).rerank(Lane.FAST_RAG, "q", ["a", "b", "c"]) == [0.5, 0.1, 0.9]
        assert vllm.asked[0]["query"] == "q"
    with serving(posts=answer([(0, 0.0), (1, -900.0), (2, 8.0)])) as llama_cpp:
        scores = lanes(ARGOS_LANE_FAST_RAG_URL=llama_cpp.url).rerank(Lane.FAST_RAG, "q", ["a", "b", "c"])
        assert scores == [pytest.approx(0.5), pytest.approx(0.0), pytest.approx(0.99966, abs=1e-4)]
    with serving(posts=answer([(0, 0.5)])) as short, pytest.raises(LaneFailed, match="did not score every text"):
        lanes(ARGOS_LANE_FAST_RAG_URL=short.url).rerank(Lane.FAST_RAG, "q", ["a", "b"])
