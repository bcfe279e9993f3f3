"""Documents parsed in a process of their own, so that a file which breaks its parser breaks nothing else."""

import json
from dataclasses import asdict

from cortex_pipelines.confined import Worker, answer_questions
from cortex_pipelines.ingest.parsing import TEXT_BYTES, Heading, Page, Parsed, Unreadable, is_plain, parse

# A PDF of a thousand pages takes a few seconds.
SECONDS = 60.0
# JSON escapes a character in up to six bytes, and lists of headings and pages come beside the text.
ANSWER_BYTES = 3 * TEXT_BYTES


class DocumentReader(Worker):
    """Parses files one after another in one child process, which is replaced when a file ends it. A context manager."""

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__(__name__, seconds, ANSWER_BYTES)

    def parse(self, name: str, data: bytes) -> Parsed:
        """As `parsing.parse`; what takes too much time or memory is `Unreadable` too. Plain text is read right here."""
        if is_plain(name, data):
            return parse(name, data)
        head = json.dumps(name).encode()
        try:
            answer = json.loads(self.ask(head + b"\n" + data))
        except TimeoutError:
            raise Unreadable(f"took its parser more than {self._seconds:.0f} s") from None
        except (OSError, ValueError):
            raise Unreadable("broke its parser: it crashed or ran out of memory") from None
        if reason := answer.pop("unreadable", None):
            raise Unreadable(reason)
        headings = tuple(Heading(**heading) for heading in answer.pop("headings"))
        pages = tuple(Page(**page) for page in answer.pop("pages"))
        return Parsed(**answer, headings=headings, pages=pages)


def serve() -> None:
    """The child: the name as a line of JSON and the content in, what it holds out as JSON."""
    answer_questions(_answer)


def _answer(question: bytes) -> bytes:
    name, _, data = question.partition(b"\n")
    try:
        found = asdict(parse(json.loads(name), data))
    except Unreadable as error:
        found = {"unreadable": str(error)}
    except Exception as error:  # a parser's own fault is the file's, which is quarantined with it
        found = {"unreadable": f"broke its parser ({type(error).__name__})"}
    return json.dumps(found).encode()
