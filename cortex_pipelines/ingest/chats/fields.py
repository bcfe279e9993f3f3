"""Fields of an export: what is there and of its kind, since any of it may be missing or of another."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

NAME_CHARACTERS = 120
# Seconds after the epoch are larger than this only in milliseconds.
_MILLISECONDS = 1e11
_BREAK = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNUSUAL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def string(value: object) -> str:
    """A string, or the empty one."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """A list, or an empty one."""
    return value if isinstance(value, list) else []


def objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects of a list."""
    return (item for item in sequence(value) if isinstance(item, dict))


def plain(text: str) -> str:
    """Text whose lines end with line feeds, without control characters and halves of characters."""
    if not _UNUSUAL.search(text):
        return text
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _BREAK.sub("\n", text)))


def one_line(text: str, characters: int = NAME_CHARACTERS) -> str:
    """A name or a title: one line, only what can be seen."""
    seen = text[: 4 * characters]
    if not seen.isprintable():
        seen = "".join(letter if letter.isprintable() else " " * letter.isspace() for letter in seen)
    return " ".join(seen.split())[:characters].rstrip()


def moment(value: object) -> str:
    """A point in time as ISO 8601 in UTC: of seconds or milliseconds after the epoch, or of a text that has its zone.

    A text that does not tell a point in time is left as it is.
    """
    if isinstance(value, str):
        return _moment_of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    try:
        seconds = float(value)
        if not math.isfinite(seconds):
            return ""
        seconds = seconds / 1000 if abs(seconds) > _MILLISECONDS else seconds
        return _utc(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, OSError, ValueError):
        return ""


def placeholder(kind: str, name: str = "") -> str:
    """What stands for an image, a file or a sound: `[image: plan.png]`."""
    name = one_line(re.sub(r"[\[\]]", " ", name))
    return f"[{kind}: {name}]" if name else f"[{kind}]"


def attached(name: str, media_type: str = "") -> str:
    """The placeholder of an attached file."""
    image = media_type.startswith("image/") or re.search(r"(?i)\.(?:png|jpe?g|gif|webp|svg|heic)$", name[-10:])
    return placeholder("image" if image else "attachment", name)


def _moment_of_text(text: str) -> str:
    try:
        if re.fullmatch(r"\d{9,13}(?:\.\d{1,9})?", text):
            return moment(float(text))
        point = datetime.fromisoformat(text)
        return text if point.tzinfo is None else _utc(point)
    except (OverflowError, ValueError):
        return text


def _utc(point: datetime) -> str:
    return point.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
