"""Documents: mixed files read whole, beside the pipelines of LlamaIndex and Haystack on the same files.

    python -m benchmarks.documents [--count 10000] [--peers PYTHON] [--scale N ...] [--json]

A third of the files is Markdown; the rest are PDF, DOCX, HTML and mail, made of the documentation of Python's standard
library. PYTHON is one that has llama-index-core, llama-index-readers-file, docx2txt, haystack-ai, pypdf, python-docx,
trafilatura, lxml_html_clean, markdown-it-py and mdit_plain; without it the peers are left out, and it is said so. The
peers read and split, as `cortex_read` does; `cortex` is the product: it describes, looks for secrets and near
duplicates, and stores, but does not split.
"""

import argparse
import html
import inspect
import json
import pkgutil
import random
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from benchmarks.measuring import Cost, cortex, figures, measure, table

KINDS = ("md", "pdf", "md", "docx", "html", "eml")
# One to four pages, as notes and letters are.
PARAGRAPHS = (10, 40)
FILES_IN_A_FOLDER = 500

LLAMA_INDEX = """
import sys
from llama_index.core import SimpleDirectoryReader
from llama_index.core.node_parser import SentenceSplitter
split, count = SentenceSplitter(chunk_size=1024), 0
for documents in SimpleDirectoryReader(sys.argv[1], recursive=True).iter_data():
    count += len(split.get_nodes_from_documents(documents))
print(count)
"""
HAYSTACK = """
import sys
from pathlib import Path
from haystack.components.converters import DOCXToDocument, HTMLToDocument, MarkdownToDocument, PyPDFToDocument
from haystack.components.converters import TextFileToDocument
from haystack.components.preprocessors import DocumentCleaner, DocumentSplitter
kinds = {".md": MarkdownToDocument(progress_bar=False), ".pdf": PyPDFToDocument(), ".docx": DOCXToDocument(),
         ".html": HTMLToDocument(), ".eml": TextFileToDocument()}
clean, split, count = DocumentCleaner(), DocumentSplitter(split_by="word", split_length=200), 0
for suffix, converter in kinds.items():
    paths = sorted(Path(sys.argv[1]).rglob("*" + suffix))
    for at in range(0, len(paths), 100):
        read = converter.run(sources=paths[at:at + 100])["documents"]
        count += len(split.run(documents=clean.run(documents=read)["documents"])["documents"])
print(count)
"""


def paragraphs() -> list[str]:
    """Real prose: what the modules of the standard library say of themselves, paragraph by paragraph."""
    found: set[str] = set()
    warnings.simplefilter("ignore", DeprecationWarning)
    for module in pkgutil.iter_modules():
        if module.name in sys.stdlib_module_names and not module.name.startswith("_") and module.name not in SHOWING:
            try:
                found |= set(_said(__import__(module.name)))
            except ImportError:
                continue  # some are of other systems
    return sorted(found)


# They open a window or print when they are imported.
SHOWING = {"antigravity", "this", "idlelib", "turtle", "turtledemo"}


def _said(module: object) -> Iterator[str]:
    members = [module, *(member for _, member in inspect.getmembers(module) if inspect.isroutine(member))]
    members += [member for _, member in inspect.getmembers(module, inspect.isclass)]
    for member in members:
        for paragraph in (inspect.getdoc(member) or "").split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) > 80 and words.isascii():
                yield words


def make(folder: Path, count: int, seed: int = 5) -> int:
    """Write `count` documents; their bytes."""
    dice, said = random.Random(seed), paragraphs()
    total = 0
    for number in range(count):
        title = f"Note {number} on {dice.choice(said).split()[0]}"
        text = dice.choices(said, k=dice.randint(*PARAGRAPHS))
        place = folder / f"{number // FILES_IN_A_FOLDER:04d}"
        place.mkdir(parents=True, exist_ok=True)
        kind = KINDS[number % len(KINDS)]
        path = place / f"note-{number}.{kind}"
        path.write_bytes(WRITERS[kind](title, text))
        total += path.stat().st_size
    return total


def _markdown(title: str, text: list[str]) -> bytes:
    return "\n\n".join([f"# {title}", text[0], "## Details", *text[1:]]).encode()


def _html(title: str, text: list[str]) -> bytes:
    body = "".join(f"<p>{html.escape(words)}</p>" for words in text)
    return f"<!doctype html><title>{title}</title><body><h1>{title}</h1>{body}</body>".encode()


def _mail(title: str, text: list[str]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = title, "ana@example.org", "ben@example.org"
    message["Date"] = "Mon, 02 Mar 2026 10:14:00 +0000"
    message.set_content("\n\n".join(text))
    return message.as_bytes()


def _pdf(title: str, text: list[str]) -> bytes:
    from fpdf import FPDF

    page = FPDF()
    page.set_font("helvetica", size=11)
    page.add_page()
    page.multi_cell(0, 8, title, new_x="LMARGIN", new_y="NEXT")
    for words in text:
        page.multi_cell(0, 5, words, new_x="LMARGIN", new_y="NEXT")
    return bytes(page.output())


def _docx(title: str, text: list[str]) -> bytes:
    import io

    def paragraph(words: str, style: str = "") -> str:
        return f'<w:p>{style}<w:r><w:t xml:space="preserve">{html.escape(words)}</w:t></w:r></w:p>'

    heading = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>'
    body = paragraph(title, heading) + "".join(map(paragraph, text))
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    packed = "http://schemas.openxmlformats.org/package/2006"
    application = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{packed}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{application}.document.main+xml"/><Override PartName="/word/styles.xml" '
        f'ContentType="{application}.styles+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{packed}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{packed}/relationships"><Relationship Id="r1" '
        f'Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "word/styles.xml": f'<w:styles xmlns:w="{word}"><w:style w:type="paragraph" w:styleId="Heading1">'
        '<w:name w:val="heading 1"/></w:style></w:styles>',
        "word/document.xml": f'<w:document xmlns:w="{word}"><w:body>{body}</w:body></w:document>',
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>{content}')
    return file.getvalue()


WRITERS = {"md": _markdown, "html": _html, "eml": _mail, "pdf": _pdf, "docx": _docx}


def read(folder: Path) -> int:
    """Read and split as the index does, in the process that documents are parsed in; how many pieces there are."""
    from cortex_pipelines.ingest.reader import DocumentReader
    from cortex_pipelines.retrieval.chunking import chunk_document

    count = 0
    with DocumentReader() as reader:
        for path in sorted(folder.rglob("*.*")):
            parsed = reader.parse(path.name, path.read_bytes())
            count += len(chunk_document(parsed.text, parsed.headings, parsed.pages))
    return count


def run(count: int, peers: str | None) -> tuple[dict[str, Cost], int, str]:
    """Measure ours and the peers on `count` documents; the costs, the bytes read, and what was left out."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        size = make(folder / "inbox" / "mixed", count)
        costs = {}
        read_only = [sys.executable, "-m", "benchmarks.documents", "--read", str(folder / "inbox" / "mixed")]
        costs["cortex_read"], _ = measure(read_only)
        costs["cortex"], told = cortex(folder, "run", "mixed", "--select", "documents", "--json")
        read = json.loads(told)[0]["products"]["documents"]["metadata"]
        if read["documents"] + read["copies"] != count:
            raise SystemExit(f"of {count} documents {read} were read")
        costs["cortex_again"], _ = cortex(folder, "run", "mixed", "--select", "documents")
        if peers is None:
            return costs, size, "LlamaIndex and Haystack were not measured: no --peers"
        for name, program in (("llama_index", LLAMA_INDEX), ("haystack", HAYSTACK)):
            costs[name], _ = measure(
                [peers, "-W", "ignore", "-c", program, str(folder / "inbox" / "mixed")], cwd=folder
            )
    return costs, size, ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="how many documents (default: 10000)")
    parser.add_argument("--peers", help="the Python that has LlamaIndex and Haystack")
    parser.add_argument("--scale", type=int, nargs="*", default=[], help="measure ours alone on so many, too")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="end with one JSON object of named figures")
    given = parser.parse_args()
    if given.read:
        print(read(given.read))
        return
    costs, size, left_out = run(given.count, given.peers)
    print(f"{given.count:,} documents, {size:,} bytes\n\n{table(costs)}")
    named = figures(costs)
    for name, cost in costs.items():
        named[f"{name}_per_cpu_second"] = round(given.count / cost.cpu_seconds, 1)
    if left_out:
        print(f"\n{left_out}")
    else:
        best = max(named["llama_index_per_cpu_second"], named["haystack_per_cpu_second"])
        for name in ("cortex_read", "cortex"):
            named[f"{name}_times_the_faster_peer"] = round(named[f"{name}_per_cpu_second"] / best, 2)
        print(
            f"\nread and split: {named['cortex_read_times_the_faster_peer']} times the documents per CPU-second of the"
        )
        print(f"faster peer; the whole product: {named['cortex_times_the_faster_peer']} times")
    for count in given.scale:
        cost = run(count, None)[0]["cortex"]
        named[f"cpu_ms_per_file_of_{count}"] = round(1_000 * cost.cpu_seconds / count, 3)
        print(f"{count:,} documents: {named[f'cpu_ms_per_file_of_{count}']} CPU-ms each, {cost.peak_mb:.0f} MB")
    if given.json:
        print(json.dumps(named))


if __name__ == "__main__":
    try:
        main()
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
