"""The entries of one archive (zip, tar and its compressed forms, 7z), in order, each opened as a stream of bytes."""

import bz2
import gzip
import io
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice, pairwise
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from cortex_pipelines.ingest import sevenzip

# What is read of a file to know it: the first block of a tar, in which its checksum lies, and some names of a zip.
HEAD_BYTES = 2_048
# Blocks are small, so that no decompressor puts out much at a time: bzip2 makes a million bytes of 22.
BLOCK_BYTES = 2**16
ZIP_BLOCK_BYTES = 4_096
# A header of tar holds names and times. The library reads as much of it as its size says.
HEADER_BYTES = 2**20
# Text of this size is worth no refusal, however well it is compressed.
ALWAYS_BYTES = 2**20
# The standard of Zstandard's own tools; a larger window is memory that the file asks for.
ZSTD_WINDOW_LOG = 27

LINK = "is a symbolic link"
HARD_LINK = "is a hard link"
DEVICE = "is a device or a pipe"
SPARSE = "is a file with holes"
ENCRYPTED = "is encrypted: save it without a password"
METHOD = "is compressed by a method that is not read"

_GZIP, _XZ, _ZSTD = b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
# Digits of pi, or of its root where nothing is in it: a text may begin with BZh.
_BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_ZIP_LOCAL, _ZIP_ENTRY, _ZIP_END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_ZIP_END_64, _ZIP_LOCATOR = b"PK\6\6", b"PK\6\7"
_ENTRY = struct.Struct("<4sxB2xHHHHLLLHHH4xLL")
_LOCAL_BYTES = 30
_UNIX = 3
_IN_EXTRA = 2**32 - 1
# The year 9999.
_LATEST = 253_370_764_800
# Formats that are one document, or one program, in a zip: what lies in each near its start.
_PACKAGES = re.compile(
    rb"\[Content_Types\]\.xml|_rels/\.rels|(docProps|word|xl|ppt|visio)/\w+\.xml|META-INF/|AndroidManifest\.xml"
    rb"|mimetypeapplication/(epub|vnd\.oasis|vnd\.sun)"
)
_PACKAGE_NAME = re.compile(
    r".*\.(do[ct][xm]|xl[st][xm]|xlsb|p[op][ts][xm]|vsdx|od[tspg]|ott|epub|[jwe]ar|aar|apk|ipa|xpi|key|pages|numbers|kmz"
    r"|3mf|sketch|fig|npz)",
    re.IGNORECASE,
)
_PLAIN_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")


class Refusal(Exception):
    """Why the rest of an archive is not read."""


class Entry(NamedTuple):
    """Something in an archive, as it names it: untrusted.

    `size` in bytes as the archive tells it, `time` in seconds since the epoch (0: not told), `fault` why it must not
    be read (empty: it may), `open` a stream of its content, to be read before the next entry is asked for.
    """

    name: str
    size: int
    time: int
    folder: bool
    fault: str
    open: Callable[[], BinaryIO]


def is_archive(name: str, head: bytes) -> bool:
    """Whether a file is an archive by its first `HEAD_BYTES`; documents that are zip files inside are none."""
    if head.startswith((_ZIP_LOCAL, _ZIP_END)):
        return not _PACKAGE_NAME.fullmatch(name) and not _is_package(head)
    return head.startswith((sevenzip.MAGIC, _GZIP, _XZ, _ZSTD)) or _is_bzip2(head) or _is_tar(head)


def entries(file: BinaryIO, name: str, most: int, ratio: int, spend: Callable[[int], None]) -> Iterator[Entry]:
    """The entries of an archive that starts where `file` is, which can be sought in.

    Raises `Refusal` behind the first `most` entries, or where the content is more than `ratio` times the archive;
    whatever else the libraries raise means damage. `spend` is told of each block of content before it is given.
    """
    head = file.read(HEAD_BYTES)
    file.seek(-len(head), io.SEEK_CUR)
    if head.startswith((_ZIP_LOCAL, _ZIP_END)):
        found = _zip(file, most, ratio, spend)
    elif head.startswith(sevenzip.MAGIC):
        found = _sevenzip(file, most, ratio, spend)
    else:
        found = _tar(file, head, name, ratio, spend)
    for count, entry in enumerate(found):
        if count == most:
            raise Refusal(f"has more than {most:,} members: the rest is not read")
        # What macOS adds of its own to the files of a zip.
        if not entry.name.startswith("__MACOSX/") and not entry.name.endswith("/.DS_Store"):
            yield entry


class _Content(io.RawIOBase):
    """A stream that may only be read onward, a little at a time, and tells what it gives. `packed` in bytes."""

    def __init__(
        self, stream: Any, packed: Callable[[], int], ratio: int, spend: Callable[[int], None], seekable: bool = False
    ) -> None:
        self._stream = stream
        self._packed = packed
        self._ratio = ratio
        self._spend = spend
        self._seekable = seekable
        self._at = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise ValueError("it asks to read too much at once")
        blocks = []
        while size and (block := self._stream.read(min(size, BLOCK_BYTES))):
            blocks.append(block)
            size -= len(block)
            self._at += len(block)
            self._spend(len(block))
            if self._at > ALWAYS_BYTES and self._at > self._ratio * self._packed():
                raise Refusal(f"unpacks to more than {self._ratio} times its size: the rest is not read")
        return b"".join(blocks)

    def tell(self) -> int:
        return self._at

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or place < self._at:
            raise ValueError("it asks to read backwards")
        if self._seekable:
            self._stream.seek(place - self._at, io.SEEK_CUR)
            self._at = place
        while self._at < place:
            if not self.read(min(place - self._at, BLOCK_BYTES)):
                raise EOFError
        return self._at


def _tar(file: BinaryIO, head: bytes, name: str, ratio: int, spend: Callable[[int], None]) -> Iterator[Entry]:
    """The entries of a tar, compressed or not; of what is compressed and no tar, itself."""
    opened, start = _decompressed(file, head), file.tell()
    plain = opened is file
    stream = _Content(opened, lambda: file.tell() - start, ratio if not plain else 2**62, spend, seekable=plain)
    first = head if plain else stream.read(tarfile.BLOCKSIZE)
    # A tar without members is blocks of zeros.
    if not plain and not _is_tar(first) and first.strip(b"\0"):
        yield _single(name, first, stream)
        return
    if not plain:
        # The first block again: the stream cannot be sought in.
        stream = _Content(_Rest(first, stream), lambda: 1, 2**62, lambda size: None)
    archive = tarfile.TarFile(fileobj=stream, mode="r", encoding="utf-8", errors="surrogateescape")
    while (member := archive.next()) is not None:
        # The library keeps every member it has seen.
        archive.members.clear()  # type: ignore[attr-defined]
        yield Entry(
            member.name,
            member.size,
            _time(member.mtime),
            member.isdir(),
            _tar_fault(member),
            lambda member=member: cast(BinaryIO, archive.extractfile(member)),  # type: ignore[misc]
        )
    if not plain:
        # The checksum of all that was compressed is behind it.
        while stream.read(BLOCK_BYTES):
            pass


class _Rest:
    """A stream of which some is already read."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int) -> bytes:
        if not self._head:
            return cast(bytes, self._stream.read(size))
        found, self._head = self._head[:size], self._head[size:]
        return found


def _single(name: str, first: bytes, stream: _Content) -> Entry:
    inner = PurePosixPath(name).name
    suffix = PurePosixPath(inner).suffix.lower()
    inner = inner[: -len(suffix)] if suffix in _PLAIN_SUFFIXES else inner
    return Entry(inner or "content", 0, 0, False, "", lambda: cast(BinaryIO, _Rest(first, stream)))


def _decompressed(file: BinaryIO, head: bytes) -> Any:
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if _is_bzip2(head):
        return bz2.BZ2File(file)
    if head.startswith(_XZ):
        return lzma.LZMAFile(file)
    if head.startswith(_ZSTD):
        from backports import zstd

        return zstd.ZstdFile(file, options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})
    return file


def _is_bzip2(head: bytes) -> bool:
    return _BZIP2.match(head) is not None


def _is_tar(head: bytes) -> bool:
    """Whether a block is the head of a tar's member, by its checksum, which the oldest tars have too."""
    block = head[: tarfile.BLOCKSIZE]
    if len(block) < tarfile.BLOCKSIZE or not block[0]:
        return False
    with suppress(ValueError):
        told = int(block[148:156].strip(b" \0"), 8)
        return told == sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    return False


def _tar_fault(member: tarfile.TarInfo) -> str:
    if member.issym():
        return LINK
    if member.islnk():
        return HARD_LINK
    if member.issparse():
        return SPARSE
    return "" if member.isreg() or member.isdir() else DEVICE


class _Zip(zipfile.ZipFile):
    """Opens members that it is given: the library would read a directory of any size into memory first."""

    def _RealGetContents(self) -> None:
        pass


def _zip(file: BinaryIO, most: int, ratio: int, spend: Callable[[int], None]) -> Iterator[Entry]:
    start, size = _zip_directory(file)
    _refuse_overlaps(file, start, size, most)
    archive = _Zip(file)
    for info in _zip_entries(file, start, size):
        fault = ENCRYPTED if info.flag_bits & 1 else _mode_fault(info.external_attr >> 16)
        if not fault and info.file_size > max(ALWAYS_BYTES, ratio * info.compress_size):
            fault = f"unpacks to more than {ratio} times its size"

        def opened(info: zipfile.ZipInfo = info) -> BinaryIO:
            # The library gives no more than the size that the directory tells, and checks the checksum.
            stream = _Blocks(archive.open(info), ZIP_BLOCK_BYTES)
            return cast(BinaryIO, _Content(stream, lambda: info.compress_size, 2**62, spend))

        name = info.orig_filename
        if not info.flag_bits & 0x800:
            # Most tools of today write UTF-8 without saying so.
            with suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        yield Entry(name, info.file_size, _zip_time(info), name.endswith("/"), fault, opened)


class _Blocks:
    """A stream that is asked for little at a time, whatever it is asked for: some decompressors do not stop."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream = stream
        self._most = most

    def read(self, size: int) -> bytes:
        return cast(bytes, self._stream.read(min(size, self._most)))


def _zip_directory(file: BinaryIO) -> tuple[int, int]:
    """Where the directory of a zip starts, and its size in bytes."""
    end = file.seek(0, io.SEEK_END)
    start = max(0, end - 22 - 2**16)
    file.seek(start)
    tail = file.read()
    place = tail.rfind(_ZIP_END)
    if place < 0 or len(tail) < place + 22:
        raise zipfile.BadZipFile
    size, offset = struct.unpack_from("<LL", tail, place + 12)
    locator = start + place - 20
    if locator >= 0:
        file.seek(locator)
        found = file.read(20)
        if found.startswith(_ZIP_LOCATOR):
            file.seek(struct.unpack_from("<Q", found, 8)[0])
            record = file.read(56)
            if not record.startswith(_ZIP_END_64):
                raise zipfile.BadZipFile
            size, offset = struct.unpack_from("<QQ", record, 40)
    if offset + size > end:
        raise zipfile.BadZipFile
    return offset, size


def _zip_entries(file: BinaryIO, start: int, size: int) -> Iterator[zipfile.ZipInfo]:
    """The entries of a directory, read as they are asked for."""
    at, end = start, start + size
    while at < end:
        file.seek(at)
        head = file.read(_ENTRY.size)
        if len(head) < _ENTRY.size:
            raise EOFError
        mark, system, flags, method, time, date, crc, packed, full, name, extra, comment, mode, offset = _ENTRY.unpack(
            head
        )
        if mark != _ZIP_ENTRY:
            raise zipfile.BadZipFile
        raw = file.read(name)
        info = zipfile.ZipInfo(raw.decode("utf-8" if flags & 0x800 else "cp437", "surrogateescape"))
        info.flag_bits, info.compress_type, info.CRC = flags, method, crc
        info.external_attr = mode if system == _UNIX else 0
        wide = _zip_wide(file.read(extra))
        info.file_size, info.compress_size, info.header_offset = (
            next(wide) if value == _IN_EXTRA else value for value in (full, packed, offset)
        )
        info.date_time = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, time % 32 * 2)
        at += _ENTRY.size + name + extra + comment
        yield info


def _zip_wide(extra: bytes) -> Iterator[int]:
    """The numbers of 64 bits that stand for those that do not fit into an entry, in their order."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = extra[at + 4 : at + 4 + size // 8 * 8]
            yield from struct.unpack(f"<{len(values) // 8}Q", values)
        at += 4 + size
    raise zipfile.BadZipFile


def _refuse_overlaps(file: BinaryIO, start: int, size: int, most: int) -> None:
    """Refuse an archive whose members share bytes: a few kilobytes of them can stand for petabytes."""
    infos = islice(_zip_entries(file, start, size), most)
    places = sorted((info.header_offset, info.header_offset + _LOCAL_BYTES + info.compress_size) for info in infos)
    places.append((start, start))
    if any(end > following for (_, end), (following, _) in pairwise(places)):
        raise Refusal("has members that lie over one another, as in a bomb: it is not read")


def _zip_time(info: zipfile.ZipInfo) -> int:
    with suppress(ValueError):
        return _time(datetime(*info.date_time, tzinfo=UTC).timestamp())
    return 0


def _sevenzip(file: BinaryIO, most: int, ratio: int, spend: Callable[[int], None]) -> Iterator[Entry]:
    try:
        files, folders = sevenzip.read_directory(file, most)
    except sevenzip.TooMany:
        raise Refusal(f"has more than {most:,} members: it is not read") from None
    for empty in files:
        if not empty.has_content:
            yield _sevenzip_entry(empty, "", io.BytesIO)
    full = (found for found in files if found.has_content)
    for folder in folders:
        pieces = _Pieces(sevenzip.content(file, folder))
        stream = _Content(pieces, partial(getattr, folder, "packed"), ratio, spend)
        fault = ENCRYPTED if folder.encrypted else ""
        start = 0
        for size in folder.parts:
            found = next(full)
            yield _sevenzip_entry(found, fault, partial(_part, stream, start, found))
            start += size


def _sevenzip_entry(found: sevenzip.File, fault: str, opened: Callable[[], BinaryIO]) -> Entry:
    time = _time(found.time)
    return Entry(found.name, found.size, time, found.folder, fault or _mode_fault(found.mode), opened)


def _part(stream: _Content, start: int, found: sevenzip.File) -> BinaryIO:
    stream.seek(start)
    return cast(BinaryIO, _Part(stream, found.size, found.crc))


class _Part:
    """The bytes of one file among those that are compressed together, which are checked at their end."""

    def __init__(self, stream: _Content, size: int, crc: int | None) -> None:
        self._stream = stream
        self._left = size
        self._crc = crc
        self._found = 0

    def read(self, size: int) -> bytes:
        block = self._stream.read(min(size, self._left))
        self._left -= len(block)
        self._found = zlib.crc32(block, self._found)
        if not self._left and self._crc not in (None, self._found):
            raise sevenzip.Damaged("the checksum")
        return block


class _Pieces:
    """Blocks of any size as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""

    def read(self, size: int) -> bytes:
        if not self._block:
            self._block = next(self._blocks, b"")
        found, self._block = self._block[:size], self._block[size:]
        return found


def _is_package(head: bytes) -> bool:
    """Whether a zip is a document, by the names that its start holds."""
    return any(_PACKAGES.match(head, found.start() + _LOCAL_BYTES) for found in re.finditer(_ZIP_LOCAL, head))


def _mode_fault(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return LINK
    return "" if stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR) else DEVICE


def _time(seconds: float) -> int:
    """A time that a calendar of four digits holds; others are none."""
    return int(seconds) if 0 < seconds < _LATEST else 0
