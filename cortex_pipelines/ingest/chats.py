"""Chat exports as messages: who said what, when, and on which lines."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TIME = r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}[, ]+\d{1,2}:\d{2}(?::\d{2})?(?:\s?[APap][Mm])?Z?"
_NAME = r"[^\W\d_][\w .'@-]{0,39}"
# "**Ana** (2026-03-02 10:14): ...", "Ana (10:14): ...", "[2026-03-02 10:14] Ana: ...", "2.3.26, 10:14 - Ana: ..."
_STARTS = (
    re.compile(
        rf"^\**(?P<speaker>{_NAME}?)\**\s*[(\[](?P<time>{_TIME}|\d{{1,2}}:\d{{2}})[)\]]\s*:?\**\s*(?P<text>.*)$"
    ),
    re.compile(rf"^[(\[]?(?P<time>{_TIME})[)\]]?\s*[-\u2013]?\s*\**(?P<speaker>{_NAME}?)\**:\**\s+(?P<text>.*)$"),
)
# A log's lines begin alike.
_LEVEL = re.compile(r"(?i)(?:trace|debug|info|notice|warn(?:ing)?|err(?:or)?|fatal|critical|severe)\b")
# What two people say once may be prose.
FEWEST_MESSAGES = 3
MESSAGE_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Message:
    """One message; lines are 1-based and inclusive, `time` is as it was written."""

    speaker: str
    time: str
    text: str
    line_start: int
    line_end: int


def parse_chat(text: str) -> tuple[Message, ...]:
    """The messages of a text that is a chat; none when it is none."""
    messages = tuple(_messages(text))
    return messages if len(messages) >= FEWEST_MESSAGES else ()


def _messages(text: str) -> Iterator[Message]:
    lines = text.split("\n")
    starts = [(number, match) for number, line in enumerate(lines) if (match := _start(line))]
    ends = [number for number, _ in [*starts[1:], (len(lines), None)]]
    for (number, match), end in zip(starts, ends, strict=False):
        said = [match["text"], *lines[number + 1 : end]]
        while said and not said[-1].strip():
            said.pop()
        words = "\n".join(said)[:MESSAGE_CHARACTERS]
        yield Message(match["speaker"].strip(" *"), match["time"], words, number + 1, number + max(1, len(said)))


def _start(line: str) -> re.Match[str] | None:
    # A line that long is no start of a message, and patterns are not run over it.
    head = line[:2_000]
    found = next((match for pattern in _STARTS if (match := pattern.match(head))), None)
    return None if found is None or _LEVEL.match(found["speaker"]) else found
