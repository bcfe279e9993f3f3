"""Code chunked in a process of its own, so that a file which breaks its parser breaks nothing else."""

import json
from dataclasses import astuple

from cortex_pipelines.confined import Worker, answer_questions
from cortex_pipelines.retrieval.chunking import CODE_MOST_BYTES, Chunk, chunk_code, chunk_document

# The largest file that is parsed takes half a second; as `codebase.reader`.
SECONDS = 10.0
# JSON escapes a byte of text in up to six, and a chunk's place comes beside it.
ANSWER_BYTES = 8 * CODE_MOST_BYTES


class CodeChunker(Worker):
    """Chunks files one after another in one child process, which is replaced when a file ends it. A context manager."""

    def __init__(self) -> None:
        super().__init__(__name__, SECONDS, ANSWER_BYTES)

    def chunk(self, text: str, language: str | None) -> list[Chunk]:
        """As `chunk_code`; a file that takes its parser too much time or memory is cut as plain text."""
        if language is None or len(text) > CODE_MOST_BYTES:
            return chunk_document(text)
        try:
            answer = json.loads(self.ask(json.dumps([text, language]).encode()))
        except (OSError, ValueError):
            return chunk_document(text)
        return [Chunk(*row) for row in answer]


def serve() -> None:
    """The child: a text and its language in, its chunks out, both as JSON."""
    answer_questions(_answer)


def _answer(question: bytes) -> bytes:
    return json.dumps([astuple(chunk) for chunk in chunk_code(*json.loads(question))]).encode()
