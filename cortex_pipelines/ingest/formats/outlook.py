"""MSG: a mail as Outlook saves it, with what is attached as parts."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cortex_pipelines.ingest.formats.draft import Draft, short
from cortex_pipelines.ingest.formats.html import page_tree, write_html
from cortex_pipelines.ingest.formats.mail import ATTACHMENTS, write_message
from cortex_pipelines.ingest.parsing import Parsed, Part, Unreadable

if TYPE_CHECKING:
    import olefile

MEDIA_TYPE = "application/vnd.ms-outlook"
# Properties of MAPI, by number.
SUBJECT, BODY, HTML, SENDER, ADDRESS, TO, CC = "0037", "1000", "1013", "0C1A", "5D01", "0E04", "0E03"
SENT = 0x0039
NAME, LONG_NAME, CONTENT = "3704", "3707", "3701"
DEPTH = 3


def parse_msg(data: bytes) -> Parsed:
    """A message."""
    import olefile

    try:
        with olefile.OleFileIO(io.BytesIO(data)) as file:
            draft = Draft()
            parts: list[Part] = []
            fields = _write(file, [], draft, parts)
            title = _string(file, [], SUBJECT)
    except (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError):
        # The library meets a damaged file with any of these.
        raise Unreadable("is a broken MSG") from None
    return draft.parsed(MEDIA_TYPE, title, parts, {name.lower(): value for name, value in fields.items()})


def _write(file: olefile.OleFileIO, place: list[str], draft: Draft, parts: list[Part]) -> dict[str, str]:
    sender, address = _string(file, place, SENDER), _string(file, place, ADDRESS)
    fields = {
        "From": f"{sender} <{address}>" if sender and address and sender != address else sender or address,
        "To": _string(file, place, TO),
        "Cc": _string(file, place, CC),
        "Date": _sent(file, place),
    }
    body = _string(file, place, BODY)
    write_message(draft, short(_string(file, place, SUBJECT)), {n: short(v) for n, v in fields.items()}, body)
    if not body.strip() and (page := _string(file, place, HTML) or _page(file, place)):
        write_html(draft, page_tree(page).body)
    children = {
        entry[len(place)]
        for entry in file.listdir()
        if len(entry) > len(place) and entry[: len(place)] == place and entry[len(place)].startswith("__attach_version")
    }
    for child in sorted(children)[:ATTACHMENTS]:
        inside = [*place, child]
        name = _string(file, inside, LONG_NAME) or _string(file, inside, NAME) or "attachment"
        if content := _stream(file, [*inside, f"__substg1.0_{CONTENT}0102"]):
            parts.append(Part(name, content))
        elif len(place) < DEPTH and file.exists([*inside, f"__substg1.0_{CONTENT}000D"]):
            draft.apart()
            _write(file, [*inside, f"__substg1.0_{CONTENT}000D"], draft, parts)
    return fields


def _string(file: olefile.OleFileIO, place: list[str], number: str) -> str:
    wide = _stream(file, [*place, f"__substg1.0_{number}001F"])
    text = (
        wide.decode("utf-16-le", "replace") if wide else _narrow(_stream(file, [*place, f"__substg1.0_{number}001E"]))
    )
    return text.replace("\r\n", "\n").replace("\0", "")


def _page(file: olefile.OleFileIO, place: list[str]) -> str:
    return _narrow(_stream(file, [*place, f"__substg1.0_{HTML}0102"]))


def _narrow(content: bytes) -> str:
    from cortex_pipelines.ingest.decoding import decode

    return (decode(content) or content.decode("cp1252", "replace")) if content else ""


def _stream(file: olefile.OleFileIO, path: list[str]) -> bytes:
    return bytes(file.openstream(path).read()) if file.exists(path) else b""


def _sent(file: olefile.OleFileIO, place: list[str]) -> str:
    """When it was sent: 16 bytes a property, behind a head, with the time in units of 100 ns since 1601."""
    properties = _stream(file, [*place, "__properties_version1.0"])
    for start in range(32 if not place else 24, len(properties) - 15, 16):
        kind = int.from_bytes(properties[start : start + 4], "little")
        if kind == SENT << 16 | 0x40:
            ticks = int.from_bytes(properties[start + 8 : start + 16], "little")
            try:
                return (datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)).isoformat()
            except OverflowError:
                return ""
    return ""
