"""Small files of every format, made from their text: the least that a reader takes, written as their formats say."""

# ruff: noqa: E501  files are written as they are

import io
import json
import struct
import zipfile
from email.message import EmailMessage

from fpdf import FPDF

WORDPROCESSING = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


def zipped(members: dict[str, str | bytes], *, packed: bool = True) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def paragraph(text: str, style: str = "", properties: str = "") -> str:
    if style:
        properties = f'<w:pStyle w:val="{style}"/>{properties}'
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


DOCX_BODY = "".join(
    [
        paragraph("Warden guide", "Kop1"),
        paragraph("R&amp;D keeps &lt;all&gt; keys in a_b*c."),
        '<w:p><w:r><w:t>See </w:t></w:r><w:hyperlink r:id="rId9"><w:r><w:t>the site</w:t></w:r></w:hyperlink>'
        "<w:r><w:t> today</w:t></w:r><w:del><w:r><w:delText>never</w:delText></w:r></w:del>"
        '<w:r><w:footnoteReference w:id="2"/></w:r></w:p>',
        paragraph("Limits", "Kop2"),
        *(paragraph(f"Item {n}", "", '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>') for n in (1, 2)),
        paragraph("Step one", "", '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="2"/></w:numPr>'),
        paragraph("Deeper", "", '<w:numPr><w:ilvl w:val="1"/><w:numId w:val="2"/></w:numPr>'),
        paragraph("Step two", "", '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="2"/></w:numPr>'),
        "<w:tbl><w:tr><w:tc>" + paragraph("Name") + "</w:tc><w:tc>" + paragraph("Days") + "</w:tc></w:tr>",
        "<w:tr><w:tc>" + paragraph("a | b") + "</w:tc><w:tc>" + paragraph("90") + "</w:tc></w:tr></w:tbl>",
        "<w:sdt><w:sdtContent>" + paragraph("In a control.") + "</w:sdtContent></w:sdt>",
    ]
)


def docx(body: str = DOCX_BODY, **members: str | bytes) -> bytes:
    head = f'xmlns:w="{WORDPROCESSING}" xmlns:r="{OFFICE}"'
    level = '<w:lvl w:ilvl="{}"><w:numFmt w:val="{}"/></w:lvl>'
    return zipped(
        {
            "[Content_Types].xml": f'{XML}<Types xmlns="{PACKAGE}/content-types"/>',
            "word/document.xml": f"{XML}<w:document {head}><w:body>{body}<w:sectPr/></w:body></w:document>",
            "word/styles.xml": f"{XML}<w:styles {head}>"
            '<w:style w:styleId="Kop1"><w:name w:val="heading 1"/></w:style>'
            '<w:style w:styleId="Kop2"><w:basedOn w:val="Sub"/></w:style>'
            '<w:style w:styleId="Sub"><w:name w:val="Own"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style></w:styles>',
            "word/numbering.xml": f"{XML}<w:numbering {head}>"
            f'<w:abstractNum w:abstractNumId="0">{level.format(0, "bullet")}</w:abstractNum>'
            f'<w:abstractNum w:abstractNumId="1">{level.format(0, "decimal")}{level.format(1, "bullet")}</w:abstractNum>'
            '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
            '<w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num></w:numbering>',
            "word/_rels/document.xml.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships">'
            f'<Relationship Id="rId9" Type="{OFFICE}/hyperlink" Target="https://example.org/x" TargetMode="External"/>'
            "</Relationships>",
            "word/footnotes.xml": f'{XML}<w:footnotes {head}><w:footnote w:id="2">{paragraph("A note.")}</w:footnote>'
            "</w:footnotes>",
            "docProps/core.xml": f'{XML}<cp:coreProperties xmlns:cp="{PACKAGE}/metadata/core-properties"'
            ' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Guide</dc:title><dc:creator>Ana</dc:creator>'
            "</cp:coreProperties>",
            **{name.replace("__", "/"): content for name, content in members.items()},
        }
    )


ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{space}:1.0"'
    for name, space in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "presentation": "presentation",
        "style": "style",
        "meta": "meta",
    }.items()
)


def odf(kind: str, body: str, declared: str = "") -> bytes:
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f'{XML}{declared}<office:document-content {ODF} xmlns:xlink="http://www.w3.org/1999/xlink">'
            '<office:automatic-styles><text:list-style style:name="N"><text:list-level-style-number text:level="1"'
            ' style:num-format="1"/></text:list-style></office:automatic-styles>'
            f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>",
            "meta.xml": f'{XML}<office:document-meta {ODF} xmlns:dc="http://purl.org/dc/elements/1.1/"><office:meta>'
            "<dc:title>Guide</dc:title><dc:creator>Ana</dc:creator></office:meta></office:document-meta>",
            "META-INF/manifest.xml": f"{XML}<manifest/>",
        }
    )


ODT_BODY = (
    '<text:h text:outline-level="1">Warden guide</text:h><text:p>R&amp;D<text:s text:c="2"/>keeps'
    ' <text:a xlink:href="https://example.org/x">the site</text:a>.</text:p><text:h text:outline-level="2">Limits</text:h>'
    "<text:list><text:list-item><text:p>Item</text:p><text:list><text:list-item><text:p>Inner</text:p></text:list-item>"
    '</text:list></text:list-item></text:list><text:list text:style-name="N"><text:list-item><text:p>Step</text:p>'
    "</text:list-item></text:list><table:table><table:table-row><table:table-cell><text:p>Name</text:p></table:table-cell>"
    "<table:table-cell><text:p>Days</text:p></table:table-cell></table:table-row><table:table-row><table:table-cell>"
    "<text:p>a | b</text:p></table:table-cell><table:table-cell><text:p>90</text:p></table:table-cell></table:table-row>"
    "</table:table>"
)
ODP_BODY = "".join(
    f'<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>{title}</text:p></draw:text-box>'
    f"</draw:frame><draw:frame><draw:text-box><text:list><text:list-item><text:p>{words}</text:p></text:list-item>"
    "</text:list></draw:text-box></draw:frame><presentation:notes><text:p>unseen</text:p></presentation:notes></draw:page>"
    for title, words in (("First slide", "alpha"), ("Second slide", "beta"))
)
ODS_BODY = "".join(
    f'<table:table table:name="{name}"><table:table-row><table:table-cell><text:p>Name</text:p></table:table-cell>'
    '<table:table-cell table:number-columns-repeated="16383"/></table:table-row><table:table-row'
    f' table:number-rows-repeated="1048570"><table:table-cell/></table:table-row><table:table-row><table:table-cell>'
    f"<text:p>{cell}</text:p></table:table-cell></table:table-row></table:table>"
    for name, cell in (("Costs", "rent"), ("People", "Ana"))
)


def xlsx(cells: str = "R&amp;D &lt;b&gt; x_y") -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    types = f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>'
    links = "".join(
        f'<Relationship Id="r{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>' for n in (1, 2)
    )
    sheets = {
        f"xl/worksheets/sheet{n}.xml": f'{XML}<worksheet xmlns="{main}"><sheetData><row r="1"><c r="A1" t="inlineStr"><is>'
        f'<t>Name</t></is></c><c r="B1" t="inlineStr"><is><t>Days</t></is></c></row><row r="2"><c r="A2" t="inlineStr">'
        f'<is><t>{cells}</t></is></c><c r="B2"><v>90</v></c></row></sheetData></worksheet>'
        for n in (1, 2)
    }
    return zipped(
        {
            "[Content_Types].xml": XML + types,
            "_rels/.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1"'
            f' Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'{XML}<workbook xmlns="{main}" xmlns:r="{OFFICE}"><sheets><sheet name="Costs" sheetId="1"'
            ' r:id="r1"/><sheet name="People" sheetId="2" r:id="r2"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships">{links}</Relationships>',
            **sheets,
        }
    )


def pptx(words: str = "alpha R&amp;D") -> bytes:
    main = "http://schemas.openxmlformats.org/presentationml/2006/main"
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/main"
    head = f'xmlns:p="{main}" xmlns:a="{drawing}" xmlns:r="{OFFICE}"'
    shape = (
        "<p:sp><p:nvSpPr><p:cNvPr id='{0}' name='s{0}'/><p:cNvSpPr/><p:nvPr>{1}</p:nvPr></p:nvSpPr><p:spPr/><p:txBody>"
        "<a:bodyPr/><a:p><a:r><a:t>{2}</a:t></a:r></a:p></p:txBody></p:sp>"
    )
    slides = {
        f"ppt/slides/slide{n}.xml": f"{XML}<p:sld {head}><p:cSld><p:spTree>"
        + shape.format(2, '<p:ph type="title"/>', title)
        + shape.format(3, "", body)
        + "</p:spTree></p:cSld></p:sld>"
        for n, (title, body) in enumerate((("First slide", words), ("Second slide", "beta")), 1)
    }
    links = "".join(f'<Relationship Id="r{n}" Type="{OFFICE}/slide" Target="slides/slide{n}.xml"/>' for n in (1, 2))
    return zipped(
        {
            "[Content_Types].xml": f'{XML}<Types xmlns="{PACKAGE}/content-types"/>',
            "_rels/.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1"'
            f' Type="{OFFICE}/officeDocument" Target="ppt/presentation.xml"/></Relationships>',
            "ppt/presentation.xml": f'{XML}<p:presentation {head}><p:sldIdLst><p:sldId id="256" r:id="r1"/>'
            '<p:sldId id="257" r:id="r2"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships">{links}'
            "</Relationships>",
            **slides,
        }
    )


def epub() -> bytes:
    chapter = '<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>{}</h1><p>{}</p></body></html>'
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'{XML}<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": f'{XML}<package xmlns="http://www.idpf.org/2007/opf"'
            ' xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>The book</dc:title><dc:creator>Ana'
            '</dc:creator></metadata><manifest><item id="b" href="b%20two.xhtml"/><item id="a" href="../a.xhtml"/>'
            '</manifest><spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "a.xhtml": chapter.format("One", "First words &amp; more."),
            "OEBPS/b two.xhtml": chapter.format("Two", "Second words."),
        }
    )


RTF = (
    rb"{\rtf1\ansi\deff0{\fonttbl{\f0 Times;}}{\stylesheet{\s1\outlinelevel0 heading 1;}}"
    rb"{\pard\s1\outlinelevel0 Warden guide\par}{\pard R&D keeps <all> keys in a_b.\par}}"
)


def eml() -> bytes:
    mail = EmailMessage()
    mail["From"] = "Ana Müller <ana@example.org>"
    mail["To"] = "bo@example.org"
    mail["Subject"] = "Grüße an alle"
    mail["Date"] = "Mon, 02 Mar 2026 10:00:00 +0100"
    mail.set_content("Hallo,\n\nsiehe Anhang.\n")
    mail.add_alternative("<p>Hallo</p>", subtype="html")
    mail.add_attachment("# Notes\n\nwords\n", filename="notes.md")
    mail.add_attachment(docx(), maintype="application", subtype="octet-stream", filename="../guide.docx")
    inner = EmailMessage()
    inner["From"], inner["To"], inner["Subject"] = "bo@example.org", "ana@example.org", "Earlier"
    inner.set_content("What was said before.\n")
    mail.add_attachment(inner)
    return mail.as_bytes()


def mbox() -> bytes:
    mail = "From ana@example.org Mon Mar  2 10:00:00 2026\nFrom: ana@example.org\nSubject: {}\n\n{}\n\n"
    return (mail.format("One", "First words.") + mail.format("Two", "Second.\n>From here on")).encode()


def notebook(**output: object) -> bytes:
    shown = output or {"output_type": "stream", "text": ["42\n"]}
    cells = [
        {"cell_type": "markdown", "source": ["# Study\n", "\n", "Some words."]},
        {"cell_type": "code", "source": "# no heading\nprint(6 * 7)", "outputs": [shown]},
        {"cell_type": "markdown", "source": "## Result"},
    ]
    metadata = {"language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def pdf(*, pages: int = 2, empty: int = 0, mark: str = "", script: str = "", password: str = "") -> bytes:
    document = FPDF()
    document.set_title("Warden guide")
    document.set_author("Ana")
    for number in range(1, pages + 1):
        document.add_page()
        document.set_font("helvetica", size=14)
        document.start_section(f"Chapter {number}")
        document.cell(text=f"{mark}Chapter {number}", new_x="LMARGIN", new_y="NEXT")
        document.cell(text=f"Words of page {number}.", new_x="LMARGIN", new_y="NEXT")
    for _ in range(empty):
        document.add_page()
    if password:
        document.set_encryption(owner_password="owner", user_password=password)
    content = bytes(document.output())
    if script:
        # An action when it is opened: the reference takes the place of the catalogue's layout.
        action = f"/OpenAction<</S/JavaScript/JS({script})>>".encode()
        content = content.replace(b"/Type /Catalog", b"/Type /Catalog" + action)
    return content


def picture(text: str = "Kestrel warden 4711") -> bytes:
    """A PNG with a line of text."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (900, 160), 255)
    ImageDraw.Draw(image).text((30, 40), text, font=ImageFont.load_default(64), fill=0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def scan() -> bytes:
    """A PDF whose one page is a picture."""
    document = FPDF()
    document.add_page()
    document.image(io.BytesIO(picture()), w=180)
    return bytes(document.output())


def msg(attached: bytes = b"# Notes\n\nwords\n") -> bytes:
    wide = str.encode
    head = bytes(32) + struct.pack("<IIQ", 0x0039 << 16 | 0x40, 0, 134169264000000000)
    return compound(
        {
            "__properties_version1.0": head,
            "__substg1.0_0037001F": wide("Grüße", "utf-16-le"),
            "__substg1.0_1000001F": wide("Hallo,\r\n\r\nsiehe Anhang.\r\n", "utf-16-le"),
            "__substg1.0_0C1A001F": wide("Ana", "utf-16-le"),
            "__substg1.0_5D01001F": wide("ana@example.org", "utf-16-le"),
            "__substg1.0_0E04001F": wide("Bo", "utf-16-le"),
            "__attach_version1.0_#00000000": {
                "__substg1.0_3707001F": wide("notes.md", "utf-16-le"),
                "__substg1.0_37010102": attached,
            },
        }
    )


SECTOR = 512
_FREE, _END, _FAT, _NONE = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFF


def compound(tree: dict[str, object]) -> bytes:
    """A compound file (MS-CFB, version 3) with every stream in whole sectors: none is below the size of small ones."""
    entries: list[list[object]] = [["Root Entry", 5, b"", _NONE, _NONE]]
    _enter(tree, 0, entries)
    sectors: list[bytes] = []
    fat: list[int] = []
    starts = []
    for _, kind, content, _, _ in entries:
        assert isinstance(content, bytes)
        # Streams below 4,096 bytes lie elsewhere; ours are filled up with NULs, which readers of text cut off.
        content = content.ljust(4096, b"\0") if kind == 2 else content
        starts.append(_add(sectors, fat, content) if content else _END)
    directory = b"".join(
        _entry(str(name), int(str(kind)), int(str(right)), int(str(child)), start, content)
        for (name, kind, content, right, child), start in zip(entries, starts, strict=True)
    )
    first = _add(sectors, fat, directory.ljust(-(-len(directory) // SECTOR) * SECTOR, b"\0"))
    count = 1
    while (len(fat) + count) * 4 > count * SECTOR:
        count += 1
    places = range(len(fat), len(fat) + count)
    fat += [_FAT] * count
    fat += [_FREE] * (count * SECTOR // 4 - len(fat))
    table = struct.pack(f"<{len(fat)}I", *fat)
    header = struct.pack(
        "<8s16sHHHHH6xIIIIIIIIII",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", bytes(16), 0x3E, 3, 0xFFFE, 9, 6,
        0, count, first, 0, 4096, _END, 0, _END, 0, places[0],
    )  # fmt: skip
    header += struct.pack("<108I", *places[1:], *[_FREE] * (109 - count))
    return header + b"".join(sectors) + table


def _enter(tree: dict[str, object], parent: int, entries: list[list[object]]) -> None:
    # By length, then letters; each is the right neighbour of the one before.
    before = None
    for name in sorted(tree, key=lambda name: (len(name), name.upper())):
        value = tree[name]
        entries.append([name, 2, value, _NONE, _NONE] if isinstance(value, bytes) else [name, 1, b"", _NONE, _NONE])
        place = len(entries) - 1
        if before is None:
            entries[parent][4] = place
        else:
            entries[before][3] = place
        before = place
        if isinstance(value, dict):
            _enter(value, place, entries)


def _add(sectors: list[bytes], fat: list[int], content: bytes) -> int:
    start = len(sectors)
    blocks = [content[at : at + SECTOR].ljust(SECTOR, b"\0") for at in range(0, len(content), SECTOR)]
    sectors += blocks
    fat += [*range(start + 1, start + len(blocks)), _END]
    return start


def _entry(name: str, kind: int, right: int, child: int, start: int, content: object) -> bytes:
    assert isinstance(content, bytes)
    size = max(4096, len(content)) if kind == 2 else 0
    encoded = (name + "\0").encode("utf-16-le")
    return struct.pack(
        "<64sHBBIII16sIQQIQ", encoded, len(encoded), kind, 1, _NONE, right, child, bytes(16), 0, 0, 0, start, size
    )
