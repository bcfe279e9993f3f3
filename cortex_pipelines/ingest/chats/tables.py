"""Chats as tables: CSV whose header names who, when and what."""

import csv
import io
from collections.abc import Iterator

from cortex_pipelines.ingest.chats.fields import attached, moment
from cortex_pipelines.ingest.chats.reading import Reading
from cortex_pipelines.ingest.chats.transcripts import Said

HEADER_BYTES = 2_000
_COLUMNS = {
    "time": ("timestamp", "time", "date", "datetime", "date time", "created at", "sent at", "sent", "send date"),
    "speaker": ("user", "author", "from", "sender", "speaker", "username", "user name", "sender name", "from name"),
    "text": ("message", "text", "content", "body", "message text", "message content", "msg"),
    "thread": (
        "channel",
        "thread",
        "conversation",
        "room",
        "chat",
        "chat session",
        "channel name",
        "conversation title",
    ),
}
# Such a table lists commits or letters, not a chat.
_OTHERS = {"commit", "hash", "sha", "revision", "subject", "status", "priority", "level", "severity"}


def is_table(data: bytes) -> bool:
    header = data[:HEADER_BYTES].partition(b"\n")[0].decode("utf-8-sig", "replace")
    return _layout(header) is not None


def read_table(text: str, reading: Reading) -> Iterator[Said]:
    layout = _layout(text.partition("\n")[0])
    if layout is None:
        return
    delimiter, columns = layout
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(rows)
    for row in rows:
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
        files = cells.get("attachments", "")
        words = "\n".join([cells["text"], *(attached(file.rpartition("/")[2]) for file in files.split(",") if file)])
        yield Said(cells["speaker"], moment(cells["time"]), words, cells.get("thread") or "Messages")


def _layout(header: str) -> tuple[str, dict[str, int]] | None:
    """The delimiter and the columns of a chat's header."""
    for delimiter in ",;\t":
        if delimiter not in header:
            continue
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            return None
        names = [cell.strip(" \"'\ufeff\r").lower().replace("_", " ") for cell in cells]
        if _OTHERS & set(names):
            return None
        columns = {
            kind: names.index(name)
            for kind, known in _COLUMNS.items()
            if (name := next((name for name in known if name in names), None)) is not None
        }
        if {"time", "speaker", "text"} <= set(columns):
            if "attachments" in names:
                columns["attachments"] = names.index("attachments")
            return delimiter, columns
    return None
