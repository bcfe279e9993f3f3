"""Transcripts: messages read from the lines of a text, and written as lines that are read back alike."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from cortex_pipelines.ingest.chats.fields import one_line, plain
from cortex_pipelines.ingest.parsing import Heading

# What two people say once may be prose.
FEWEST_MESSAGES = 3
MESSAGE_CHARACTERS = 20_000
# A transcript holds every message; more than these are no rows of their own, since each costs some 400 bytes.
MESSAGES = 250_000
SPEAKER_CHARACTERS = 80
TIME_CHARACTERS = 40
NO_TIME = "no time"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; lines are 1-based and inclusive, `time` is ISO 8601 where the source tells a point in time.

    `thread` is the conversation or channel, `number` the place in the document, `parent` the number of an earlier
    message that this one answers.
    """

    speaker: str
    time: str
    text: str
    line_start: int
    line_end: int
    thread: str = ""
    number: int = 0
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What an export tells of a message; `answers` is the key of another one."""

    speaker: str
    time: str
    text: str
    thread: str
    key: str = ""
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Messages as Markdown."""

    text: str
    headings: tuple[Heading, ...]
    messages: tuple[Message, ...]
    count: int


_DATE = r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:\s?[AaPp]\.?\s?[Mm]\.?)?"
_TIME = rf"{_DATE}(?:T|,?\s{{1,3}}){_CLOCK}(?:Z|[+-]\d{{2}}:?\d{{2}})?"
_NAME = r"(?:[^\W\d_]|~\s?|\+(?=\d))[\w .'@()+-]{0,39}"
# WhatsApp puts marks of direction before its lines.
_MARKS = "[\u200e\u200f\ufeff]*"
# "**Ana** (2026-03-02 10:14): ...", "Ana [10:14 AM]", with what is said behind or below
_NAMED = re.compile(
    rf"{_MARKS}\**(?P<speaker>{_NAME}?)\**\s{{0,3}}[(\[](?P<time>{_TIME}|{_CLOCK})[)\]]\s{{0,3}}:?\**\s{{0,3}}"
)
# "[2026-03-02 10:14] Ana: ...", "2.3.26, 10:14 - Ana: ..."
_TIMED = re.compile(
    rf"{_MARKS}[(\[]?(?P<time>{_TIME})[)\]]?\s{{0,3}}[-\u2013]?\s{{0,3}}\**(?P<speaker>{_NAME}?)\**:\**(?:\s{{1,3}}|$)"
)
# "12/03/24, 10:14 - Ana added Jo": nobody's message, and the end of the one before.
_NOTICE = re.compile(rf"{_MARKS}(?:\[{_TIME}\]|{_TIME}\s?[-\u2013])\s")
_ASKS = ("You", "User", "Human", "Me", "Prompt")
_ANSWERS = ("Assistant", "ChatGPT", "Claude", "Gemini", "Bard", "Copilot", "Response")
_ROLE = rf"(?P<speaker>{'|'.join((*_ASKS, *_ANSWERS, 'System', 'Tool'))})(?: said)?"
# "## User" with what is said below, "**User:** ...", "User: ...": how chats with a model are saved without times
_ROLES = re.compile(
    rf"(?:#{{1,6}} +[*_]{{0,3}}{_ROLE}:?[*_]{{0,3}}:?[ \t]*$"
    rf"|[*_]{{0,3}}{_ROLE.replace('speaker', 'role')}[*_]{{0,3}}:[*_]{{0,3}}(?:[ \t]+|$))"
)
_CLOCKS = re.compile(r"\d:\d\d")
_ROLE_LINES = re.compile(rf"^(?:#{{1,6}} +)?[*_]{{0,3}}(?:{'|'.join((*_ASKS, *_ANSWERS))})\b", re.M)
# A log's lines begin alike.
_LEVEL = re.compile(r"(?i)(?:trace|debug|info|notice|warn(?:ing)?|err(?:or)?|fatal|critical|severe)\b")
_HEADING = re.compile(r"#{1,2} +(?P<text>\S.*)")
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>.*)")
# How `render` begins a document and a message; nothing else in such a document is the start of one.
_RENDERED = re.compile(r"# [\w ]{1,40} export\n\n## ")
_MESSAGE = rf"\*\*(?P<speaker>[^*\n]{{1,100}})\*\* \((?P<time>{NO_TIME}|(?=[^()\n]*\d)[^()\n]{{1,60}})\):(?: |$)"
_WRITTEN = re.compile(_MESSAGE)
_LIKE_WRITTEN = re.compile(rf"^(?={_MESSAGE})", re.M)
# A line that long is no start of a message, and patterns are not run over it.
_HEAD_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class _Start:
    line: int
    speaker: str
    time: str
    behind: int


def parse_chat(text: str) -> tuple[Message, ...]:
    """The messages of a text that is a chat; none when it is none.

    A chat is written in one form: the first that enough lines have. What looks like another form is text.
    """
    if _RENDERED.match(text):
        lines = text.split("\n")
        return tuple(_messages(lines, _written_starts(lines), set()))
    # Patterns are run over every line only where enough lines might be starts.
    timed = _times(_CLOCKS, text, FEWEST_MESSAGES)
    asked = _times(_ROLE_LINES, text, FEWEST_MESSAGES)
    if not (timed or asked):
        return ()
    lines = text.split("\n")
    forms = [(_role_starts(lines), False)] if asked else []
    if timed:
        forms += [(_loose_starts(lines, _NAMED), False), (_loose_starts(lines, _TIMED), True)]
    enough = [form for form in forms if len(form[0]) >= FEWEST_MESSAGES]
    if not enough:
        return ()
    starts, noticed = min(enough, key=lambda form: form[0][0].line)
    return tuple(_messages(lines, starts, _notices(lines, starts) if noticed else set()))


def render(source: str, said: Iterable[Said]) -> Transcript:
    """Messages as a Markdown transcript that `parse_chat` reads back, answers aside."""
    pieces = [f"# {source} export\n"]
    headings = [Heading(1, f"{source} export", 1)]
    messages: list[Message] = []
    numbers: dict[str, int] = {}
    thread, line, number = None, 2, 0
    for item in said:
        words = _laid_out(item.text)
        if not words:
            continue
        if item.thread != thread:
            thread = item.thread
            title = one_line(thread) or "Untitled"
            headings.append(Heading(2, title, line + 1))
            pieces.append(f"\n## {title}\n")
            line += 2
        number += 1
        speaker = one_line(item.speaker.replace("*", ""), SPEAKER_CHARACTERS) or "unknown"
        time = one_line(re.sub(r"[()]", " ", item.time), TIME_CHARACTERS)
        time = time if re.search(r"\d", time) else ""
        height = words.count("\n")
        # What has lines stands below its speaker, so that Markdown sees fences, lists and tables begin a line.
        begun = f"\n**{speaker}** ({time or NO_TIME}):"
        # A short message is one string with its begin, a long one is held once with that of its row.
        pieces += [f"{begun} {words}\n"] if not height else [begun, "\n", words, "\n"]
        if number <= MESSAGES:
            end = line + 1 + (height + 1 if height else 0)
            parent = numbers.get(item.answers) if item.answers else None
            messages.append(
                Message(speaker, time, words[:MESSAGE_CHARACTERS], line + 1, end, headings[-1].text, number, parent)
            )
            if item.key:
                numbers.setdefault(item.key, number)
        line += 2 + (height + 1 if height else 0)
    return Transcript("".join(pieces), tuple(headings), tuple(messages), number)


def fenced(code: str, language: str = "") -> str:
    """Code as a fenced block, whatever fences it holds itself."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", code)), 3)
    return f"{fence}{re.sub(r'[^A-Za-z0-9+#._-]', '', language)[:30]}\n{code.rstrip()}\n{fence}"


def _laid_out(text: str) -> str:
    """A message's text as it stands in a transcript: no line of it is taken for another message or a thread."""
    text = re.sub(r"\A(?:[^\S\n]*\n)+", "", plain(text)).rstrip()
    text = _closed(text)
    if "\n" not in text:
        return text.strip()
    text = _LIKE_WRITTEN.sub(r"\\", text)
    before, _, last = text.rpartition("\n")
    return f"{before}\n\\{last}" if _HEADING.match(last) else text


def _closed(text: str) -> str:
    """Text with its last fence closed, so that what follows is not code."""
    if "```" not in text and "~~~" not in text:
        return text
    fence = _open_fence(text.split("\n"))
    return f"{text}\n{fence}" if fence else text


def _open_fence(lines: Iterable[str]) -> str:
    fence = ""
    for line in lines:
        fence = _fence_after(line, fence)
    return fence


def _fence_after(line: str, fence: str) -> str:
    """The fence that is open after a line, given the one that was before it."""
    match = _FENCE.match(line)
    if match is None:
        return fence
    run = match["fence"]
    if not fence:
        return "" if run[0] == "`" and "`" in match["info"] else run
    closes = run[0] == fence[0] and len(run) >= len(fence) and not match["info"].strip()
    return "" if closes else fence


def _written_starts(lines: list[str]) -> list[_Start]:
    return [
        _Start(number, match["speaker"], "" if match["time"] == NO_TIME else match["time"], match.end())
        for number, line in enumerate(lines)
        if line.startswith("**") and (match := _WRITTEN.match(line[:_HEAD_CHARACTERS]))
    ]


def _loose_starts(lines: list[str], pattern: re.Pattern[str]) -> list[_Start]:
    return [
        _Start(number, match["speaker"].strip(" *~"), match["time"], match.end())
        for number, line in enumerate(lines)
        if (match := pattern.match(line[:_HEAD_CHARACTERS])) and not _LEVEL.match(match["speaker"])
    ]


def _times(pattern: re.Pattern[str], text: str, fewest: int) -> bool:
    return sum(1 for _ in islice(pattern.finditer(text), fewest)) == fewest


def _role_starts(lines: list[str]) -> list[_Start]:
    """Starts that tell a role only, if people ask and a model answers: a heading `User` alone may be anything."""
    starts, fence = [], ""
    for number, line in enumerate(lines):
        head = line[:_HEAD_CHARACTERS]
        if not fence and (match := _ROLES.match(head)):
            starts.append(_Start(number, match["speaker"] or match["role"], "", match.end()))
        fence = _fence_after(head, fence)
    speakers = [start.speaker for start in starts]
    asked, answered = (sum(speaker in roles for speaker in speakers) for roles in (_ASKS, _ANSWERS))
    return starts if asked >= 2 and answered else []


def _notices(lines: list[str], starts: list[_Start]) -> set[int]:
    begun = {start.line for start in starts}
    return {
        number for number, line in enumerate(lines) if number not in begun and _NOTICE.match(line[:_HEAD_CHARACTERS])
    }


def _messages(lines: list[str], starts: list[_Start], notices: set[int]) -> Iterator[Message]:
    thread = ""
    above = 0
    for number, start in enumerate(starts[:MESSAGES], 1):
        _, heading = _above(lines, above, start.line)
        thread = thread if heading is None else heading
        below = starts[number].line if number < len(starts) else len(lines)
        end = below if number == len(starts) else _above(lines, start.line + 1, below)[0]
        if notices:
            end = next((line for line in range(start.line + 1, end) if line in notices), end)
        said = [lines[start.line][start.behind :], *lines[start.line + 1 : end]]
        while len(said) > 1 and not said[-1].strip():
            said.pop()
        last = start.line + len(said)
        while len(said) > 1 and not said[0].strip():
            said.pop(0)
        text = "\n".join(said)[:MESSAGE_CHARACTERS]
        yield Message(start.speaker, start.time, text, start.line + 1, last, thread, number)
        above = start.line + 1


def _above(lines: list[str], first: int, start: int) -> tuple[int, str | None]:
    """Where what stands above a message ends, and the heading right above it, if there is one."""
    line = start - 1
    while line >= first and not lines[line].strip():
        line -= 1
    match = _HEADING.match(lines[line]) if line >= first else None
    return (line, match["text"].strip()) if match else (start, None)
