"""Readings as receivers send them, and what is wrong with some of them."""

from dataclasses import dataclass

MAX_BATCH = 500
MIN_DBM = -120
MAX_DBM = 0


@dataclass(frozen=True)
class Reading:
    """A tag heard by a receiver at a second, with a signal strength in dBm."""

    tag: str
    receiver: str
    second: int
    dbm: int


class BadBatch(ValueError):
    """Why a batch is refused."""


def validate_batch(readings):
    """Refuse a batch that is too large; drop readings whose signal strength cannot be."""
    if len(readings) > MAX_BATCH:
        raise BadBatch(f"{len(readings)} readings, at most {MAX_BATCH} are taken")
    return [reading for reading in readings if MIN_DBM <= reading.dbm <= MAX_DBM]


def drop_duplicates(readings):
    """The same tag, receiver and second count once."""
    return list({(r.tag, r.receiver, r.second): r for r in readings}.values())
