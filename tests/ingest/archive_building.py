"""Archives for tests: honest ones made by the formats' own programs, and hostile ones no program would make."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import py7zr
from backports import zstd

FORMATS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst", "7z")
COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}
# 2026-01-02 03:04:06 UTC; zip files tell even seconds only.
TIME = 1_767_323_046


def pack(form: str, files: Mapping[str, bytes]) -> bytes:
    """An archive of one of `FORMATS`."""
    if form == "zip":
        return make_zip(files)
    if form == "7z":
        return make_7z(files)
    data = make_tar(file_info(name, content) for name, content in files.items())
    return COMPRESS[form.removeprefix("tar.")](data) if form != "tar" else data


def make_zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, mode: int = 0o100644) -> bytes:
    """A zip; names go in as they are."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            info.external_attr = mode << 16
            info.create_system = 3
            archive.writestr(info, content, method)
    return made.getvalue()


def make_7z(
    files: Mapping[str, bytes], password: str | None = None, hide: bool = False, filters: object = None
) -> bytes:
    """A 7z; with `hide`, its names are encrypted too."""
    made = io.BytesIO()
    with py7zr.SevenZipFile(made, "w", password=password, header_encryption=hide, filters=filters) as archive:
        for name, content in files.items():
            archive.writestr(content, name)
    return made.getvalue()


Piece = tuple[tarfile.TarInfo, bytes]


def file_info(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "") -> Piece:
    """A member of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, to, len(content), TIME
    return info, content


def make_tar(pieces: Iterable[Piece], form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for info, content in pieces:
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def renamed(archive: bytes, name: bytes, other: bytes) -> bytes:
    """A zip or tar with a name of the same length put in, whatever it is."""
    assert len(name) == len(other) and name in archive
    return archive.replace(name, other)


def zip_of(members: Iterable[tuple[bytes, bytes]], shared: bytes | None = None) -> bytes:
    """A zip written by hand: stored members of any name; all at the place of one when `shared` is its content."""
    local, directory, count = bytearray(), bytearray(), 0
    for count, (name, content) in enumerate(members, 1):
        offset = len(local)
        data = content if shared is None else shared
        fields = struct.pack(
            "<HHHHHLLLHH", 20, 0x800, 0, 0, 0x5C22, zlib.crc32(data), len(data), len(data), len(name), 0
        )
        if shared is None or count == 1:
            local += b"PK\3\4" + fields + name + data
        else:
            offset = 0
        directory += b"PK\1\2\x14\3" + fields + struct.pack("<HHHLL", 0, 0, 0, 0, offset) + name
    return bytes(local + directory) + end_of_zip(count, len(directory), len(local))


def end_of_zip(count: int, size: int, offset: int) -> bytes:
    """The end of a zip as it tells its directory, in 64 bits."""
    wide = b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, offset + size, 1)
    few = min(count, 2**16 - 1)
    return wide + locator + b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, few, few, 2**32 - 1, 2**32 - 1, 0)


def nested(levels: int, innermost: bytes = b"at the bottom\n") -> bytes:
    """A zip in a zip in a zip."""
    data = make_zip({"bottom.txt": innermost})
    for _ in range(levels - 1):
        data = make_zip({"inner.zip": data})
    return data


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def quine() -> bytes:
    """A Zstandard frame that unpacks to itself, for ever.

    It is written in units of twelve bytes: `copy(n)` puts out the n units that follow it, `again(n)` the last n that
    were put out. Each operation is one unit long, so the program can put out its own operations.
    """
    nothing = bytes(3)

    def block(kind: int, size: int, last: bool = False) -> bytes:
        return struct.pack("<I", size << 3 | kind << 1 | last)[:3]

    def copy(units: int) -> bytes:
        return nothing * 3 + block(0, units * 12)

    def again(units: int) -> bytes:
        # One sequence without literals: how far back, how long, each as a code and bits beside it.
        far, (length, low, bits) = units * 12 + 3, {2: (21, 0, 0), 4: (37, 1, 2)}[units]
        code = far.bit_length() - 1
        stream = low | far - (1 << code) << bits | 1 << code + bits
        return block(2, 9) + bytes([0x0C, 0, 0, 1, 0x54, 0, code, length, stream])

    start = b"\x28\xb5\x2f\xfd\0\0" + nothing * 2
    end = nothing * 3 + block(0, 0, last=True)
    units = [start, copy(2), start, copy(2), again(2), copy(1), again(2), copy(1), copy(1)]
    units += [copy(4), again(2), copy(1), copy(1), copy(4), again(4), copy(4), again(4), copy(4), again(4), copy(4)]
    units += [again(4), copy(4), nothing * 4, nothing * 4, again(2), end, again(2), end]
    return b"".join(units)
