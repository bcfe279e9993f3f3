"""Requirements of specifications: labelled items, and sentences that say must, shall or should."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cortex_pipelines.evidence import Evidence
from cortex_pipelines.ingest.documents import Document
from cortex_pipelines.ingest.formats.markup import markdown_headings, rst_headings
from cortex_pipelines.ingest.parsing import Heading
from cortex_pipelines.planning.products import identifier

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

# What people call a document that requires something; `requirements.txt` is a list of packages.
_NAMED = re.compile(
    r"(?i)(?<![a-z])(prd|srs|specs?|specification|requirements?|tickets?|backlog|user[-_ ]stor(?:y|ies)|rfc|features?)"
    r"(?![a-z])"
)
_PROSE = (".md", ".markdown", ".rst", ".adoc")
_LABEL = re.compile(
    r"^[*_`\[(]*([A-Z][A-Z0-9]{0,9}(?:[-.][A-Z]{1,6})?[-.]\d+(?:\.\d+)*)\b[\])*_`]*[:.)]?\s*[-\u2013\u2014]?\s*"
)
_ITEM = re.compile(r"^(\s*)(?:[-*+•]|\d{1,3}[.)]|\([a-z0-9]\))\s+(?:\[[ xX]\]\s+)?")
_ACCEPTANCE = re.compile(r"(?i)^[*_]*(acceptance( criteria)?|verification|given|when|then|test)\b")
_FENCE = re.compile(r"^\s*(```|~~~)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'*])")
# RFC 2119's words, and how people say the same.
_MUST = re.compile(
    r"(?i)\b(must|shall|(?:is|are) (?:required|mandatory|obliged)|has to|have to|needs? to|may not|can ?not)\b"
)
_SHOULD = re.compile(r"(?i)\b(should|ought to|(?:is|are) recommended)\b")
_MAY = re.compile(r"(?i)\b(may|could|can|optional(?:ly)?|nice to have)\b")
MODAL = re.compile(f"{_MUST.pattern}|{_SHOULD.pattern.removeprefix('(?i)')}", re.I)
NUMBER = re.compile(r"(?<![\w.])(?<!\w-)\d+(?:\.\d+)?")
PROHIBITION = re.compile(r"(?i)\b(?:must|shall|should|may|can)(?:not| not| never)\b|n't\b")
# ISO/IEC/IEEE 29148:2018, 5.2.7: terms that make a requirement one that cannot be verified.
_VAGUE = re.compile(
    r"(?i)\b(fast|quick(?:ly)?|easy|easily|simple|user[- ]friendly|intuitive|robust|flexible|efficient(?:ly)?|modern"
    r"|reasonable|appropriate|adequate|sufficient|as (?:much|little|soon|far) as possible|if possible|state of the art"
    r"|seamless(?:ly)?|scalable|performant|best|minimal|significant|usually|often|etc\.?|and so on)\b"
)
# Sections that say what is not required, or not yet.
_LEFT_OUT = re.compile(
    r"(?i)\b(non[- ]?goals?|out of scope|not in scope|won'?t|open (?:points?|questions?|issues?)|glossary|definitions?"
    r"|changelog|change log|references|assumptions)\b"
)

LABEL_CHARACTERS = 80
# A statement longer than this is prose that happens to say "must".
STATEMENT_CHARACTERS = 800


@dataclass(frozen=True)
class Requirement:
    """What a specification asks for. `explicit` is whether the document itself gave it its label."""

    requirement_id: str
    label: str
    statement: str
    strength: str
    section: str
    explicit: bool
    evidence: Evidence
    acceptance: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A paragraph, an item of a list or a row of a table, with its 1-based first line and the headings above it."""

    line: int
    lines: tuple[str, ...]
    section: tuple[str, ...]
    indent: int
    item: bool

    @property
    def text(self) -> str:
        """The block as one line, without the mark of its item."""
        first = _ITEM.sub("", self.lines[0]) if self.item else self.lines[0]
        return " ".join(" ".join((first, *self.lines[1:])).strip().strip("|").split())

    def evidence(self, source: str, page: int | None = None) -> Evidence:
        """The block as it stands in its source."""
        return Evidence(source, self.line, self.line + len(self.lines) - 1, "\n".join(self.lines), page)


def specifications(snapshot: "Snapshot") -> Iterator[Document]:
    """The documents that require something, and specifications that lie in repositories."""
    for row in snapshot.rows("documents"):
        document = Document.from_row(row)
        if document.path.endswith(".log"):
            continue
        if _NAMED.search(document.path) or _NAMED.search(document.title) or _labels(document):
            yield document
    paths = [
        row["source"]
        for row in snapshot.rows("files", ["source", "path", "skipped"])
        if row["skipped"] is None and row["path"].lower().endswith(_PROSE) and _NAMED.search(row["path"])
    ]
    for source, text in sorted(snapshot.texts(paths).items()) if paths else ():
        read = rst_headings if source.endswith(".rst") else markdown_headings
        yield Document(source, "text/plain", source, text, read(text), (), "", len(text))


def find_requirements(documents: Iterable[Document]) -> list[Requirement]:
    """Every requirement of some specifications, in order; one that is said twice in a document counts once."""
    found: dict[str, Requirement] = {}
    for document in documents:
        for requirement in _requirements(document):
            name = requirement.requirement_id
            if name in found and found[name].statement != requirement.statement:
                # A label that two requirements bear.
                name = identifier(name, requirement.statement)
            found.setdefault(name, replace(requirement, requirement_id=name))
    return list(found.values())


def vague_terms(statement: str) -> list[str]:
    """The words that keep a statement from being verified; none where a number says what is meant."""
    found = () if NUMBER.search(statement) else _VAGUE.findall(statement)
    return list(dict.fromkeys(term.lower() for term in found))


def blocks(text: str, headings: Sequence[Heading]) -> Iterator[Block]:
    """The paragraphs, items and rows of a text, those of code blocks left out."""
    titles = {heading.line: heading for heading in headings}
    section: list[Heading] = []
    held: list[str] = []
    start, fenced = 0, False

    def block() -> Iterator[Block]:
        if held:
            mark = _ITEM.match(held[0])
            indent = len(mark.group(1)) if mark else len(held[0]) - len(held[0].lstrip())
            yield Block(start, tuple(held), tuple(heading.text for heading in section), indent, mark is not None)

    for number, line in enumerate(text.split("\n"), 1):
        fence = _FENCE.match(line) is not None
        if number in titles or not line.strip() or fence or fenced:
            yield from block()
            held = []
            if number in titles:
                heading = titles[number]
                section = [*(above for above in section if above.level < heading.level), heading]
            fenced = fenced != fence
        elif held and not _ITEM.match(line) and not line.lstrip().startswith("|") and not _LABEL.match(line.strip()):
            held.append(line)
        else:
            yield from block()
            held, start = [line], number
    yield from block()


def _labels(document: Document) -> bool:
    """Whether a document of another name has requirements with labels of their own."""
    return any(
        _LABEL.match(_ITEM.sub("", line).strip()) and _modal(line) for line in document.text.split("\n", 2_000)[:2_000]
    )


def _requirements(document: Document) -> Iterator[Requirement]:
    last: Requirement | None = None
    last_indent = 0
    for block in blocks(document.text, document.headings):
        if any(_LEFT_OUT.search(title) for title in block.section):
            continue
        text = block.text
        if last and block.item and (block.indent > last_indent or _ACCEPTANCE.match(text)):
            last = _with_acceptance(last, text)
            continue
        if last:
            yield last
        last = None
        label = _LABEL.match(text)
        if label:
            statement = text[label.end() :].strip(" |*")
            if statement and len(statement) <= STATEMENT_CHARACTERS:
                last = _requirement(document, block, statement, label.group(1), _modal(statement) or "must")
                last_indent = block.indent
            continue
        sentences = [
            (sentence, _modal(sentence)) for sentence in _SENTENCE.split(text) if len(sentence) <= STATEMENT_CHARACTERS
        ]
        required = [(sentence, strength) for sentence, strength in sentences if strength in ("must", "should")]
        for sentence, strength in required[:-1]:
            yield _requirement(document, block, sentence, "", strength or "must")
        if required:
            sentence, strength = required[-1]
            last, last_indent = _requirement(document, block, sentence, "", strength or "must"), block.indent
    if last:
        yield last


def _modal(text: str) -> str | None:
    for strength, pattern in (("must", _MUST), ("should", _SHOULD), ("may", _MAY)):
        if pattern.search(text):
            return strength
    return None


def _requirement(document: Document, block: Block, statement: str, label: str, strength: str) -> Requirement:
    page = next((page.number for page in reversed(document.pages) if page.line <= block.line), None)
    shown = label or statement[:LABEL_CHARACTERS].rstrip(" .")
    name = identifier(document.path, label or " ".join(statement.lower().split()))
    section = " > ".join(block.section)
    return Requirement(name, shown, statement, strength, section, bool(label), block.evidence(document.path, page))


def _with_acceptance(requirement: Requirement, text: str) -> Requirement:
    return replace(requirement, acceptance=(*requirement.acceptance, text))
