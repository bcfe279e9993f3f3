"""The ZIP that a document is: its members within limits, and their XML."""

import io
import zipfile
import zlib
from xml.etree import ElementTree

from cortex_pipelines.ingest.parsing import Unreadable

# What a document unpacks to; a real one is some ten times its size.
UNPACKED_BYTES = 200 * 2**20
RATIO = 200
MEMBERS = 20_000
# A tree takes some eight times its text.
XML_BYTES = 32 * 2**20


class Package:
    """The members of a document's ZIP, read within limits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, UnicodeDecodeError):
            raise Unreadable("is a broken archive") from None
        size = sum(info.file_size for info in infos)
        if size > UNPACKED_BYTES or size > RATIO * len(data) or len(infos) > MEMBERS:
            raise Unreadable("unpacks to far more than a document holds")
        if any(info.flag_bits & 1 for info in infos):
            raise Unreadable("is encrypted")
        self.names = {info.filename: info for info in infos}

    def read(self, name: str, most: int = UNPACKED_BYTES) -> bytes:
        """A member; nothing where there is none. No more is unpacked than its size, which may be a lie."""
        info = self.names.get(name)
        if info is None:
            return b""
        if info.file_size > most:
            raise Unreadable(f"holds more than {most // 2**20} MiB in one part")
        try:
            with self._zip.open(info) as member:
                return member.read(info.file_size)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, zlib.error):
            raise Unreadable("is a broken archive") from None

    def xml(self, name: str) -> ElementTree.Element | None:
        """The tree of a member; None where there is none."""
        return xml_tree(self.read(name, XML_BYTES))


def xml_tree(content: bytes) -> ElementTree.Element | None:
    """The tree of XML; None of nothing. What declares entities is refused."""
    if not content:
        return None
    if b"<!ENTITY" in content:
        raise Unreadable("declares XML entities, which no document needs")
    try:
        return ElementTree.fromstring(content)  # noqa: S314  entities are refused; expat resolves no external ones
    except (ElementTree.ParseError, ValueError, LookupError):
        raise Unreadable("is a broken document: its XML is damaged") from None
