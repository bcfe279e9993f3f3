"""Mutated files of every format behind the worker: each is read or refused in one line, and the run goes on.

FUZZ_FILES says how many: some hundred in every run, ten thousand now and then.
"""

import os
import random
import time

import pytest

from cortex_pipelines.ingest.parsing import Unreadable
from cortex_pipelines.ingest.reader import DocumentReader
from tests.ingest.formats import making

FILES = int(os.environ.get("FUZZ_FILES", "600"))
SEED = int(os.environ.get("FUZZ_SEED", "5"))
# Of one file, on a machine that is busy.
SECONDS = 40


ZIPPED = {
    "a.docx": making.docx(),
    "a.odt": making.odf("text", making.ODT_BODY),
    "a.odp": making.odf("presentation", making.ODP_BODY),
    "a.ods": making.odf("spreadsheet", making.ODS_BODY),
    "a.xlsx": making.xlsx(),
    "a.pptx": making.pptx(),
    "a.epub": making.epub(),
}
OTHERS = {
    "a.rtf": making.RTF,
    "a.eml": making.eml(),
    "a.mbox": making.mbox(),
    "a.msg": making.msg(),
    "a.pdf": making.pdf(),
    "a.ipynb": making.notebook(),
    "a.html": b"<html><h1>A</h1><p>b <a href='c'>d</a><ul><li>e</ul><table><tr><td>f<td>g</table><pre>h</pre></html>",
    "a.md": b"---\ntitle: x\n---\n# A\n\n- b\n\n> c\n> ---\n\n```\nd\n```\n\n| e | f |\n|---|---|\n",
    "a.rst": b"A\n===\n\nb\n---\n\n.. c:: d\n",
    "a.adoc": b"= A\n\n----\n== b\n----\n\n== C\n",
    "a.tex": b"\\documentclass{a}\\title{T}\n\\section{A}\n\\begin{verbatim}\n\\end{verbatim}\n",
    "a.csv": b"author,date,text\nAna,2026-03-02 10:00,hello\nBo,2026-03-02 10:01,bye\n",
    "conversations.json": b'[{"mapping": {"a": {"id": "a", "message": {"author": {"role": "user"}, "content": {"parts": ["x"]}}}}}]',  # noqa: E501
    "a.srt": b"1\n00:00:01,000 --> 00:00:02,000\nx\n",
    "a.txt": "[2026-03-02 10:10] Ana: \u00e4\n".encode("utf-16") * 4,
}
FILES_OF_ALL = {**ZIPPED, **OTHERS}
NAMES = sorted(FILES_OF_ALL)


def hostile(name, dice):
    """A file of a format with something changed: most often inside its archive, where no checksum tells."""
    other = FILES_OF_ALL[dice.choice(NAMES)]
    if name not in ZIPPED or dice.random() < 0.2:
        return mutated(FILES_OF_ALL[name], other, dice)
    members = making.unzipped(ZIPPED[name])
    for _ in range(dice.choice((1, 1, 3))):
        member = dice.choice(sorted(members))
        members[member] = mutated(members[member], dice.choice(list(members.values())), dice)
    return making.zipped(members)


def mutated(data, other, dice):
    content = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        start = dice.randrange(len(content) + 1)
        end = min(len(content), start + dice.choice((1, 2, 4, 16, 256)))
        match dice.randrange(7):
            case 0:
                content[start:end] = dice.randbytes(end - start)
            case 1:
                del content[start:end]
            case 2:
                content[start:start] = content[start:end] * dice.choice((1, 2, 100))
            case 3:
                content[start:start] = other[dice.randrange(len(other)) :][: dice.choice((8, 64, 1_024))]
            case 4:
                content[start:end] = dice.choice((b"\0", b"\xff", b"9", b"<", b'"', b"{", b"&", b"\n")) * (end - start)
            case 5 if start < len(content):
                content[start] ^= 1 << dice.randrange(8)
            case _:
                del content[max(start, len(content) // 2) :]
        content = content or bytearray(b"x")
    return bytes(content)


@pytest.mark.timeout(0 if FILES > 1_000 else 300)
def test_mutated_files_never_break_the_run():
    dice = random.Random(SEED)
    read = refused = 0
    reasons: dict[str, int] = {}
    with DocumentReader() as reader:
        for number in range(FILES):
            name = NAMES[number % len(NAMES)]
            data = hostile(name, dice)
            began = time.monotonic()
            try:
                parsed = reader.parse(name, data)
            except Unreadable as error:
                reason = str(error)
                assert reason, (name, number)
                assert "\n" not in reason, (name, number)
                reasons[reason[:60]] = reasons.get(reason[:60], 0) + 1
                refused += 1
            else:
                lines = parsed.text.split("\n")
                assert all(1 <= heading.line <= len(lines) for heading in parsed.headings), (name, number)
                assert all(1 <= page.line <= len(lines) for page in parsed.pages), (name, number)
                assert all(1 <= said.line_start <= said.line_end <= len(lines) for said in parsed.messages), (
                    name,
                    number,
                )
                read += 1
            assert time.monotonic() - began < SECONDS, (name, number)
        assert reader.parse("next.html", b"<html><p>Hello</p></html>").text == "Hello\n"
    print(f"{read} read, {refused} refused: {sorted(reasons.items(), key=lambda item: -item[1])}")
    assert read > FILES / 10
    assert refused > FILES / 10
