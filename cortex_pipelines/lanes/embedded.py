"""A GGUF in this process: llama.cpp's own server on the loopback, so that a lane has one way of being asked."""

import secrets
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines.lanes.errors import EmbeddedUnavailable
from cortex_pipelines.lanes.resolution import Endpoint
from cortex_pipelines.names import Backend

if TYPE_CHECKING:
    from cortex_pipelines.settings import LlamaCpp

_LOADING = threading.Lock()


def serve(path: Path, model: str | None, given: "LlamaCpp") -> Endpoint:
    """The endpoint of a GGUF, loaded at the first call and kept until the process ends.

    It listens on a loopback port that the system chooses, with a key that nobody else has. Raises `EmbeddedUnavailable`
    where xllamacpp is not installed, or the file cannot be loaded.
    """
    with _LOADING:
        return _loaded(path, model, given)


@cache
def _loaded(path: Path, model: str | None, given: "LlamaCpp") -> Endpoint:
    from pydantic import SecretStr

    try:
        import xllamacpp
    except ImportError:
        raise EmbeddedUnavailable("xllamacpp is not installed: pip install 'cortex-pipelines[embedded]'") from None
    if not path.is_file():
        raise EmbeddedUnavailable(f"there is no file {path}")
    name, key = model or path.stem, secrets.token_urlsafe(32)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_parallel = 1
    params.ui = False
    params.verbosity = 0
    if given.n_ctx is not None:
        params.n_ctx = given.n_ctx
    if given.n_threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.n_threads
    if given.n_gpu_layers is not None:
        params.n_gpu_layers = given.n_gpu_layers
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError, OSError) as error:
        raise EmbeddedUnavailable(f"{path} cannot be loaded: {error}") from None
    _SERVERS.append(server)
    return Endpoint(server.listening_address, name, Backend.LLAMA_CPP, SecretStr(key))


# A server ends with its object.
_SERVERS: list[Any] = []
