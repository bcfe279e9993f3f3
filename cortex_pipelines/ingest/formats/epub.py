"""EPUB: the chapters of a book, in the order of its spine."""

import posixpath
from urllib.parse import unquote

from cortex_pipelines.ingest.decoding import decode
from cortex_pipelines.ingest.formats.draft import Draft
from cortex_pipelines.ingest.formats.html import page_tree, write_html
from cortex_pipelines.ingest.formats.package import Package
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

MEDIA_TYPE = "application/epub+zip"
DC = "{http://purl.org/dc/elements/1.1/}"
CHAPTERS = 5_000


def parse_epub(package: Package) -> Parsed:
    """A book."""
    if "META-INF/encryption.xml" in package.names and b"EncryptedKey" in package.read("META-INF/encryption.xml"):
        raise Unreadable("is encrypted")
    container = package.xml("META-INF/container.xml")
    rootfile = container.find(".//{*}rootfile") if container is not None else None
    path = rootfile.get("full-path", "") if rootfile is not None else ""
    book = package.xml(path)
    if book is None:
        raise Unreadable("is a broken EPUB")
    files = {item.get("id"): item.get("href", "") for item in book.iterfind(".//{*}item")}
    draft = Draft()
    for reference in book.findall(".//{*}itemref")[:CHAPTERS]:
        href = unquote(files.get(reference.get("idref"), ""))
        content = package.read(posixpath.normpath(posixpath.join(posixpath.dirname(path), href)))
        text = decode(content) if content else None
        if text:
            draft.apart()
            write_html(draft, page_tree(text).body)
    told = {name: book.findtext(f".//{DC}{key}") for name, key in _DETAILS.items()}
    return draft.parsed(MEDIA_TYPE, told.pop("title") or "", details=told)


_DETAILS = {"title": "title", "author": "creator", "date": "date", "language": "language", "subject": "subject"}
