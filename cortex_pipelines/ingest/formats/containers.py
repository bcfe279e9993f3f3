"""Documents inside ZIP and OLE containers: which format it is, and what is refused before any parser sees it."""

from cortex_pipelines.ingest.formats import docx, epub, odf, office, outlook
from cortex_pipelines.ingest.formats.package import Package
from cortex_pipelines.ingest.parsing import Parsed, Unreadable

_PACKAGES = (
    ("word/document.xml", docx.parse_docx),
    ("ppt/presentation.xml", office.parse_pptx),
    ("xl/workbook.xml", office.parse_xlsx),
    ("xl/workbook.bin", office.parse_xlsb),
    ("META-INF/container.xml", epub.parse_epub),
    ("content.xml", odf.parse_odf),
)


def parse_zip(media_type: str, data: bytes) -> Parsed:
    """An office document or a book."""
    package = Package(data)
    for member, reader in _PACKAGES:
        if member in package.names:
            return reader(package)
    return refuse_archive(media_type, data)


# Names inside OLE containers stand there as UTF-16.
_OLE = (
    ("EncryptedPackage", None, "is encrypted"),
    ("__properties_version1.0", outlook.parse_msg, ""),
    ("WordDocument", None, "is of Word before 2007: save it as DOCX"),
    ("PowerPoint Document", None, "is of PowerPoint before 2007: save it as PPTX"),
    ("Workbook", office.parse_xls, ""),
    ("Book", office.parse_xls, ""),
)


def parse_ole(media_type: str, data: bytes) -> Parsed:
    """A mail of Outlook or a workbook of old."""
    for name, reader, reason in _OLE:
        if name.encode("utf-16-le") in data:
            if reader is None:
                raise Unreadable(reason)
            return reader(data)
    raise Unreadable("is binary, or text in an unknown encoding")


def refuse_archive(media_type: str, data: bytes) -> Parsed:
    """An archive is no document."""
    raise Unreadable("is an archive, no document")
