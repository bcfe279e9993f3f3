"""What the calls of one run took: for the metadata of the asset that made them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortex_pipelines.lanes.calls import Attempt, Completion
    from cortex_pipelines.names import Lane

_NO_ATTEMPT = frozenset({"cached", "passed by"})
# Latencies beyond these are not kept one by one: the quantiles of the first are those of all, near enough.
KEPT_LATENCIES = 10_000


@dataclass
class LaneRecord:
    """The calls of one lane: counts, tokens as the servers count them, seconds of each call."""

    calls: int = 0
    failed: int = 0
    cached: int = 0
    fallbacks: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    served_by: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """As metadata: latencies are the median and the 95th percentile."""
        cuts = quantiles(self.seconds, n=20) if len(self.seconds) > 1 else [*self.seconds] * 20
        told = {name: value for name, value in vars(self).items() if name != "seconds"}
        return told | ({"p50_seconds": round(cuts[9], 3), "p95_seconds": round(cuts[18], 3)} if cuts else {})


class Records:
    """What was asked through one `Lanes`, by lane."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, LaneRecord] = {}
        self._thread = threading.Lock()

    def answered(self, lane: "Lane", completion: "Completion[Any]", seconds: float) -> None:
        """Count a call that was answered. A fallback is an answer of another endpoint than the first that was due."""
        with self._thread:
            record = self._of(completion.attempts, lane, seconds)
            record.cached += completion.cached
            record.fallbacks += completion.attempts[0].endpoint != completion.endpoint
            record.prompt_tokens += completion.prompt_tokens or 0
            record.completion_tokens += completion.completion_tokens or 0
            served = f"{completion.model} at {completion.endpoint}"
            record.served_by[served] = record.served_by.get(served, 0) + 1

    def failed(self, lane: "Lane", attempts: Sequence["Attempt"], seconds: float) -> None:
        """Count a call that nobody answered."""
        with self._thread:
            self._of(attempts, lane, seconds).failed += 1

    def told(self) -> dict[str, dict[str, Any]]:
        """Each lane that was called, and what its calls took."""
        with self._thread:
            return {str(lane): record.told() for lane, record in self._lanes.items()}

    def _of(self, attempts: Sequence["Attempt"], lane: "Lane", seconds: float) -> LaneRecord:
        record = self._lanes.setdefault(lane, LaneRecord())
        record.calls += 1
        for attempt in attempts:
            record.attempts += attempt.outcome not in _NO_ATTEMPT
        if len(record.seconds) < KEPT_LATENCIES:
            record.seconds.append(seconds)
        return record
