"""ideas: what chat exports hold of ideas, tasks, decisions, open questions and code."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cortex_pipelines.evidence import evidence_of
from cortex_pipelines.planning.products import Made, Row, identifier, keep, resolved
from cortex_pipelines.stairs import Outcome, Verdict, Work

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

VERSION = "2"
INPUTS = ("documents", "messages")
# What people say when they mean it, the surest first; a sentence is of one kind.
_CUES = (
    ("question", re.compile(r"(?i)\b(?:open (?:question|point|issue)|still (?:open|unclear|undecided))\b")),
    (
        "decision",
        re.compile(
            r"(?i)\b(?:we(?:'ve| have)? (?:decided|agreed|settled)|decision:|decided:|let'?s go with|we go with)"
        ),
    ),
    (
        "task",
        re.compile(
            r"(?i)\bTODO\b|\b(?:action item|please|can you|could you)\b|^\s*[-*] \[ \]"
            r"|\bsomebody (?:has|needs) to\b"
        ),
    ),
    (
        "idea",
        re.compile(
            r"(?i)\b(?:what if|idea:|how about|why not|we could|could we|maybe we|i (?:suggest|propose)"
            r"|it would be (?:nice|good|great))\b"
        ),
    ),
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z@\"'])")
_CODE = re.compile(r"^[ \t]*```[ \t]*(?P<language>[^\n]*)\n(?P<code>.*?)^[ \t]*```", re.M | re.S)
# What a program printed in a chat with a model: nobody wrote it.
OUTPUT = "output"
TEXT_CHARACTERS = 500
# So many documents are held at once.
DOCUMENTS = 100


def build_ideas(work: Work) -> Outcome:
    """Find what chats hold, and publish what stands where it says."""
    return keep(work, "ideas", "ideas", VERSION, INPUTS, _make)


def _make(snapshot: "Snapshot") -> Made:
    rows: list[Row] = []
    chats: dict[str, list[Row]] = defaultdict(list)
    for message in snapshot.rows("messages", ["source", "number", "speaker", "time", "text", "line_start", "line_end"]):
        chats[message["source"]].append(message)
    sources = sorted(chats)
    for first in range(0, len(sources), DOCUMENTS):
        texts = snapshot.texts(sources[first : first + DOCUMENTS])
        for source in sorted(texts):
            lines = texts[source].split("\n")
            for message in sorted(chats[source], key=lambda row: row["number"]):
                rows += _ideas(source, lines, message)
    unique = list({row["idea_id"]: row for row in rows}.values())
    claims = {row["idea_id"]: evidence_of(row) for row in unique}
    held = resolved(snapshot, list(claims.values()))
    kept = [row for row in unique if claims[row["idea_id"]] in held]
    kinds = Counter(row["kind"] for row in kept)
    dropped = len(unique) - len(kept)
    return Made(
        kept,
        {"chats": len(chats), **{f"{kind}s": kinds[kind] for kind, _ in _CUES if kinds[kind]}, "code": kinds["code"]},
        {
            "evidence_resolves": Verdict(
                all(claims[row["idea_id"]] in held for row in kept), metadata={"dropped": dropped}
            )
        },
    )


def _ideas(source: str, lines: list[str], message: Row) -> Iterator[Row]:
    """What one message holds: its blocks of code, then its sentences."""
    for block in _CODE.finditer(message["text"]):
        quote = block["code"].rstrip("\n")
        if quote.strip() and block["language"].strip() != OUTPUT:
            yield _row("code", quote, source, lines, message, quote)
    for line in _CODE.sub("", message["text"]).split("\n"):
        for sentence in _SENTENCE.split(line.strip()):
            kind = next((kind for kind, cue in _CUES if cue.search(sentence)), None)
            if kind:
                yield _row(kind, sentence[:TEXT_CHARACTERS], source, lines, message, sentence)


def _row(kind: str, text: str, source: str, lines: list[str], message: Row, quote: str) -> Row:
    first, last = message["line_start"], message["line_end"]
    height = quote.count("\n")
    for number in range(first, last - height + 1):
        if quote in "\n".join(lines[number - 1 : number + height]):
            first, last = number, number + height
            break
    return {
        "idea_id": identifier(source, kind, quote),
        "kind": kind,
        "text": text,
        "speaker": message["speaker"],
        "time": message["time"],
        "source": source,
        "line_start": first,
        "line_end": last,
        "quote": quote,
        "version": VERSION,
    }
