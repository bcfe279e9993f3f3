"""The media type of a file, from its content; its name decides only among kinds of text."""

import re
from pathlib import PurePosixPath

from cortex_pipelines.ingest.languages import language_of

HEAD = 2_048
ARCHIVE = "application/x-archive"
ZIP = "application/zip"
OLE = "application/x-ole-storage"
# What begins a file of a type. Formats inside ZIP and OLE containers are told apart by their readers.
_MAGIC = (
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (b"{\\rtf", "application/rtf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"BM", "image/bmp"),
    (b"RIFF", "image/webp"),
    (b"\x1f\x8b", ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (b"BZh", ARCHIVE),
    (b"\xfd7zXZ\0", ARCHIVE),
    (b"\x28\xb5\x2f\xfd", ARCHIVE),
)
# Two letters or four begin many a text: a second look.
_MORE = {
    b"BM": re.compile(rb"BM.{4}\0{4}", re.S),
    b"RIFF": re.compile(rb"RIFF.{4}WEBP", re.S),
    b"BZh": re.compile(rb"BZh[1-9]1AY&SY"),
}
_FIELD = rb"[A-Za-z][A-Za-z0-9-]{1,60}:[ \t]?[^\n]*\n(?:[ \t][^\n]*\n)*"
_MAIL_FIELD = re.compile(
    rb"(?im)^(from|to|subject|date|message-id|received|return-path|mime-version|content-type|delivered-to):"
)
_FIELDS = re.compile(rb"(?:" + _FIELD + rb"){2,}")
_ENVELOPE = re.compile(rb"From \S{1,300} .{0,80}\d{4}[^\n]{0,20}\n")
# A mail's head tells at least this many of the fields above.
MAIL_FIELDS = 3

_HTML = re.compile(r"(?:<\?xml[^>]*>|<!--.*?-->|\s)*<(?:!doctype html|html[\s>])", re.I | re.S)
_XML = re.compile(r"\s*<\?xml\s")
# A list of numbers alone could be a time in brackets, and two brackets a link.
_JSON = re.compile(r'\s*(?:\{\s*["}]|\[\s*(?:["{\]]|\[\s*["{\[\d-]|-?\d[\d.eE+-]*\s*,|(?:true|false|null)\b))')
_NOTEBOOK = re.compile(r'"nbformat(?:_minor)?"\s*:\s*\d')
_SRT = re.compile(r"\s*\d{1,6}\s*\n\d\d:\d\d:\d\d[,.]\d{3} --> \d\d:\d\d:\d\d")
_LATEX = re.compile(r"\s*(?:%[^\n]*\n\s*)*\\document(?:class|style)\b")

_SUFFIXES = {
    suffix: media_type
    for media_type, suffixes in {
        "text/html": "html htm xhtml",
        "text/markdown": "md markdown mdown mkd mdx qmd",
        "text/x-rst": "rst rest",
        "text/asciidoc": "adoc asciidoc asc",
        "text/x-tex": "tex latex ltx",
        "text/csv": "csv",
        "text/tab-separated-values": "tsv tab",
        "application/json": "json geojson webmanifest",
        "application/jsonl": "jsonl ndjson",
        "application/yaml": "yaml yml",
        "application/toml": "toml",
        "application/xml": "xml xsd xsl xslt rss atom opml",
        "image/svg+xml": "svg",
        "text/vtt": "vtt",
        "application/x-subrip": "srt",
        "text/plain": "txt text log",
    }.items()
    for suffix in suffixes.split()
}


def binary_type(data: bytes) -> str | None:
    """The type of a file that is read from its bytes; None when it is text, or nothing known."""
    head = data[:HEAD]
    for magic, media_type in _MAGIC:
        if head.startswith(magic) and (magic not in _MORE or _MORE[magic].match(head)):
            return media_type
    # Readers of PDF take what stands before it.
    if b"%PDF-" in head[:1_024] and not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"#")):
        return "application/pdf"
    return _mail_type(head.replace(b"\r\n", b"\n"))


def _mail_type(head: bytes) -> str | None:
    envelope = _ENVELOPE.match(head)
    fields = _FIELDS.match(head, envelope.end() if envelope else 0)
    told = {name.lower() for name in _MAIL_FIELD.findall(fields[0])} if fields else set()
    if envelope and told:
        return "application/mbox"
    return "message/rfc822" if len(told) >= MAIL_FIELDS else None


def text_type(name: str, text: str) -> str:
    """The type of a text."""
    head = text[:HEAD]
    suffix = PurePosixPath(name).suffix[1:].lower()
    named = _SUFFIXES.get(suffix)
    if _HTML.match(head):
        return "text/html"
    if head.startswith("WEBVTT"):
        return "text/vtt"
    if _SRT.match(head):
        return "application/x-subrip"
    if named is None or named in ("text/plain", "application/json"):
        if _JSON.match(head):
            if suffix == "ipynb" or _NOTEBOOK.search(text):
                return "application/x-ipynb+json"
            if suffix in ("", "txt", "json"):
                return "application/json"
        if _XML.match(head):
            return "image/svg+xml" if "<svg" in head else "application/xml"
        if _LATEX.match(head):
            return "text/x-tex"
    if named:
        return named
    language = language_of(name)
    return f"text/x-{language}" if language else "text/plain"
