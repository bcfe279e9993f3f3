"""E-mail: its head and words, and what is attached as parts; one message, or the many of an mbox."""

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.header import decode_header
from email.message import Message
from email.utils import parsedate_to_datetime

from cortex_pipelines.ingest.decoding import decode
from cortex_pipelines.ingest.formats.draft import DETAIL_CHARACTERS, Draft, short
from cortex_pipelines.ingest.formats.html import page_tree, write_html
from cortex_pipelines.ingest.parsing import Parsed, Part, Unreadable

ATTACHMENTS = 1_000
# Parts of parts of ...: what mail programs write has a handful.
DEPTH = 20
BOUNDARIES = 20_000
_FIELDS = ("From", "To", "Cc", "Date")
_ENVELOPE = re.compile(rb"(?m)^From \S{1,300} .{0,80}\d{4}[^\n]{0,20}\n")
# In an mbox a line that begins like an envelope is quoted.
_QUOTED = re.compile(rb"(?m)^>(>*From )")


def parse_mail(media_type: str, data: bytes) -> Parsed:
    """A message."""
    draft = Draft()
    message = _message(data)
    parts = _write(draft, message)
    title = _field(message, "Subject")
    return draft.parsed(media_type, title, parts, {name.lower(): _field(message, name) for name in _FIELDS})


def parse_mbox(media_type: str, data: bytes) -> Parsed:
    """A folder of messages: each is a heading."""
    data = data.replace(b"\r\n", b"\n")
    starts = [found.start() for found in _ENVELOPE.finditer(data) if _begins(data, found.start())]
    draft = Draft()
    parts: list[Part] = []
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        head = data.index(b"\n", start) + 1
        draft.apart()
        parts.extend(_write(draft, _message(_QUOTED.sub(rb"\1", data[head:end]))))
        if len(parts) > ATTACHMENTS:
            raise Unreadable(f"has more than {ATTACHMENTS} attachments")
    return draft.parsed(media_type, "", parts, {"messages": len(starts)})


def write_message(draft: Draft, subject: str, fields: dict[str, str], body: str) -> None:
    """A message as mail programs print it."""
    draft.heading(1, subject or "(no subject)")
    told = [f"{name}: {value}" for name, value in fields.items() if value]
    if told:
        draft.block("\n".join(told))
    if body.strip():
        draft.block(body.strip("\n"))


def _begins(data: bytes, start: int) -> bool:
    return start == 0 or data[start - 2 : start] == b"\n\n"


def _message(data: bytes) -> "Message[str, str]":
    # The parser goes into what is nested one call deeper each time, and looks for every open boundary in every line.
    if data.count(b"\n--") > BOUNDARIES or len(re.findall(rb"(?i)\bboundary\s*=", data)) > ATTACHMENTS:
        raise Unreadable("is a mail with more parts than anyone sends")
    try:
        return message_from_bytes(data)
    except RecursionError:
        raise Unreadable("is a mail that is nested too deep") from None


def _write(draft: Draft, message: "Message[str, str]") -> list[Part]:
    plain: list[str] = []
    pages: list[str] = []
    parts: list[Part] = []
    for part in _leaves(message, 0):
        kind = part.get_content_type()
        name = part.get_filename()
        attached = part.get_content_disposition() == "attachment" or bool(name)
        if kind == "message/rfc822":
            inner = part.get_payload()
            if isinstance(inner, list) and inner and isinstance(inner[0], Message):
                parts.append(Part(_decoded(name or "message.eml"), inner[0].as_bytes()))
        elif attached or not kind.startswith("text/"):
            # Pictures of a signature are shown inline, and are no documents.
            drawn = kind.startswith("image/") and (part.get_content_disposition() != "attachment" or not name)
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and content and not drawn:
                parts.append(Part(_decoded(name or f"attachment.{part.get_content_subtype()}"), content))
        elif kind == "text/html":
            pages.append(_text(part))
        else:
            plain.append(_text(part))
        if len(parts) > ATTACHMENTS:
            raise Unreadable(f"has more than {ATTACHMENTS} attachments")
    fields = {name: _field(message, name) for name in _FIELDS}
    body = "\n\n".join(text.strip("\n") for text in plain if text.strip())
    write_message(draft, _field(message, "Subject"), fields, body)
    if not body:
        for page in pages:
            _write_page(draft, page)
    return parts


def _write_page(draft: Draft, page: str) -> None:
    write_html(draft, page_tree(page).body)


def _leaves(message: "Message[str, str]", depth: int) -> "Iterator[Message[str, str]]":
    if depth > DEPTH:
        raise Unreadable("is a mail that is nested too deep")
    payload = message.get_payload()
    if message.get_content_type() == "message/rfc822" or not isinstance(payload, list):
        yield message
        return
    for part in payload:
        if isinstance(part, Message):
            yield from _leaves(part, depth + 1)


def _text(part: "Message[str, str]") -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    charset = part.get_content_charset()
    try:
        text = content.decode(charset) if charset else decode(content)
    except (LookupError, UnicodeError):
        text = decode(content)
    if text is None:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _field(message: "Message[str, str]", name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    if name == "Date":
        try:
            return parsedate_to_datetime(str(value)).isoformat()
        except (ValueError, TypeError, IndexError, OverflowError):
            return short(str(value))
    return short(_decoded(str(value)[: 8 * DETAIL_CHARACTERS]))


def _decoded(value: str) -> str:
    """Words of a head that may be encoded, and may lie about how."""
    words = []
    try:
        for word, charset in decode_header(value):
            try:
                words.append(word if isinstance(word, str) else word.decode(charset or "utf-8", "replace"))
            except LookupError:
                words.append(word.decode("utf-8", "replace") if isinstance(word, bytes) else word)
    except ValueError:
        return value
    return "".join(words)
