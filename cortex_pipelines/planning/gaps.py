"""gap_report: every requirement against what the code holds, decided on words, names, numbers and unfinished places.

No method tells requirements from code well: what is in between is `unknown`, not a guess.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cortex_pipelines.evidence import Evidence, dump
from cortex_pipelines.ingest.languages import is_test
from cortex_pipelines.planning.products import Made, Row, keep, resolved
from cortex_pipelines.planning.requirements import (
    MODAL,
    NUMBER,
    PROHIBITION,
    Requirement,
    find_requirements,
    specifications,
    vague_terms,
)
from cortex_pipelines.retrieval.search import search_words
from cortex_pipelines.retrieval.words import stems
from cortex_pipelines.stairs import Outcome, Verdict, Work

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

VERSION = "1"
INPUTS = ("documents", "files", "chunks", "symbols")

# A word counts by how few passages of code have it; beyond this many it says nothing.
MOST_PASSAGES = 50
CANDIDATES = 12
# What is looked at of a passage: its vector is not.
_PASSAGE = ("chunk_id", "source", "line_start", "line_end", "text")
# The share of a requirement's words, each weighted by its rarity, that one place in the code has to hold. Set on the
# sample project's labelled requirements (tests/planning), with room on both sides; between the two nothing is claimed.
IMPLEMENTED = 0.62
ABSENT = 0.42
# A place with a number that contradicts the required one, or an unfinished one, shows that somebody began. What
# defines a thing that the requirement names needs less.
BEGUN = 0.5
BEGUN_WHERE_NAMED = 0.25
# More weight than this in words that no code has: whatever comes near is about something else.
NOWHERE = 0.55
# Who does it says less than what is done: the words before "must".
SUBJECT = 0.5
NOTED_WORDS = 6
FILES_NAMED = 5
QUOTE_LINES = 6

# What is done to a thing says less of which thing it is; code calls the same by other words.
_COMMON = frozenset(
    stems(
        "system service application user allow support provide ensure handle able accept answer give show display"
        " contain include carry make keep send receive use export import create build add upload store project"
        " reject refuse drop request response number more most less least larger smaller greater longer than within"
        " after before only never ever one two three apart exactly"
    )
)
_QUANTITY = re.compile(r"(?<![\w.])(?<!\w-)(\d+(?:\.\d+)?)\s*(%|[A-Za-z]{2,})?")
_CONSTANT = re.compile(
    r"^[ \t]*(?:export\s+)?(?:const|let|var|final|static)?\s*([A-Za-z_]\w*)\s*(?::[^=\n]+)?=\s*(\d+)\b", re.M
)
_UNFINISHED = re.compile(
    r"(?i)\b(?:TODO|FIXME|XXX)\b|not[ _]?implemented|unimplemented!|\btodo!\(|^\s*pass\s*(?:#.*)?$|not supported yet",
    re.M,
)
_QUOTED = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Place:
    """A passage of code that may be what a requirement asks for."""

    source: str
    line_start: int
    text: str
    head: str
    """Lines with its file's constants."""
    named: bool
    """Whether it defines something that the requirement names."""

    @cached_property
    def words(self) -> frozenset[str]:
        """Stems of its words, of the parts of its names, and of its path."""
        return _bag(f"{self.source} {self.head} {self.text}")

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Every number it writes."""
        return frozenset(NUMBER.findall(f"{self.head}\n{self.text}".replace("_", "")))


@dataclass(frozen=True)
class Judged:
    """What was decided of a requirement, and on what."""

    status: str
    confidence: float
    notes: str
    places: tuple[Place, ...] = ()
    evidence: tuple[Evidence, ...] = ()


def build_gap_report(work: Work) -> Outcome:
    """Judge every requirement of the project's specifications, and publish it where all are judged."""
    return keep(work, "gap_report", "gaps", VERSION, INPUTS, _make)


def _make(snapshot: "Snapshot") -> Made:
    requirements = find_requirements(specifications(snapshot))
    code = Code(snapshot)
    judged = [(requirement, judge(requirement, code)) for requirement in requirements]
    own = [requirement.evidence for requirement, _ in judged]
    claims = [*own, *(claim for _, verdict in judged for claim in verdict.evidence)]
    held = resolved(snapshot, claims)
    rows = [_row(requirement, verdict, held) for requirement, verdict in judged]
    dropped = len(set(claims) - held)
    counts = Counter(row["status"] for row in rows)
    return Made(
        rows,
        {"requirements": len(rows), **dict(sorted(counts.items())), "dropped_evidence": dropped},
        {
            "covers_every_requirement": Verdict(
                len({row["requirement_id"] for row in rows}) == len(requirements), metadata={"found": len(requirements)}
            ),
            "evidence_resolves": Verdict(set(own) <= held, metadata={"dropped": dropped}),
        },
    )


class Code:
    """The code of a project's repositories as a requirement is looked for in it."""

    def __init__(self, snapshot: "Snapshot") -> None:
        self._snapshot = snapshot
        self._passages: dict[str, int] = {}
        self._heads: dict[str, str] = {}
        self.there = snapshot.count("chunks", {"kind": "code"}) > 0
        named: dict[str, list[Row]] = {}
        for row in snapshot.rows("symbols", ["name", "source", "line_start", "line_end"]):
            named.setdefault(_squeezed(row["name"]), []).append(row)
        self._named = named

    def weight(self, stem: str, word: str) -> float:
        """How much a word tells: by its rarity among passages of code, less when it is what any code does."""
        if word not in self._passages:
            found = self._snapshot.search_text("chunks", word, MOST_PASSAGES, {"kind": "code"})
            self._passages[word] = len(found)
        weight = math.log(1 + MOST_PASSAGES / (self._passages[word] + 0.5))
        return weight * (0.3 if stem in _COMMON else 1.0)

    def absent(self, word: str) -> bool:
        """Whether no passage of code has a word."""
        return self._passages.get(word) == 0

    def places(self, statement: str) -> Iterator[Place]:
        """Passages that may fit: those with the most of its words, and those that define what it names."""
        named = {row["chunk_id"]: row for row in self._definitions(statement)}
        found = self._snapshot.search_text("chunks", search_words(statement), CANDIDATES, {"kind": "code"})
        for chunk, row in {**named, **{row["chunk_id"]: row for row in found}}.items():
            yield Place(row["source"], row["line_start"], row["text"], self._head(row), chunk in named)

    def _definitions(self, statement: str) -> Iterator[Row]:
        for name in named_things(statement):
            for symbol in self._named.get(name, ())[:3]:
                for row in self._snapshot.rows("chunks", _PASSAGE, {"source": symbol["source"]}):
                    if row["line_start"] <= symbol["line_end"] and symbol["line_start"] <= row["line_end"]:
                        yield row

    def _head(self, row: Row) -> str:
        """The constants of a passage's file: what a function compares with is often written there."""
        source = row["source"]
        if source not in self._heads:
            text = self._snapshot.texts([source]).get(source, "")
            self._heads[source] = "\n".join(match.group(0).strip() for match in _CONSTANT.finditer(text[:20_000]))
        return self._heads[source]


def named_things(statement: str) -> list[str]:
    """Names a statement may mean, squeezed: quoted ones, and two or three of its words in a row."""
    quoted = [_squeezed(name) for name in _QUOTED.findall(statement)]
    words = [word.lower() for word in re.findall(r"\w+", statement)]
    joined = ["".join(words[n : n + size]) for size in (3, 2) for n in range(len(words) - size + 1)]
    return list(dict.fromkeys(quoted + joined))


def judge(requirement: Requirement, code: Code) -> Judged:
    """The status of a requirement by the best place that the code has for it."""
    if not code.there:
        return Judged("unknown", 0.0, "There is no code in this project to look at.")
    statement = requirement.statement.replace("e-mail", "email")
    words = _words(statement)
    if vague := vague_terms(statement):
        return Judged("unknown", 0.3, f"Nothing in code can show it: {', '.join(vague)}. Say how it is measured.")
    modal = MODAL.search(statement)
    subject = _words(statement[: modal.start()]) if modal else {}
    weights = {stem: code.weight(stem, word) * (SUBJECT if stem in subject else 1.0) for stem, word in words.items()}
    total = sum(weights.values())
    numbers = [number for number, _ in _QUANTITY.findall(statement)]
    if total == 0 or len(words) < 2:
        return Judged("unknown", 0.2, "It has too few words to look for.")
    scored = sorted(
        ((_covered(place, weights, numbers) / (total + len(numbers)), place) for place in code.places(statement)),
        key=lambda item: (-item[0], is_test(item[1].source), item[1].source, item[1].line_start),
    )
    tests = [place for score, place in scored if is_test(place.source) and score >= ABSENT]
    built = [(score, place) for score, place in scored if not is_test(place.source)]
    best = built[0][0] if built else 0.0
    near = tuple(place for score, place in built if score >= max(ABSENT, best - 0.15))[:3]
    missing = [word for stem, word in words.items() if code.absent(word) and stem not in _COMMON]
    for score, place in built:
        enough = BEGUN_WHERE_NAMED if place.named else BEGUN
        if score >= enough and (begun := _begun(place, statement, weights)):
            note, evidence = begun
            return Judged("partially_implemented", round(min(0.9, score), 2), note, (place, *near), evidence)
    nowhere_at_all = sum(weight for stem, weight in weights.items() if code.absent(words[stem])) / total
    if best < ABSENT or nowhere_at_all > NOWHERE:
        if PROHIBITION.search(statement):
            return Judged("unknown", 0.3, "It forbids something: that no place in the code does it cannot be shown.")
        absent = ", ".join(missing[:NOTED_WORDS])
        note = (
            f"No place in the code has its words; nowhere: {absent}." if absent else "No place in the code comes near."
        )
        return Judged("unmapped", round(max(1 - best, nowhere_at_all), 2), note)
    quotes = tuple(_quote(place, weights) for place in near)
    unmatched = [number for number in numbers if not any(number in place.numbers for place in near)]
    if best >= IMPLEMENTED and not unmatched:
        note = "One place has its words" + (", and its numbers" if numbers else "") + "."
        return Judged("implemented", round(min(0.95, best), 2), f"{note}{_tested(tests)}", (*near, *tests), quotes)
    why = f"the number {', '.join(unmatched)} is not there" if unmatched else "too little of it is in one place"
    nowhere = f"; nowhere in the code: {', '.join(missing[:NOTED_WORDS])}" if missing else ""
    return Judged("unknown", round(best, 2), f"Something comes near, but {why}{nowhere}.", near, quotes)


def _words(statement: str) -> dict[str, str]:
    """The words of a statement that tell something, by their stems; numbers are compared apart."""
    found: dict[str, str] = {}
    for word in re.findall(r"[A-Za-z][\w]*", search_words(statement.replace("`", " "))):
        for stem in stems(word, drop=True) if len(word) > 1 else ():
            found.setdefault(stem, word.lower())
    return found


def _bag(text: str) -> frozenset[str]:
    """The stems of the words of code, and of the parts of its names."""
    return frozenset(stems(search_words(text.replace("_", " "))))


def _covered(place: Place, weights: Mapping[str, float], numbers: Sequence[str]) -> float:
    here = sum(weight for stem, weight in weights.items() if stem in place.words)
    return here + sum(1.0 for number in numbers if number in place.numbers)


def _begun(place: Place, statement: str, weights: Mapping[str, float]) -> tuple[str, tuple[Evidence, ...]] | None:
    """Why a place is only a part of what is required, if it is: another number, or it says so itself."""
    lines = place.text.split("\n")
    for number, unit in _QUANTITY.findall(statement):
        if not unit or number in place.numbers:
            continue
        for name, value in _CONSTANT.findall(f"{place.text}\n{place.head}"):
            if stems(unit)[0] in _bag(name) and value != number:
                line = next((n for n, text in enumerate(lines) if name in text and value in text), None)
                quotes = () if line is None else (_at(place, line, line),)
                return f"The code says {name} = {value} where {number} {unit} are required.", quotes
    if unfinished := _UNFINISHED.search(place.text):
        line = place.text.count(
            "\n", 0, unfinished.start() + len(unfinished.group(0)) - len(unfinished.group(0).lstrip())
        )
        start = _enclosing(lines, line)
        # What is still to be done is not what is there.
        near = _bag(f"{place.source} {' '.join(lines[start:line])}")
        share = sum(weight for stem, weight in weights.items() if stem in near)
        if share >= BEGUN * sum(weights.values()):
            return "The place that has its words says itself that it is not finished.", (_at(place, start, line),)
    return None


def _enclosing(lines: Sequence[str], at: int) -> int:
    """The line that opens what a line lies in, by indentation."""
    indent = len(lines[at]) - len(lines[at].lstrip())
    for number in range(at - 1, -1, -1):
        text = lines[number]
        if text.strip() and len(text) - len(text.lstrip()) < indent:
            return number
    return at


def _quote(place: Place, weights: Mapping[str, float]) -> Evidence:
    """The lines of a place that have most of the words."""
    lines = place.text.split("\n")
    bags = [_bag(line) for line in lines]
    scores = [sum(weight for stem, weight in weights.items() if stem in bag) for bag in bags]
    at = scores.index(max(scores))
    end = min(len(lines), at + QUOTE_LINES) - 1
    while end > at and not lines[end].strip():
        end -= 1
    return _at(place, at, end)


def _at(place: Place, first: int, last: int) -> Evidence:
    quote = "\n".join(place.text.split("\n")[first : last + 1])
    return Evidence(place.source, place.line_start + first, place.line_start + last, quote)


def _tested(tests: Sequence[Place]) -> str:
    return f" Tests that come near: {', '.join(sorted({place.source for place in tests}))}." if tests else ""


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _row(requirement: Requirement, judged: Judged, held: frozenset[Evidence]) -> Row:
    related = list(dict.fromkeys(place.source for place in judged.places))
    return {
        "requirement_id": requirement.requirement_id,
        "label": requirement.label,
        "statement": requirement.statement,
        "strength": requirement.strength,
        "section": requirement.section,
        "source": requirement.evidence.source,
        "line_start": requirement.evidence.line_start,
        "line_end": requirement.evidence.line_end,
        "status": judged.status,
        "confidence": judged.confidence,
        "related_files": related[:FILES_NAMED],
        "evidence": dump(claim for claim in judged.evidence if claim in held),
        "notes": judged.notes,
        "version": VERSION,
    }
