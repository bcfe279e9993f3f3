"""Where machines tell each other of lanes' endpoints through the Dagster instance that they share."""

import json
import time
from collections.abc import Mapping

import dagster as dg

from cortex_pipelines.settings import Settings

# Longer than a write takes; a lease is taken in the background of calls.
SETTLED_SECONDS = 0.25
_PREFIX = "cortex:lanes"


def lane_board(settings: Settings, instance: dg.DagsterInstance) -> "DagsterBoard | None":
    """The instance as a board, where `CORTEX_LANE_BOARD` says so."""
    told = settings.lane_board
    return DagsterBoard(instance) if told is not None and told.get_secret_value() == "dagster" else None


class DagsterBoard:
    """A board of lanes (`lanes.board.Board`) in the instance's key-value storage.

    That storage has no compare-and-set. Of those who take a lease at once the last to write has it, and the others see
    that when they look again a moment later. Redis is exact also where a write takes longer than that moment.
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
        if self._holder(key) not in (None, holder):
            return False
        self.write({f"lease:{key}": json.dumps([holder, time.time() + seconds])})
        time.sleep(SETTLED_SECONDS)
        return self._holder(key) == holder

    def release(self, key: str, holder: str) -> None:
        """Give back what `lease` gave."""
        if self._holder(key) == holder:
            self.write({f"lease:{key}": json.dumps([holder, 0])})

    def _holder(self, key: str) -> str | None:
        told = self.read([f"lease:{key}"]).get(f"lease:{key}")
        holder, until = json.loads(told) if told else (None, 0)
        return holder if time.time() < until else None
