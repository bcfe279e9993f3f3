"""Every format: its text, headings, pages, tables, lists, links and parts, from small files made here."""

# ruff: noqa: E501  files are written as they are

import json

import pytest

from cortex_pipelines.ingest.parsing import Unreadable, parse
from cortex_pipelines.ingest.reader import DocumentReader
from tests.ingest.formats import making


def headings(parsed):
    lines = parsed.text.split("\n")
    assert all(heading.text in lines[heading.line - 1] for heading in parsed.headings)
    return [(heading.level, heading.text) for heading in parsed.headings]


def pages(parsed):
    lines = parsed.text.split("\n")
    return [(page.number, lines[page.line - 1]) for page in parsed.pages]


TABLE = "| Name | Days |\n| --- | --- |\n| a \\| b | 90 |\n"


def test_docx():
    parsed = parse("guide.docx", making.docx())
    assert parsed.media_type == "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert headings(parsed) == [(1, "Warden guide"), (2, "Limits")]
    assert parsed.text == (
        "Warden guide\n\nR&D keeps <all> keys in a_b*c.\n\nSee [the site](https://example.org/x) today[^1]\n\nLimits\n\n"
        "- Item 1\n- Item 2\n\n1. Step one\n  - Deeper\n2. Step two\n\n" + TABLE + "\nIn a control.\n\n[^1]: A note.\n"
    )
    assert (parsed.title, parsed.details) == ("Guide", {"author": "Ana"})


def test_odt():
    parsed = parse("guide.odt", making.odf("text", making.ODT_BODY))
    assert parsed.media_type == "application/vnd.oasis.opendocument.text"
    assert headings(parsed) == [(1, "Warden guide"), (2, "Limits")]
    assert parsed.text == (
        "Warden guide\n\nR&D  keeps [the site](https://example.org/x).\n\nLimits\n\n- Item\n  - Inner\n\n1. Step\n\n"
        + TABLE
    )
    assert (parsed.title, parsed.details) == ("Guide", {"author": "Ana"})


def test_odp_has_a_page_for_each_slide_and_none_of_its_notes():
    parsed = parse("talk.odp", making.odf("presentation", making.ODP_BODY))
    assert parsed.text == "First slide\n\n- alpha\n\nSecond slide\n\n- beta\n"
    assert headings(parsed) == [(2, "First slide"), (2, "Second slide")]
    assert pages(parsed) == [(1, "First slide"), (2, "Second slide")]


def test_ods_has_a_page_for_each_sheet_and_leaves_out_a_million_empty_rows():
    parsed = parse("costs.ods", making.odf("spreadsheet", making.ODS_BODY))
    assert parsed.text == "Costs\n\n| Name |\n| --- |\n| rent |\n\nPeople\n\n| Name |\n| --- |\n| Ana |\n"
    assert pages(parsed) == [(1, "Costs"), (2, "People")]


def test_xlsx_has_a_page_for_each_sheet():
    parsed = parse("costs.xlsx", making.xlsx())
    assert parsed.media_type == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    table = "| Name | Days |\n| --- | --- |\n| R&D <b> x_y | 90 |\n"
    assert parsed.text == f"Costs\n\n{table}\nPeople\n\n{table}"
    assert pages(parsed) == [(1, "Costs"), (2, "People")]
    assert headings(parsed) == [(2, "Costs"), (2, "People")]


def test_pptx_has_a_page_for_each_slide():
    parsed = parse("talk.pptx", making.pptx())
    assert parsed.media_type == "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    assert parsed.text == "First slide\n\nalpha R&D\n\nSecond slide\n\nbeta\n"
    assert pages(parsed) == [(1, "First slide"), (2, "Second slide")]
    assert headings(parsed) == [(2, "First slide"), (2, "Second slide")]


def test_a_last_page_without_words_has_a_line_too():
    assert pages(parse("talk.odp", making.odf("presentation", making.ODP_BODY + "<draw:page/>")))[2] == (3, "")
    assert pages(parse("guide.pdf", making.pdf(empty=1)))[2] == (3, "")


def test_epub_follows_the_order_of_its_spine():
    parsed = parse("book.epub", making.epub())
    assert parsed.text == "One\n\nFirst words & more.\n\nTwo\n\nSecond words.\n"
    assert headings(parsed) == [(1, "One"), (1, "Two")]
    assert (parsed.media_type, parsed.title, parsed.details) == ("application/epub+zip", "The book", {"author": "Ana"})


def test_rtf():
    parsed = parse("guide.rtf", making.RTF)
    assert parsed.text == "Warden guide\n\nR&D keeps <all> keys in a_b.\n"
    assert headings(parsed) == [(1, "Warden guide")]


def test_pdf_has_pages_and_the_headings_of_its_outline():
    parsed = parse("guide.pdf", making.pdf())
    assert parsed.text == "Chapter 1\nWords of page 1.\nChapter 2\nWords of page 2."
    assert pages(parsed) == [(1, "Chapter 1"), (2, "Chapter 2")]
    assert headings(parsed) == [(1, "Chapter 1"), (1, "Chapter 2")]
    assert (parsed.title, parsed.details["author"]) == ("Warden guide", "Ana")
    # Outlines often leave out the number of a section.
    assert headings(parse("guide.pdf", making.pdf(mark="2.1 "))) == [(1, "2.1 Chapter 1"), (1, "2.1 Chapter 2")]


def test_a_mail_has_its_words_and_its_attachments_as_parts():
    parsed = parse("mail.eml", making.eml())
    assert parsed.text == (
        "Grüße an alle\n\nFrom: Ana Müller <ana@example.org>\nTo: bo@example.org\nDate: 2026-03-02T10:00:00+01:00\n\n"
        "Hallo,\n\nsiehe Anhang.\n"
    )
    assert (parsed.media_type, parsed.title) == ("message/rfc822", "Grüße an alle")
    assert parsed.details == {
        "from": "Ana Müller <ana@example.org>",
        "to": "bo@example.org",
        "date": "2026-03-02T10:00:00+01:00",
    }
    notes, guide, earlier = parsed.parts
    assert (notes.name, notes.data) == ("notes.md", b"# Notes\n\nwords\n")
    # A name is what it is; whoever stores it sees to where it leads.
    assert (guide.name, guide.data) == ("../guide.docx", making.docx()[: len(guide.data)])
    assert parse(guide.name, guide.data).title == "Guide"
    assert "What was said before." in parse(earlier.name, earlier.data).text


def test_a_mail_of_html_alone_is_read_as_a_page():
    mail = (
        b"From: a@example.org\r\nTo: b@example.org\r\nSubject: =?iso-8859-1?q?Gr=FC=DFe?=\r\nDate: nonsense\r\n"
        b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<h2>K\xfchl</h2><ul><li>one</li></ul>\r\n"
    )
    parsed = parse("mail", mail)
    assert headings(parsed) == [(1, "Grüße"), (2, "Kühl")]
    assert parsed.text.endswith("Date: nonsense\n\nKühl\n\n- one\n")


def test_an_mbox_has_a_heading_for_each_message():
    parsed = parse("old.mbox", making.mbox())
    assert headings(parsed) == [(1, "One"), (1, "Two")]
    assert parsed.text.endswith("Second.\nFrom here on\n")
    assert (parsed.media_type, parsed.details) == ("application/mbox", {"messages": "2"})


def test_msg():
    parsed = parse("mail.msg", making.msg())
    assert parsed.text.startswith(
        "Grüße\n\nFrom: Ana <ana@example.org>\nTo: Bo\nDate: 2026-03-02T12:00:00+00:00\n\nHallo,"
    )
    assert [(part.name, part.data.rstrip(b"\0")) for part in parsed.parts] == [("notes.md", b"# Notes\n\nwords\n")]


def test_a_notebook_has_its_cells_in_order_with_output_cut():
    parsed = parse("study.ipynb", making.notebook())
    assert parsed.text == (
        "# Study\n\nSome words.\n\n```python\n# no heading\nprint(6 * 7)\n```\n\n```text\n42\n```\n\n## Result"
    )
    assert headings(parsed) == [(1, "Study"), (2, "Result")]
    huge = parse("study.ipynb", making.notebook(output_type="stream", text="x" * 10**6))
    assert len(huge.text) < 5_000
    assert "[...]" in huge.text
    with pytest.raises(Unreadable, match="is a broken notebook"):
        parse("study.ipynb", making.notebook()[:-3])


HTML = """<!DOCTYPE html><html><head><title>Kestrel</title><meta name="author" content="Ana"></head><body>
<nav><a href="#top">top</a></nav><h1>Kestrel <em>guide</em></h1>loose words<div>in a div with a <a href="https://example.org/a">link
here</a>, a <a href="javascript:run()">bad</a> one</div>
<ul><li>one<ul><li>inner</li></ul></li><li><p>two</p><p>more</p></li></ul><ol><li>first</li><li>second</li></ol>
<table><caption>Terms</caption><tr><th>Name</th><th>Days</th></tr><tr><td>a | b</td><td>90<br>or so</td></tr></table>
<pre>x = 1
  y = 2</pre><p>A<br>B</p><script>var unseen = 1</script><style>unseen{}</style><template>unseen</template>
<noscript>unseen</noscript><!-- unseen --><img alt="a kestrel" src="http://example.org/x.png"></body></html>"""


def test_html():
    parsed = parse("page.html", HTML.encode())
    assert parsed.text == (
        "top\n\nKestrel guide\n\nloose words\n\nin a div with a [link here](https://example.org/a), a bad one\n\n"
        "- one\n  - inner\n- two\n  more\n\n1. first\n2. second\n\nTerms\n\n"
        "| Name | Days |\n| --- | --- |\n| a \\| b | 90 or so |\n\nx = 1\n  y = 2\n\nA\nB\n\na kestrel\n"
    )
    assert (parsed.title, headings(parsed), parsed.details) == ("Kestrel", [(1, "Kestrel guide")], {"author": "Ana"})


def test_a_table_that_only_lays_a_page_out_is_read_as_what_lies_in_it():
    page = "<html><table><tr><td><h2>Left</h2><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>"
    assert parse("x.html", page.encode()).text == "Left\n\n| a | b |\n| --- | --- |\n"


@pytest.mark.parametrize(
    ("name", "text", "media_type", "found"),
    [
        ("a.md", "---\ntitle: The Plan\nauthor: Ana\n---\n# One\n\n```\n# no\n```\nTwo\n---\n", "text/markdown", [(1, "One"), (2, "Two")]),
        ("a.rst", "One\n===\n\nTwo\n---\n\nwords\n", "text/x-rst", [(1, "One"), (2, "Two")]),
        ("a.adoc", "= One\n\n== Two ==\n\n----\n== no\n----\n\n=== Three\n", "text/asciidoc", [(1, "One"), (2, "Two"), (3, "Three")]),
        (
            "a.tex",
            "\\documentclass{article}\n\\title{T}\n\\section{One}\n% \\section{no}\n\\begin{verbatim}\n\\section{no}\n"
            "\\end{verbatim}\n\\subsection*{Two \\emph{x}}\n",
            "text/x-tex",
            [(2, "One"), (3, "Two \\emph{x}")],
        ),
        ("a.csv", "name,days\nAna,90\n", "text/csv", []),
        ("a.tsv", "name\tdays\nAna\t90\n", "text/tab-separated-values", []),
        ("a.json", '{"a": 1}', "application/json", []),
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n', "application/jsonl", []),
        ("a.yaml", "a: 1\n", "application/yaml", []),
        ("a.toml", "[a]\nb = 1\n", "application/toml", []),
        ("a.xml", "<?xml version='1.0'?><a>x</a>", "application/xml", []),
        ("a.svg", "<svg><text>x</text></svg>", "image/svg+xml", []),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\nHello\n", "application/x-subrip", []),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n", "text/vtt", []),
        ("a.py", "# no heading\nprint(1)\n", "text/x-python", []),
        ("a.log", "GET / 200\n", "text/plain", []),
        ("a", "words\n", "text/plain", []),
    ],
)  # fmt: skip
def test_text_is_taken_as_it_is(name, text, media_type, found):
    parsed = parse(name, text.encode())
    assert (parsed.media_type, parsed.text, headings(parsed)) == (media_type, text, found)


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("notes.txt", making.docx(), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("picture.png", making.pdf(), "application/pdf"),
        ("x", b"\n\n" + making.pdf(), "application/pdf"),
        ("x.md", HTML.encode(), "text/html"),
        ("x", b'{"a": [1, 2]}', "application/json"),
        ("x.json", making.notebook(), "application/x-ipynb+json"),
        ("x.txt", making.eml(), "message/rfc822"),
        ("x.txt", b"\\documentclass{article}\nwords", "text/x-tex"),
        ("x.txt", b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n", "text/vtt"),
        ("mail.eml", b"just words: no mail\n", "text/plain"),
        ("book.pdf", b"just words\n", "text/plain"),
        ("data.yaml", b"from: x\nto: y\nname: z\nage: 4\n", "application/yaml"),
        ("refs.txt", b"[1] A book\n[2] Another\n", "text/plain"),
        ("wiki.txt", b"[[a link]] and {{ a template }}\n", "text/plain"),
        ("BMW.txt", b"BMW and BMX\n", "text/plain"),
    ],
)  # fmt: skip
def test_the_type_comes_from_the_content_not_only_from_the_name(name, data, media_type):
    assert parse(name, data).media_type == media_type


def test_lines_end_in_lf_and_keep_their_numbers():
    assert parse("a.txt", b"one\r\ntwo\rbar\r\nthree\n").text == "one\ntwo\rbar\nthree\n"
    assert parse("a.txt", b"one\rtwo\r").text == "one\ntwo\n"


def test_a_transcript_has_messages():
    lines = "\n".join(f"[2026-03-02 10:1{n}] Ana: words {n}" for n in range(4))
    for name in ("chat.txt", "chat.md"):
        assert [message.text for message in parse(name, lines.encode()).messages] == [f"words {n}" for n in range(4)]
    assert parse("chat.py", lines.encode()).messages == ()


def test_an_export_of_a_chat_is_a_transcript():
    export = [
        {
            "uuid": "1",
            "name": "Keys",
            "chat_messages": [
                {"uuid": str(n), "sender": sender, "text": f"words {n}", "created_at": f"2026-03-02T10:0{n}:00Z"}
                for n, sender in enumerate(("human", "assistant"))
            ],
        }
    ]
    parsed = parse("conversations.json", json.dumps(export).encode())
    assert [message.text for message in parsed.messages] == ["words 0", "words 1"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n\n", "has no text"),
        ("a.dat", bytes(range(256)) * 10, "is binary, or text in an unknown encoding"),
        ("a.pdf", making.pdf(password="secret"), "is encrypted"),
        ("a.pdf", b"%PDF-1.7\nnothing else", "is a broken PDF"),
        ("a.docx", b"PK\x03\x04 and nothing else", "is a broken archive"),
        ("a.docx", making.docx()[:900], "is a broken archive"),
        ("a.docx", making.zipped({"word/document.xml": "<a/>"}), "is a broken DOCX"),
        ("a.docx", making.zipped({"word/document.xml": "<a"}), "is a broken document: its XML is damaged"),
        ("a.docx", making.compound({"EncryptedPackage": b"x", "EncryptionInfo": b"x"}), "is encrypted"),
        ("a.doc", making.compound({"WordDocument": b"x"}), "is of Word before 2007: save it as DOCX"),
        ("a.ppt", making.compound({"PowerPoint Document": b"x"}), "is of PowerPoint before 2007: save it as PPTX"),
        ("a.odt", making.zipped({"content.xml": "<a/>", "META-INF/manifest.xml": "<a><encryption-data/></a>"}), "is encrypted"),
        ("a.odt", making.zipped({"content.xml": "<a/>"}), "is a broken OpenDocument file"),
        ("a.epub", making.zipped({"META-INF/container.xml": "<a/>"}), "is a broken EPUB"),
        ("a.msg", making.msg()[:-600], "is a broken MSG"),
        ("a.rtf", b"{\\rtf1 }", "has no text"),
        ("a.html", b"<html><script>x</script></html>", "has no text"),
        ("a.zip", making.zipped({"a.txt": "x"}), "is an archive, no document"),
        ("a.gz", b"\x1f\x8b\x08 and more", "is an archive, no document"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_has_one_line_of_reason(name, data, reason):
    with pytest.raises(Unreadable) as raised:
        parse(name, data)
    assert str(raised.value) == reason


@pytest.mark.tesseract
def test_an_image_with_text_and_a_scan_are_read_by_ocr():
    # The program runs within the walls of the worker.
    with DocumentReader() as reader:
        assert reader.parse("board.png", making.picture()).text.strip() == "Kestrel warden 4711"
        scan = reader.parse("scan.pdf", making.scan())
        assert scan.text.strip() == "Kestrel warden 4711"
        assert (pages(scan)[0][0], scan.details["read by"]) == (1, "OCR")
        with pytest.raises(Unreadable, match="is an image without text"):
            reader.parse("blank.png", making.picture(" "))
        with pytest.raises(Unreadable, match="is an image that OCR cannot read"):
            reader.parse("broken.png", making.picture()[:100])


def test_without_tesseract_an_image_says_what_to_install(monkeypatch, tmp_path):
    from cortex_pipelines.ingest.formats import images

    monkeypatch.setenv("PATH", str(tmp_path))
    images._languages.cache_clear()
    try:
        with pytest.raises(Unreadable, match="is an image: to read its text, install tesseract"):
            parse("board.png", making.picture())
        with pytest.raises(Unreadable, match="has no text, only images: to read them, install tesseract"):
            parse("scan.pdf", making.scan())
    finally:
        images._languages.cache_clear()
