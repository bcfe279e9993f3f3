"""Documents parsed in a process of their own, so that a file which breaks its parser breaks nothing else."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from types import MappingProxyType
from typing import Any

from cortex_pipelines.confined import Worker, allow, hear, say, shut_in
from cortex_pipelines.ingest.parsing import TEXT_BYTES, Heading, Page, Parsed, Part, Unreadable, parse

# A PDF of a thousand pages takes a few seconds. A scanned one takes a few a page, in a program of its own.
CPU_SECONDS = 30.0
SECONDS = 300.0
# With the file and its text in the process that asks, and what that one takes itself, some 500 MB in all.
MEMORY_BYTES = 400 * 2**20
# A text, in up to four bytes a character; its structure as JSON; something that is attached.
MESSAGE_BYTES = 4 * TEXT_BYTES


class DocumentReader(Worker):
    """Parses files one after another in one child process, which is replaced when a file ends it. A context manager."""

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__(__name__, seconds, MESSAGE_BYTES, MEMORY_BYTES)

    def parse(self, name: str, data: bytes, people: Mapping[str, str] = MappingProxyType({})) -> Parsed:
        """As `parsing.parse`; what takes too much time or memory is `Unreadable` too."""
        try:
            self.say(json.dumps([name, dict(people)]).encode())
            self.say(data)
            head = json.loads(self.hear())
            return self._parsed(**head)
        except TimeoutError:
            raise Unreadable(f"took its parser more than {self._seconds:.0f} s") from None
        except (OSError, ValueError, LookupError, TypeError):
            raise Unreadable("broke its parser: it crashed, or needed too much memory or time") from None

    def _parsed(
        self,
        unreadable: str = "",
        headings: Sequence[Any] = (),
        pages: Sequence[Any] = (),
        messages: Sequence[Any] = (),
        parts: Sequence[str] = (),
        **fields: Any,
    ) -> Parsed:
        if unreadable:
            raise Unreadable(unreadable)
        from cortex_pipelines.ingest.chats import Message

        return Parsed(
            text=self.hear().decode(),
            headings=tuple(Heading(*row) for row in headings),
            pages=tuple(Page(*row) for row in pages),
            messages=tuple(Message(*row) for row in messages),
            parts=tuple(Part(name, self.hear()) for name in parts),
            **fields,
        )


def serve() -> None:
    """The child: name and content in; out the structure as JSON, the text, and what is attached, each a message."""
    # What a parser prints must not get among the answers.
    sys.stdout = sys.stderr
    shut_in()
    while (asked := hear()) is not None:
        data = hear() or b""
        name, people = json.loads(asked)
        allow(CPU_SECONDS, MEMORY_BYTES - len(data))
        try:
            parsed = parse(name, data, people)
            head = _head(parsed)
        except Exception as error:  # a parser's own fault is the file's, which is quarantined with it
            say(json.dumps({"unreadable": _reason(error)}).encode())
            continue
        del data
        say(json.dumps(head).encode())
        say(parsed.text.encode("utf-8", "replace"))
        for part in parsed.parts:
            say(part.data)
        del parsed


def _head(parsed: Parsed) -> dict[str, Any]:
    return {
        "media_type": parsed.media_type,
        "title": parsed.title,
        "details": dict(parsed.details),
        "headings": [astuple(heading) for heading in parsed.headings],
        "pages": [astuple(page) for page in parsed.pages],
        "messages": [astuple(message) for message in parsed.messages],
        "parts": [part.name for part in parsed.parts],
    }


def _reason(error: Exception) -> str:
    if isinstance(error, Unreadable):
        return str(error)
    if isinstance(error, MemoryError):
        return "needs too much memory"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return f"broke its parser ({type(error).__name__})"
