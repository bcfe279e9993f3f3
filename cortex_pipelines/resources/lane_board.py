"""Where machines tell each other of lanes' endpoints through the Dagster instance that they share."""

import json
import time
import zlib
from collections.abc import Mapping

import dagster as dg

from cortex_pipelines.settings import Settings

# Longer than a write takes; a lease is taken in the background of calls.
SETTLED_SECONDS = 0.5
PLACES = 64
_PREFIX = "cortex:lanes"


def lane_board(settings: Settings, instance: dg.DagsterInstance) -> "DagsterBoard | None":
    """The instance as a board, where `CORTEX_LANE_BOARD` says so."""
    told = settings.lane_board
    return DagsterBoard(instance) if told is not None and told.get_secret_value() == "dagster" else None


class DagsterBoard:
    """A board of lanes (`lanes.board.Board`) in the instance's key-value storage.

    That storage has no compare-and-set. Whoever wants a lease puts a claim of its own beside the others', and looks
    again a moment later: the oldest claim has it. That is exact as long as clocks agree to within that moment, and no
    two of the few who probe share one of the places for claims; Redis is exact without that.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._values = instance.daemon_cursor_storage

    def read(self, keys: list[str]) -> Mapping[str, str]:
        """The texts under these keys, as far as there are any."""
        found = self._values.get_cursor_values({f"{_PREFIX}:{key}" for key in keys})
        return {name.removeprefix(f"{_PREFIX}:"): text for name, text in found.items()}

    def write(self, texts: Mapping[str, str]) -> None:
        """Put texts under their keys."""
        self._values.set_cursor_values({f"{_PREFIX}:{key}": text for key, text in texts.items()})

    def lease(self, key: str, holder: str, seconds: float) -> bool:
        """Take a thing for so long; False where another holder has it."""
        if self._claims(key):
            return False
        now = time.time()
        self._claim(key, holder, now, now + seconds)
        time.sleep(SETTLED_SECONDS)
        if min(self._claims(key), default=None) == (now, holder):
            # The oldest from here on: one whose write took longer than the moment finds it taken.
            self._claim(key, holder, 0.0, now + seconds)
            return True
        self.release(key, holder)
        return False

    def release(self, key: str, holder: str) -> None:
        """Give back what `lease` gave."""
        if any(name == holder for _, name in self._claims(key)):
            self._claim(key, holder, 0.0, 0.0)

    def _claim(self, key: str, holder: str, since: float, until: float) -> None:
        self.write({f"lease:{key}:{zlib.crc32(holder.encode()) % PLACES}": json.dumps([since, until, holder])})

    def _claims(self, key: str) -> list[tuple[float, str]]:
        """Since when who claims it."""
        told = self.read([f"lease:{key}:{place}" for place in range(PLACES)])
        claims = [json.loads(text) for text in told.values()]
        return [(since, holder) for since, until, holder in claims if time.time() < until]
