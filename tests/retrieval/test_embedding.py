"""The embedder: unit vectors, the same every time, and those that the weights' own library makes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from cortex_pipelines.retrieval import embedding
from cortex_pipelines.retrieval.embedding import EmbedderMissing, StaticEmbedder, text_digest

TEXTS = [
    "A receiver uploads its readings every 15 minutes.",
    "def drop_duplicates(readings):\n    return readings\n",
    "Die Vögel ziehen nach Süden. 鳥は南へ飛ぶ。 😀",
    "x",
    "  spaces  around\tand\nlines ",
    "<s> </s> <unk> [CLS]",
    "word " * 3_000,
]


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    return StaticEmbedder()


def test_each_text_becomes_a_row_of_length_one(embedder: StaticEmbedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.size) == (len(TEXTS), 256)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_no_texts_are_no_rows_and_an_empty_text_is_a_row_of_numbers(embedder: StaticEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 256)
    empty, full = embedder.embed(["", "bird"])
    assert np.all(empty == 0)
    assert np.linalg.norm(full) == pytest.approx(1)


def test_the_same_text_becomes_the_same_vector_alone_among_others_and_after_a_reload(embedder: StaticEmbedder) -> None:
    together = embedder.embed(TEXTS)
    assert np.array_equal(together, embedder.embed(TEXTS))
    assert np.array_equal(together, StaticEmbedder().embed(TEXTS))
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.array_equal(embedder.embed([text])[0], vector)


@settings(deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=5))
def test_whatever_the_texts_each_row_is_of_length_one_or_zero(embedder: StaticEmbedder, texts: list[str]) -> None:
    norms = np.linalg.norm(embedder.embed(texts), axis=1)
    assert np.all((np.abs(norms - 1) < 1e-4) | (norms == 0))


def test_the_vector_is_the_mean_of_the_vectors_of_the_tokens(embedder: StaticEmbedder) -> None:
    spec = importlib.util.find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    [weights] = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
    for text, vector in zip(TEXTS, embedder.embed(TEXTS), strict=True):
        total = np.zeros(256)
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        for token in tokens:
            total += weights[token].astype(np.float64)
        np.testing.assert_allclose(vector, total / np.linalg.norm(total), atol=1e-4)


# In a process of its own: the library sets up logging for the whole process.
LIBRARY = """
import json, sys
from pathlib import Path
import wordllama
# It looks for its own tokenizer under another name than it is packed with, but finds it as if it were cached.
folder = Path(wordllama.__file__).parent
model = wordllama.WordLlama.load(dim=256, cache_dir=folder, disable_download=True)
print(json.dumps(model.embed(json.loads(sys.stdin.read()), norm=True).tolist()))
"""


def test_the_vectors_are_those_of_the_library_that_the_weights_come_from(embedder: StaticEmbedder) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    np.testing.assert_allclose(embedder.embed(TEXTS), np.array(json.loads(done.stdout)), atol=1e-5)


def test_words_that_mean_alike_lie_closer_than_words_that_do_not(embedder: StaticEmbedder) -> None:
    cat, kitten, tax = embedder.embed(["a cat on the sofa", "a kitten on the couch", "quarterly tax declaration"])
    assert cat @ kitten > 0.5 > cat @ tax


def test_missing_weights_are_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbedderMissing, match="pip install wordllama"):
        StaticEmbedder().embed(["x"])


def test_equal_texts_and_only_they_have_equal_digests() -> None:
    assert text_digest("a") == text_digest("a") != text_digest("b")
    assert text_digest("\udcff")
