"""Hostile documents, each read behind the worker: nothing is run, fetched or written, time and memory stay in bounds.

What a test asserts of the outcome is that the file was read, or refused in one line; after it the next file is read.
"""

# ruff: noqa: E501  files are written as they are

import json
import socket
import struct
import time
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from cortex_pipelines.ingest.parsing import Unreadable, parse
from cortex_pipelines.ingest.reader import DocumentReader
from tests.ingest.formats import making

MOST_SECONDS = 60
MOST_MEGABYTES = 450


@pytest.fixture(scope="module")
def worker():
    with DocumentReader() as reader:
        yield reader


@pytest.fixture
def reader(worker):
    """A reader that reads the next file, whatever it met before, within its time and memory."""
    began = time.monotonic()
    yield worker
    assert time.monotonic() - began < MOST_SECONDS
    assert worker.parse("next.html", b"<html><p>Hello</p></html>").text == "Hello\n"
    assert peak_megabytes(worker) < MOST_MEGABYTES


def peak_megabytes(worker):
    status = Path(f"/proc/{worker._child.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def refused(reader, name, data):
    """Why a file is refused: one line."""
    with pytest.raises(Unreadable) as raised:
        reader.parse(name, data)
    reason = str(raised.value)
    assert reason
    assert "\n" not in reason
    assert len(reason) < 300
    return reason


def read_or_refused(reader, name, data):
    try:
        return reader.parse(name, data).text
    except Unreadable as error:
        assert "\n" not in str(error)
        return None


# PDF


def test_a_script_of_a_pdf_is_neither_run_nor_read(reader):
    text = reader.parse("a.pdf", making.pdf(script="app.launchURL\\('http://127.0.0.1:1'\\)")).text
    assert "Words of page 2." in text
    assert "launchURL" not in text


def raw_pdf(*objects: str, size: int = 0) -> bytes:
    content = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    xref = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    trailer = f"trailer\n<</Size {size or len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(content)}\n%%EOF\n"
    return content + xref.encode() + trailer.encode()


CATALOG = "<</Type/Catalog/Pages 2 0 R>>"


@pytest.mark.parametrize(
    "data",
    [
        raw_pdf(CATALOG, "<</Type/Pages/Kids[2 0 R 2 0 R 2 0 R]/Count 3>>"),
        raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count 1>>", "<</Type/Pages/Parent 2 0 R/Kids[2 0 R]/Count 1>>"),
        raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count 1000000000>>", "<</Type/Page/Parent 2 0 R>>"),
        raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count -5>>", "<</Type/Page/Parent 3 0 R>>"),
        raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count 1>>", "<</Type/Page/Parent 2 0 R/Contents 3 0 R>>", size=10**9),
        raw_pdf("<</Type/Catalog/Pages 2 0 R/Outlines 1 0 R/First 1 0 R/Next 1 0 R>>", "<</Type/Pages/Kids[]/Count 0>>"),
        raw_pdf(CATALOG, "<<" * 100_000),
        raw_pdf(CATALOG, "[" * 1_000_000),
        raw_pdf(CATALOG, "<</Type/Pages/Kids[" + "3 0 R " * 200_000 + "]/Count 200000>>", "<</Type/Page/Parent 2 0 R>>"),
    ],
)  # fmt: skip
def test_loops_and_lies_in_a_pdf(reader, data):
    assert refused(reader, "a.pdf", data) in (
        "is a broken PDF",
        "has no text",
        "has no pages",
        "has more than 20,000 pages",
    )


def test_a_billion_objects_in_a_pdf(reader):
    packed = zlib.compress(b"0" * 50_000_000)
    stream = (
        f"<</Type/ObjStm/N 1000000000/First 10/Filter/FlateDecode/Length {len(packed)}>>stream\n".encode()
        + packed
        + b"\nendstream"
    )
    data = raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count 1>>", "<</Type/Page/Parent 2 0 R/Contents 4 0 R>>", "XX")
    assert refused(reader, "a.pdf", data.replace(b"XX", stream))


def test_a_page_of_a_pdf_that_unpacks_to_gigabytes(reader):
    packed = zlib.compress(zlib.compress(b"BT (x) Tj ET\n" * 20_000_000, 9), 9)
    stream = f"<</Filter[/FlateDecode/FlateDecode]/Length {len(packed)}>>stream\n".encode() + packed + b"\nendstream"
    data = raw_pdf(CATALOG, "<</Type/Pages/Kids[3 0 R]/Count 1>>", "<</Type/Page/Parent 2 0 R/Contents 4 0 R>>", "XX")
    read_or_refused(reader, "a.pdf", data.replace(b"XX", stream))


# XML


LAUGHS = (
    "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)) + "]>"
)


def test_entities_are_not_expanded(reader):
    bomb = f"<?xml version='1.0'?>{LAUGHS}<a>&a11;</a>"
    assert reader.parse("a.xml", bomb.encode()).text == bomb
    assert reader.parse("a.svg", f"{LAUGHS}<svg>&a11;</svg>".encode()).media_type == "image/svg+xml"
    refusal = "declares XML entities, which no document needs"
    document = f'{making.XML}{LAUGHS}<w:document xmlns:w="{making.WORDPROCESSING}"><w:body><w:p><w:r><w:t>&a11;</w:t></w:r></w:p></w:body></w:document>'
    assert refused(reader, "a.docx", making.docx(**{"word__document.xml": document})) == refusal
    assert refused(reader, "a.odt", making.odf("text", "<text:p>&a11;</text:p>", LAUGHS)) == refusal
    # In another encoding the declaration does not look like one, and is the library's to refuse.
    wide = document.replace("UTF-8", "UTF-16").encode("utf-16")
    assert (
        refused(reader, "a.docx", making.docx(**{"word__document.xml": wide}))
        == "is a broken document: its XML is damaged"
    )
    for data in (making.xlsx("&a11;"), making.pptx("&a11;")):
        members = {
            info.filename: zipfile.ZipFile(BytesIO(data)).read(info)
            for info in zipfile.ZipFile(BytesIO(data)).infolist()
        }
        bombs = {
            name: content.replace(b"?>\n", b"?>\n" + LAUGHS.encode(), 1) if b"&a11;" in content else content
            for name, content in members.items()
        }
        text = read_or_refused(reader, "a.office", making.zipped(bombs))
        assert text is None or len(text) < 10_000


@pytest.mark.parametrize("depth", [1_000, 300_000])
def test_xml_that_is_nested_deep(reader, depth):
    read_or_refused(reader, "a.docx", making.docx("<w:sdt>" * depth + "</w:sdt>" * depth))
    read_or_refused(reader, "a.docx", making.docx("<w:p>" * depth + "</w:p>" * depth))
    read_or_refused(
        reader,
        "a.odt",
        making.odf("text", "<text:list><text:list-item>" * depth + "</text:list-item></text:list>" * depth),
    )
    read_or_refused(
        reader, "a.odt", making.odf("text", "<text:p>" + "<text:span>" * depth + "</text:span>" * depth + "</text:p>")
    )


# Nothing is fetched


def test_nothing_is_fetched_and_nothing_is_read_from_the_machine(tmp_path):
    """In this process, without the worker's walls: the parsers themselves do not ask."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret of the machine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{{}}">]><w:document xmlns:w="{making.WORDPROCESSING}"><w:body><w:p><w:r><w:t>&x;</w:t></w:r></w:p></w:body></w:document>'
        outside = f'<!DOCTYPE a SYSTEM "{url}"><w:document xmlns:w="{making.WORDPROCESSING}"><w:body><w:p><w:r><w:t>words</w:t></w:r></w:p></w:body></w:document>'
        links = (
            f'{making.XML}<Relationships xmlns="{making.PACKAGE}/relationships"><Relationship Id="rId9" Type="{making.OFFICE}/attachedTemplate" Target="{url}" TargetMode="External"/>'
            f'<Relationship Id="rId8" Type="{making.OFFICE}/image" Target="{url}" TargetMode="External"/></Relationships>'
        )
        page = (
            f'<html><head><base href="{url}"><link rel="stylesheet" href="{url}"><script src="{url}"></script><style>@import "{url}"</style><meta http-equiv="refresh" content="0;{url}">'
            f'</head><body onload="fetch(\'{url}\')"><img src="{url}" srcset="{url}"><iframe src="{url}"></iframe><object data="{url}"></object><p>words</p></body></html>'
        )
        mail = b"From: a@b\nTo: c@d\nSubject: x\nDate: x\nContent-Type: text/html\n\n" + page.encode()
        hostile = {
            "entity.docx": making.docx(**{"word__document.xml": entity.format(url)}),
            "file.docx": making.docx(**{"word__document.xml": entity.format(secret.as_uri())}),
            "outside.docx": making.docx(**{"word__document.xml": outside}),
            "links.docx": making.docx(**{"word___rels__document.xml.rels": links}),
            "entity.odt": making.odf(
                "text", "<text:p>&x;</text:p>", f'<!DOCTYPE a [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
            ),
            "object.odt": making.odf(
                "text", f'<text:p>words</text:p><draw:frame><draw:image xlink:href="{url}"/></draw:frame>'
            ),
            "entity.xml": f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "{url}">]><a>&x;</a>'.encode(),
            "image.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/><script href="{url}"/></svg>'.encode(),
            "a.html": page.encode(),
            "a.md": f"![x]({url})\n\n<script src='{url}'></script>\n".encode(),
            "a.rst": f".. include:: {secret}\n.. image:: {url}\n".encode(),
            "a.adoc": f"include::{secret}[]\nimage::{url}[]\n".encode(),
            "a.tex": f"\\documentclass{{article}}\\input{{{secret}}}\\write18{{curl {url}}}\n".encode(),
            "a.rtf": b'{\\rtf1 words {\\field{\\*\\fldinst INCLUDEPICTURE "' + url.encode() + b'"}}}',
            "a.eml": mail,
            "a.ipynb": making.notebook(output_type="display_data", data={"text/html": page}),
            "a.pdf": making.pdf(script=f"this.submitForm\\('{url}'\\)"),
            "a.yaml": b"!!python/object/apply:os.system ['true']\n",
        }
        for name, data in hostile.items():
            try:
                assert "secret of the machine" not in parse(name, data).text
            except Unreadable as error:
                assert "\n" not in str(error)
        with pytest.raises(TimeoutError):
            server.accept()


# Bombs


def bomb(name: str, megabytes: int, **lies: int) -> bytes:
    buffer = BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(megabytes):
            member.write(b"<a>" + b" " * (2**20 - 3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["word/document.xml", "xl/workbook.xml", "ppt/presentation.xml", "content.xml", "META-INF/container.xml"]
)
def test_a_bomb_is_refused_before_it_is_unpacked(reader, name):
    assert refused(reader, "a.docx", bomb(name, 300)) == "unpacks to far more than a document holds"


@pytest.mark.parametrize("name", ["word/document.xml", "xl/workbook.xml", "ppt/presentation.xml", "content.xml"])
def test_a_bomb_that_lies_about_its_size(reader, name):
    data = bytearray(bomb(name, 300))
    place = data.rindex(b"PK\x01\x02")
    # The size after unpacking, of the list at the end and of the member's own head.
    struct.pack_into("<I", data, place + 24, 1_000)
    struct.pack_into("<I", data, 22, 1_000)
    assert refused(reader, "a.docx", bytes(data))


def test_an_archive_of_a_million_members(reader):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}", b"")
        archive.writestr("word/document.xml", "<a/>")
    assert refused(reader, "a.docx", buffer.getvalue()) == "unpacks to far more than a document holds"


@pytest.mark.tesseract
def test_an_image_of_ten_billion_dots(reader):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100_001) * 500)
    image = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    assert refused(reader, "a.png", image) == "is an image that OCR cannot read: broken, or too large"


# Depth and length


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.json", b"[" * 5_000_000),
        ("a.ipynb", b'{"nbformat": 4, "cells": ' + b"[" * 2_000_000),
        ("conversations.json", b'[{"mapping": {"author": ' + b'{"a":' * 1_000_000),
        ("a.html", b"<html>" + b"<div>" * 500_000 + b"x"),
        ("a.html", b"<html>" + b"<b><i>" * 20_000 + b"x"),
        ("a.html", b"<html>" + b"<table><tr><td>" * 20_000 + b"x"),
        ("a.html", b"<html>" + b"<ul><li>" * 100_000 + b"x"),
        ("a.html", b"<html>" + b"<a href=x><p>" * 5_000 + b"x"),
        ("a.html", b"<html><p " + b"a=1 " * 1_000_000 + b">x"),
        ("a.rtf", b"{\\rtf1 " + b"{" * 1_000_000 + b"x"),
        ("a.rtf", b"{\\rtf1 x\\bin2147483647 y}"),
        ("a.md", b"> " * 100_000 + b"# x"),
        ("a.md", b"- " * 50_000 + b"# x"),
        ("a.md", b"[" * 200_000 + b"\n\n# x\n"),
        ("a.md", b"*a_ " * 200_000 + b"\n\n# x\n"),
        ("a.md", b"`" * 100_000 + b" " + b"``` " * 100_000),
        ("a.md", b"# " + b" #" * 500_000 + b" x"),
        ("a.md", b"---\n" + b"a: b\n" * 500_000),
        ("a.adoc", b"= x" + b" " * 5_000_000 + b"y"),
        ("a.tex", b"\\documentclass{a}\\section{" + b"{" * 1_000_000),
        ("a.tex", b"%" * 5_000_000),
        ("a.rst", b"=" * 5_000_000 + b"\n" + b"=" * 5_000_000),
        ("a.xml", b"<?xml " + b"<a>" * 1_000_000),
        ("a.yaml", b"a: &a [x]\n" + b"b: [*a, *a]\n" * 100_000),
        ("a.eml", b"From: a@b\nTo: c@d\nSubject: " + b"=?utf-8?q?" * 500_000 + b"\nDate: x\n\nx"),
        ("a.eml", b"From: a@b\nTo: c@d\nSubject: x\nDate: " + b"(" * 2_000_000 + b"\n\nx"),
        ("a.eml", b"From: a@b\nTo: c@d\nSubject: x\nContent-Type: text/plain" + b'; a="b;' * 20_000 + b"\n\nx"),
        ("a.eml", b"From: a@b\nTo: c@d\nSubject: x\nContent-Type: text/plain; charset=punycode\n\n" + b"x-" * 100_000),
        ("a.mbox", b"From a@b Mon Mar  2 10:00:00 2026\nSubject: x\n\n\n" * 20_000),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\nx\n\n" * 100_000),
    ],
)  # fmt: skip
def test_what_is_nested_deep_or_repeated_without_end(reader, name, data):
    read_or_refused(reader, name, data)


@pytest.mark.parametrize(
    "suffix", ["txt", "md", "html", "csv", "json", "yaml", "xml", "rst", "adoc", "tex", "py", "srt", "eml", "rtf"]
)
def test_an_endless_line(reader, suffix):
    heads = {"html": b"<html><p>", "eml": b"From: a@b\nTo: c@d\nSubject: x\n\n", "rtf": b"{\\rtf1 ", "json": b'["'}
    text = read_or_refused(reader, f"a.{suffix}", heads.get(suffix, b"") + b"x y_" * 2_000_000)
    assert text is None or len(text) >= 8_000_000


def test_a_mail_of_a_hundred_thousand_parts(reader):
    part = b"--b\nContent-Type: text/plain\n\nx\n"
    mail = (
        b"From: a@b\nTo: c@d\nSubject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + part * 100_000 + b"--b--\n"
    )
    assert refused(reader, "a.eml", mail) == "is a mail with more parts than anyone sends"


@pytest.mark.parametrize("depth", [50, 500, 20_000])
def test_a_mail_in_a_mail_in_a_mail(reader, depth):
    head = b"From: a@b\nTo: c@d\nSubject: x\n"
    text = read_or_refused(reader, "a.eml", (head + b"Content-Type: message/rfc822\n\n") * depth + head + b"\nx")
    # The outermost is read; what is in it is a part, and read as one.
    assert text is None or text.startswith("x\n")
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(depth))
    assert refused(reader, "a.eml", head + nested + b"\nx") in (
        "is a mail that is nested too deep",
        "is a mail with more parts than anyone sends",
    )


def test_a_notebook_of_huge_outputs(reader):
    cells = [{"cell_type": "code", "source": "x", "outputs": [{"output_type": "stream", "text": "y" * 10**6}]}] * 20
    notebook = json.dumps({"nbformat": 4, "cells": cells, "metadata": {}}).encode()
    assert len(reader.parse("a.ipynb", notebook).text) < 100_000


def test_more_rows_than_a_sheet_has(reader):
    cell = '<table:table-cell table:number-columns-repeated="{0}"><text:p>x</text:p></table:table-cell>'
    row = '<table:table-row table:number-rows-repeated="{0}">' + cell + "</table:table-row>"
    sheet = f'<table:table table:name="a">{row.format(2_000_000_000)}</table:table>'
    read_or_refused(reader, "a.ods", making.odf("spreadsheet", sheet * 5))


def test_a_document_that_takes_too_much_memory_costs_one_worker(reader):
    page = b"<html>" + b"<b>x</b>" * 6_000_000
    assert "memory" in refused(reader, "a.html", page)


# The worker's own walls


WALLS = """
import os, socket
from cortex_pipelines.confined import allow, hear, say, shut_in
def serve():
    shut_in()
    while (question := hear()) is not None:
        try:
            say(repr(eval(question)).encode())
        except OSError as error:
            say(type(error).__name__.encode())
"""


def test_a_worker_writes_no_file_opens_few_and_reaches_no_network(tmp_path, monkeypatch):
    from cortex_pipelines.confined import Worker

    (tmp_path / "walls.py").write_text(WALLS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SECRET", "x")
    target = tmp_path / "written"
    with Worker("walls", 10, 1000) as worker, socket.create_server(("127.0.0.1", 0)) as server:
        assert worker.ask(f"open({str(target)!r}, 'wb', 0).write(b'x')".encode()) == b"OSError"
        assert target.stat().st_size == 0
        assert worker.ask(b"[open('/dev/null') for _ in range(100)]") == b"OSError"
        assert b"SECRET" not in worker.ask(b"dict(os.environ)")
        if worker.ask(b"os.readlink('/proc/self/ns/net')").decode().strip("'") != str(
            Path("/proc/self/ns/net").readlink()
        ):
            told = worker.ask(f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)".encode())
            assert told in (b"OSError", b"ConnectionRefusedError")


def test_a_worker_that_computes_without_end_is_ended_by_its_cpu_time(tmp_path, monkeypatch):
    from cortex_pipelines.confined import Worker

    (tmp_path / "spinning.py").write_text(WALLS.replace("say(repr(eval", "allow(0.5, 2**30); say(repr(eval"))
    monkeypatch.syspath_prepend(tmp_path)
    with Worker("spinning", 60, 1000) as worker:
        began = time.monotonic()
        with pytest.raises(OSError, match="the child ended"):
            worker.ask(b"[None for _ in iter(int, 1)]")
        assert time.monotonic() - began < 30
        assert worker.ask(b"1 + 1") == b"2"
