"""From an intent to a model server: resolution, one client, and fallback along the chain."""

from cortex_pipelines.lanes.calls import Attempt, Completion, Limits, Request
from cortex_pipelines.lanes.errors import AttemptError, LaneError, LaneFailed, LaneUnresolved
from cortex_pipelines.lanes.resolution import Endpoint, Origin, Resolved, chain, resolve
from cortex_pipelines.lanes.router import Lanes

__all__ = [
    "Attempt",
    "AttemptError",
    "Completion",
    "Endpoint",
    "LaneError",
    "LaneFailed",
    "LaneUnresolved",
    "Lanes",
    "Limits",
    "Origin",
    "Request",
    "Resolved",
    "chain",
    "resolve",
]
