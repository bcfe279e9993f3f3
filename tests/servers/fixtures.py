"""Servers that any test may ask for: each is started once for the session, at the first test that wants it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Path]:
    """Make the tiny GGUF that says a sentence, or random text; the same one only once."""
    from tests.servers.tiny_gguf import write_tiny_gguf

    folder = tmp_path_factory.mktemp("gguf")
    made: dict[str | None, Path] = {}

    def make(says: str | None = None) -> Path:
        if says not in made:
            made[says] = write_tiny_gguf(folder / f"{len(made)}.gguf", says=says)
        return made[says]

    return make


@pytest.fixture(scope="session")
def llama_server(tiny_model: Callable[..., Path]) -> Iterator[str]:
    """The address of a llama.cpp server with a window of 32,768 tokens (bytes) that writes random text."""
    from tests.servers.llama import serving

    with serving(tiny_model()) as address:
        yield address


@pytest.fixture(scope="session")
def llama_saying(tiny_model: Callable[..., Path]) -> Iterator[Callable[[str], str]]:
    """Start a llama.cpp server whose model answers everything with the given sentence; its address."""
    from tests.servers.llama import serving

    running: dict[str, str] = {}
    with ExitStack() as servers:

        def start(sentence: str) -> str:
            if sentence not in running:
                running[sentence] = servers.enter_context(serving(tiny_model(sentence)))
            return running[sentence]

        yield start
