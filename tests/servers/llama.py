"""A real llama.cpp server in this process, on a loopback port that the system chooses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODEL = "tiny"


@contextmanager
def serving(
    model: Path, *, window: int = 32_768, slots: int = 1, key: str | None = None, embedding: bool = False
) -> Iterator[str]:
    """The address of a server for the GGUF `model` with `window` tokens in each slot; it stops with the block."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = window * slots
    params.n_parallel = slots
    # More threads than free cores spin: eight times slower on a busy machine.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.ui = False
    params.verbosity = 0
    if embedding:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    if key is not None:
        params.api_keys = [key]
    server = xllamacpp.Server(params)
    try:
        yield server.listening_address
    finally:
        del server
