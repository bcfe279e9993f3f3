"""From text to vectors, with weights that are installed as a package and never asked of a hub."""

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cortex_pipelines.errors import CortexError

if TYPE_CHECKING:
    import numpy as np


class EmbedderMissing(CortexError):
    """The weights of the embedder are not installed, or are not the ones that were tested."""


class Embedder(Protocol):
    """Turns texts into unit vectors; `model` is its identity, which every stored vector carries."""

    model: str
    size: int

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """One row of 32-bit floats per text, of length one."""


class StaticEmbedder:
    """The mean of static token vectors: 256 numbers, thousands of texts a second on one core.

    The weights are those of the package wordllama, read as data: its own loader asks a hub.
    """

    model = "wordllama-l2-supercat-256"
    size = 256
    _WEIGHTS = "weights/l2_supercat_256.safetensors"
    _TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        spec = importlib.util.find_spec("wordllama")
        if spec is None or spec.origin is None:
            raise EmbedderMissing("the weights of the embedder are not installed: pip install wordllama")
        folder = Path(spec.origin).parent
        tokenizer = Tokenizer.from_file(str(folder / self._TOKENIZER))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        (weights,) = load_file(folder / self._WEIGHTS).values()
        return tokenizer, weights.astype("float32")

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """See `Embedder`."""
        import numpy as np

        tokenizer, weights = self._loaded
        vectors = np.zeros((len(texts), self.size), dtype=np.float32)
        for row, encoded in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if encoded.ids:
                vectors[row] = weights[encoded.ids].mean(axis=0)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(norms == 0, 1, norms)


def text_digest(text: str) -> str:
    """What tells equal texts."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
