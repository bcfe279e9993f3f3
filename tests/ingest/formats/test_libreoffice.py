"""Files that LibreOffice made of one source: the same text, headings, tables and lists out of every format."""

# ruff: noqa: E501  files are written as they are

import shutil
import subprocess

import pytest

from cortex_pipelines.ingest.reader import DocumentReader

pytestmark = [pytest.mark.libreoffice, pytest.mark.heavy]

SOURCE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Kestrel handbook</title></head><body>
<h1>Kestrel handbook</h1><p>R&amp;D keeps a <a href="https://example.org/a">link here</a> &lt;b&gt; Grüße.</p>
<h2>Limits</h2><ul><li>First item<ul><li>Nested item</li></ul></li></ul><ol><li>Step one</li><li>Step two</li></ol>
<table border="1"><tr><th>Name</th><th>Days</th></tr><tr><td>warden</td><td>90</td></tr></table>
<p style="page-break-before: always">On page two.</p><h2>Second page</h2><p>End.</p></body></html>"""
SLIDES = """<?xml version="1.0" encoding="UTF-8"?><office:document office:version="1.3"
 xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"
 office:mimetype="application/vnd.oasis.opendocument.presentation"><office:body><office:presentation>{}</office:presentation>
</office:body></office:document>"""
SLIDE = """<draw:page><draw:frame svg:width="20cm" svg:height="3cm" svg:x="1cm" svg:y="1cm"><draw:text-box><text:p>{}</text:p>
</draw:text-box></draw:frame><draw:frame svg:width="20cm" svg:height="8cm" svg:x="1cm" svg:y="5cm"><draw:text-box><text:p>{}
</text:p></draw:text-box></draw:frame></draw:page>"""
CELLS = 'Name,Amount,When\nAna,12.5,2026-03-02\n"Bo | b",7,2026-04-01\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("office")
    (folder / "source.html").write_text(SOURCE)
    (folder / "sheet.csv").write_text(CELLS)
    (folder / "slides.fodp").write_text(SLIDES.format(SLIDE.format("First", "alpha") + SLIDE.format("Second", "beta")))
    yield folder
    shutil.rmtree(folder)


def made(folder, source, suffix, *options):
    """A file that LibreOffice made of another one."""
    command = [
        "soffice",
        "--headless",
        "--norestore",
        f"-env:UserInstallation={(folder / 'profile').as_uri()}",
        *options,
    ]
    subprocess.run([*command, "--convert-to", suffix, "--outdir", folder, folder / source], check=True, timeout=120, capture_output=True)  # fmt: skip
    return (folder / source).with_suffix(f".{suffix}")


def parsed(path):
    with DocumentReader() as reader:
        found = reader.parse(path.name, path.read_bytes())
    lines = found.text.split("\n")
    assert all(heading.text in lines[heading.line - 1] for heading in found.headings)
    return found


@pytest.mark.parametrize("suffix", ["docx", "odt", "rtf", "pdf"])
def test_a_text_has_its_words_and_headings(folder, suffix):
    found = parsed(made(folder, "source.html", suffix, "--writer"))
    assert [(heading.level, heading.text) for heading in found.headings] == [
        (1, "Kestrel handbook"),
        (2, "Limits"),
        (2, "Second page"),
    ]
    assert found.title == "Kestrel handbook"
    for words in ("R&D keeps a ", "link here", "<b> Grüße.", "First item", "Step two", "On page two.", "End."):
        assert words in found.text
    if suffix == "pdf":
        lines = found.text.split("\n")
        assert [(page.number, lines[page.line - 1]) for page in found.pages] == [
            (1, "Kestrel handbook"),
            (2, "On page two."),
        ]
        return
    assert "| Name | Days |\n| --- | --- |\n| warden | 90 |\n" in found.text
    assert "- First item\n  - Nested item\n" in found.text
    assert "1. Step one\n2. Step two\n" in found.text
    if suffix != "rtf":
        assert "[link here](https://example.org/a)" in found.text


def test_a_book(folder):
    found = parsed(made(folder, "source.html", "epub", "--writer"))
    assert found.media_type == "application/epub+zip"
    assert "R&D keeps a [link here](https://example.org/a) <b> Grüße." in found.text
    assert "| warden | 90 |" in found.text


@pytest.mark.parametrize("suffix", ["xlsx", "ods", "xls"])
def test_a_workbook_has_its_sheet_as_a_table(folder, suffix):
    found = parsed(made(folder, "sheet.csv", suffix))
    assert found.text == (
        "sheet\n\n| Name | Amount | When |\n| --- | --- | --- |\n| Ana | 12.5 | 2026-03-02 |\n| Bo \\| b | 7 | 2026-04-01 |\n"
    )
    assert [(heading.text, heading.line) for heading in found.headings] == [("sheet", 1)]
    assert [(page.number, page.line) for page in found.pages] == [(1, 1)]


@pytest.mark.parametrize("suffix", ["pptx", "odp"])
def test_a_presentation_has_its_slides_as_pages(folder, suffix):
    found = parsed(made(folder, "slides.fodp", suffix))
    lines = found.text.split("\n")
    assert [(page.number, lines[page.line - 1]) for page in found.pages] == [(1, "First"), (2, "Second")]
    assert [line for line in lines if line] == ["First", "alpha", "Second", "beta"]
