"""The 7z format, read as a stream: its directory, and the content of its files one after another."""

import bz2
import lzma
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

MAGIC = b"7z\xbc\xaf\x27\x1c"
# Names take most of a directory: this holds half a million of them. A directory may be compressed, so it can be a bomb.
DIRECTORY_BYTES = 32 * 2**20

_BLOCK = 2**16
_COPY, _LZMA, _LZMA2, _BZIP2, _AES = b"\x00", b"\x03\x01\x01", b"\x21", b"\x04\x02\x02", b"\x06\xf1\x07\x01"
_DELTA, _X86 = b"\x03", b"\x03\x03\x01\x03"
# From 1601 to 1970 in seconds: what times of Windows count from, in 100 ns.
_EPOCH = 11_644_473_600


class Damaged(ValueError):
    """The bytes are not what the format asks for."""


class Encrypted(ValueError):
    """There is a password on it."""


class TooMany(ValueError):
    """It lists more members than are wanted."""


@dataclass(slots=True)
class File:
    """A file of the directory: its size in bytes, its time in seconds since the epoch (0: not told), its unix mode."""

    name: str
    size: int = 0
    time: int = 0
    mode: int = 0
    folder: bool = False
    has_content: bool = True
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Coder:
    """A step of a folder's decompression."""

    method: bytes
    properties: bytes


@dataclass(slots=True)
class Folder:
    """A run of files compressed together: its coders in the order of decompression, its place, its sizes in bytes."""

    coders: list[Coder]
    sizes: list[int] = field(default_factory=list)
    """What each coder puts out, as the directory lists them."""
    last: int = 0
    """Which of them is the content."""
    offset: int = 0
    packed: int = 0
    crc: int | None = None
    parts: list[int] = field(default_factory=list)
    crcs: list[int | None] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.sizes[self.last]

    @property
    def encrypted(self) -> bool:
        return any(coder.method == _AES for coder in self.coders)


class Decompressor(Protocol):
    """What the standard library's decompressors have in common."""

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes: ...


def read_directory(file: BinaryIO, most_files: int) -> tuple[list[File], list[Folder]]:
    """The files and folders of an archive.

    Raises `Damaged`, `Encrypted`, `TooMany`, or `NotImplementedError` for a method.
    """
    start = file.read(32)
    if (
        len(start) < 32
        or not start.startswith(MAGIC)
        or zlib.crc32(start[12:]) != struct.unpack_from("<I", start, 8)[0]
    ):
        raise Damaged("the start")
    offset, size, crc = struct.unpack_from("<QQI", start, 12)
    if not size:
        return [], []
    data = _bytes_at(file, 32 + offset, size)
    # A directory that is compressed is described by another one, which may be compressed again: not for ever.
    for _ in range(4):
        if zlib.crc32(data) != crc:
            raise Damaged("the directory's checksum")
        reader = _Reader(data, most_files)
        kind = reader.byte()
        if kind == 0x01:
            return reader.header()
        if kind != 0x17:
            break
        [packed] = reader.streams()
        if packed.size > DIRECTORY_BYTES:
            raise Damaged("the directory's size")
        data = b"".join(content(file, packed))
        crc = packed.crc if packed.crc is not None else zlib.crc32(data)
    raise Damaged("the directory")


def content(file: BinaryIO, folder: Folder) -> Iterator[bytes]:
    """What a folder decompresses to, in blocks, all of it or `Damaged`."""
    decompressor = _decompressor(folder)
    at, end, left = folder.offset, folder.offset + folder.packed, folder.size
    while left:
        data = b""
        if decompressor is None or decompressor.needs_input:
            # Whoever was given a block may have read elsewhere in the file.
            file.seek(at)
            data = file.read(min(_BLOCK, end - at))
            at += len(data)
        block = data if decompressor is None else decompressor.decompress(data, min(left, _BLOCK))
        if not block and not data:
            raise Damaged("it ends early")
        block = block[:left]
        left -= len(block)
        yield block


def _bytes_at(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > DIRECTORY_BYTES:
        raise Damaged("the directory's size")
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise Damaged("it ends early")
    return data


def _decompressor(folder: Folder) -> Decompressor | None:
    """For the coders of a folder; None where there is nothing to decompress."""
    if folder.encrypted:
        raise Encrypted
    first, *filters = folder.coders
    if first.method == _COPY and not filters:
        return None
    if first.method == _BZIP2 and not filters:
        return bz2.BZ2Decompressor()
    if first.method == _LZMA and not filters and len(first.properties) == 5:
        packed, dictionary = struct.unpack("<BI", first.properties)
        packed, lc = divmod(packed, 9)
        pb, lp = divmod(packed, 5)
        chain = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": _dictionary(dictionary, folder)}]
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain)
    if first.method == _LZMA2 and len(first.properties) == 1:
        [step] = first.properties
        size = 2**32 - 1 if step >= 40 else (2 | step & 1) << (step // 2 + 11)
        chain = [{"id": lzma.FILTER_LZMA2, "dict_size": _dictionary(size, folder)}]
        for coder in filters:
            if coder.method == _X86:
                chain.insert(0, {"id": lzma.FILTER_X86})
            elif coder.method == _DELTA and len(coder.properties) == 1:
                chain.insert(0, {"id": lzma.FILTER_DELTA, "dist": coder.properties[0] + 1})
            else:
                raise NotImplementedError
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain)
    raise NotImplementedError


def _dictionary(size: int, folder: Folder) -> int:
    """No dictionary reaches back further than there is content: what is asked for beyond is not allocated."""
    return min(size, max(4_096, folder.size), 2**31)


class _Reader:
    """The numbers and lists of a directory, in their order."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data = data
        self._at = 0
        self._most = most

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise Damaged("the directory ends early")
        self._at += size
        return found

    def number(self) -> int:
        """A number of up to eight bytes, whose first one tells by its leading ones how many follow."""
        first, value = self.byte(), 0
        for place in range(8):
            mask = 0x80 >> place
            if not first & mask:
                return value | (first & (mask - 1)) << (8 * place)
            value |= self.byte() << (8 * place)
        return value

    def count(self) -> int:
        found = self.number()
        if found > self._most:
            raise TooMany
        return found

    def expect(self, kind: int) -> None:
        if self.byte() != kind:
            raise Damaged("the directory's order")

    def bits(self, count: int) -> list[bool]:
        packed = self.take((count + 7) // 8)
        return [bool(packed[place // 8] & 0x80 >> place % 8) for place in range(count)]

    def defined(self, count: int) -> list[bool]:
        return [True] * count if self.byte() else self.bits(count)

    def checksums(self, count: int) -> list[int | None]:
        return [struct.unpack("<I", self.take(4))[0] if there else None for there in self.defined(count)]

    def header(self) -> tuple[list[File], list[Folder]]:
        folders: list[Folder] = []
        files: list[File] = []
        while kind := self.byte():
            if kind == 0x02:
                while self.number():
                    self.take(self.number())
            elif kind == 0x03:
                self.streams()
            elif kind == 0x04:
                folders = self.streams()
            elif kind == 0x05:
                files = self.files()
            else:
                raise Damaged("the directory's order")
        parts = [(size, crc) for folder in folders for size, crc in zip(folder.parts, folder.crcs, strict=True)]
        full = [file for file in files if file.has_content]
        if len(parts) != len(full):
            raise Damaged("files without content")
        for file, (size, crc) in zip(full, parts, strict=True):
            file.size, file.crc = size, crc
        return files, folders

    def streams(self) -> list[Folder]:
        folders: list[Folder] = []
        at, packed = 32, []
        while kind := self.byte():
            if kind == 0x06:
                at, count = 32 + self.number(), self.count()
                while kind := self.byte():
                    if kind == 0x09:
                        packed = [self.number() for _ in range(count)]
                    elif kind == 0x0A:
                        self.checksums(count)
                    else:
                        raise Damaged("the directory's order")
            elif kind == 0x07:
                folders = self.folders()
            elif kind == 0x08:
                self.parts(folders)
            else:
                raise Damaged("the directory's order")
        if len(packed) != len(folders):
            raise NotImplementedError
        for folder, size in zip(folders, packed, strict=True):
            folder.offset, folder.packed = at, size
            at += size
            if not folder.parts and not folder.crcs:
                folder.parts, folder.crcs = [folder.size], [folder.crc]
        return folders

    def folders(self) -> list[Folder]:
        self.expect(0x0B)
        count = self.count()
        self.expect(0)
        folders = [self.folder() for _ in range(count)]
        self.expect(0x0C)
        for folder in folders:
            folder.sizes = [self.number() for _ in folder.coders]
        while kind := self.byte():
            if kind != 0x0A:
                raise Damaged("the directory's order")
            for folder, crc in zip(folders, self.checksums(count), strict=True):
                folder.crc = crc
        return folders

    def folder(self) -> Folder:
        """A chain of coders with one input and one output each; others (BCJ2) are not read."""
        coders = []
        count = self.number()
        if not 0 < count <= 4:
            raise Damaged("a folder's coders")
        for _ in range(count):
            flags = self.byte()
            method = self.take(flags & 0x0F)
            if flags & 0x10:
                raise NotImplementedError
            coders.append(Coder(method, self.take(self.number()) if flags & 0x20 else b""))
        feeds = {}
        for _ in range(count - 1):
            fed, feeder = self.number(), self.number()
            feeds[feeder] = fed
        starts = set(range(count)) - set(feeds.values())
        if len(starts) != 1:
            raise Damaged("a folder's coders")
        order = [starts.pop()]
        while order[-1] in feeds and len(order) < count:
            order.append(feeds[order[-1]])
        if len(set(order)) != count or max(order) >= count:
            raise Damaged("a folder's coders")
        return Folder([coders[place] for place in order], last=order[-1])

    def parts(self, folders: list[Folder]) -> None:
        """How the content of each folder is cut into files."""
        counts = [1] * len(folders)
        kind = self.byte()
        if kind == 0x0D:
            counts = [self.count() for _ in folders]
            kind = self.byte()
        if sum(counts) > self._most:
            raise TooMany
        sized = kind == 0x09
        for folder, count in zip(folders, counts, strict=True):
            sizes = [self.number() for _ in range(count - 1)] if sized else []
            folder.parts = [*sizes, folder.size - sum(sizes)] if count else []
            if len(folder.parts) != count or any(size < 0 for size in folder.parts):
                raise Damaged("the files' sizes")
            folder.crcs = [None] * count
        if sized:
            kind = self.byte()
        whole = [folder for folder, count in zip(folders, counts, strict=True) if count == 1 and folder.crc is not None]
        for folder in whole:
            folder.crcs = [folder.crc]
        if kind == 0x0A:
            rest = [(folder, place) for folder in folders if folder not in whole for place in range(len(folder.parts))]
            for (folder, place), crc in zip(rest, self.checksums(len(rest)), strict=True):
                folder.crcs[place] = crc
            kind = self.byte()
        if kind:
            raise Damaged("the directory's order")

    def files(self) -> list[File]:
        files = [File("") for _ in range(self.count())]
        empty: list[File] = []
        while kind := self.number():
            part = _Reader(self.take(self.number()), self._most)
            if kind == 0x0E:
                for file, is_empty in zip(files, part.bits(len(files)), strict=True):
                    file.has_content = not is_empty
                    file.folder = is_empty
                empty = [file for file in files if not file.has_content]
            elif kind == 0x0F:
                for file, is_file in zip(empty, part.bits(len(empty)), strict=True):
                    file.folder = not is_file
            elif kind == 0x11:
                part.expect(0)
                names = part.rest().decode("utf-16-le", "surrogatepass").split("\0")
                if len(names) != len(files) + 1:
                    raise Damaged("the files' names")
                for file, name in zip(files, names, strict=False):
                    file.name = name
            elif kind == 0x14:
                for file, time in part.values(files, "<Q"):
                    file.time = time // 10_000_000 - _EPOCH
            elif kind == 0x15:
                for file, attributes in part.values(files, "<I"):
                    # The upper half is a unix mode where this bit says so; a link of Windows is told by another.
                    file.mode = attributes >> 16 if attributes & 0x8000 else 0
                    file.mode = stat.S_IFLNK if attributes & 0x400 else file.mode
        return files

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def values(self, files: list[File], form: str) -> Iterator[tuple[File, int]]:
        there = self.defined(len(files))
        self.expect(0)
        for file, defined in zip(files, there, strict=True):
            if defined:
                yield file, struct.unpack(form, self.take(struct.calcsize(form)))[0]
