"""Lanes whose state is the test's own."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cortex_pipelines.lanes import Lanes, Limits
from cortex_pipelines.settings import load_settings


@pytest.fixture
def lanes(tmp_path: Path) -> Callable[..., Lanes]:
    """Lanes with variables, and limits that suit a test."""
    usual = Limits(connect=2, first=10, stall=0.5)

    def make(limits: Limits = usual, transport: httpx.AsyncBaseTransport | None = None, **variables: str) -> Lanes:
        settings = {"CORTEX_STATE": str(tmp_path / "state"), "CORTEX_LANE_CACHE": "off"} | variables
        return Lanes(load_settings(settings, env_file=None), limits, transport)

    return make
