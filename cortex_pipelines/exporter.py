"""What Prometheus scrapes: projects and their checks, lanes, and Dagster's runs, from one small server.

    python -m cortex_pipelines.exporter [--host 127.0.0.1] [--port 9300]

It reads what the processes of this machine left behind and asks no model server. A project's counts are those that its
last run told.
"""

import argparse
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cortex_pipelines.lanes import Lanes
from cortex_pipelines.lanes.metrics import METRICS
from cortex_pipelines.projects import find_projects
from cortex_pipelines.settings import Settings, load_settings
from cortex_pipelines.standing import Standing

FAILED_WITHIN = timedelta(days=1)


class Projects(Collector):
    """The counts and checks of every product, as its last run told them, and when the project was published last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterable[Metric]:
        """As the registry asks for it."""
        value = GaugeMetricFamily(
            "cortex_product_value",
            "A count of a product, such as quarantined of documents.",
            labels=("project", "product", "name"),
        )
        check = GaugeMetricFamily(
            "cortex_check_passed",
            "1 where a check of a product passed, 0 where it failed.",
            labels=("project", "product", "check", "severity"),
        )
        published = GaugeMetricFamily(
            "cortex_published_timestamp_seconds", "When a project was published last.", labels=("project",)
        )
        for project in self._settings.projects or find_projects(self._settings.inbox).projects:
            for product, told in _told(self._settings, project):
                for name, count in told.get("metadata", {}).items():
                    if isinstance(count, (int, float)) and not isinstance(count, bool):
                        value.add_metric((project, product, name), count)
                for name, verdict in told.get("verdicts", {}).items():
                    severity = "warning" if verdict["warn"] else "error"
                    check.add_metric((project, product, name, severity), float(verdict["passed"]))
            if (at := _published(self._settings, project)) is not None:
                published.add_metric((project,), at)
        return value, check, published


class LaneCounters(Collector):
    """What is known of lanes' endpoints, by all processes of this machine."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def collect(self) -> Iterator[Metric]:
        """As the registry asks for it."""
        statuses = self._lanes.health.statuses()
        for name, kind, told, value in METRICS:
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            metric = family(f"cortex_lane_{name}", told, labels=("endpoint", "model"))
            for status in statuses:
                metric.add_metric((status.name, status.model), value(status))
            yield metric


class Runs(Collector):
    """Dagster's runs: those that wait or are under way, and those of the last day that failed."""

    def collect(self) -> Iterator[Metric]:
        """As the registry asks for it."""
        import dagster as dg

        status = dg.DagsterRunStatus
        states = {
            "queued": [status.QUEUED, status.NOT_STARTED],
            "started": [status.STARTING, status.STARTED],
        }
        metric = GaugeMetricFamily("cortex_runs", "Runs that wait or are under way.", labels=("state",))
        failed = GaugeMetricFamily("cortex_runs_failed_last_day", "Runs that failed within 24 hours.")
        with dg.DagsterInstance.get() as instance:
            for name, statuses in states.items():
                metric.add_metric((name,), instance.get_runs_count(dg.RunsFilter(statuses=statuses)))
            lately = dg.RunsFilter(statuses=[status.FAILURE], created_after=datetime.now(UTC) - FAILED_WITHIN)
            failed.add_metric((), instance.get_runs_count(lately))
        yield metric
        yield failed


def registry(settings: Settings) -> CollectorRegistry:
    """Everything that is exported; runs only where there is an instance, which `DAGSTER_HOME` names."""
    found = CollectorRegistry()
    found.register(Projects(settings))
    found.register(LaneCounters(Lanes(settings)))
    if os.environ.get("DAGSTER_HOME"):
        found.register(Runs())
    return found


def _told(settings: Settings, project: str) -> list[tuple[str, Mapping[str, Any]]]:
    # A product tells an object; others, such as what is quarantined, a list.
    told = Standing(settings.state / project).told()
    return [(name, product) for name, product in told.items() if isinstance(product, dict)]


def _published(settings: Settings, project: str) -> float | None:
    from cortex_pipelines.store.publication import COPY

    try:
        return Path(settings.store, project, COPY).stat().st_mtime
    except OSError:
        # A bucket has no such file.
        return None


def main() -> None:
    """The command line; it serves until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m cortex_pipelines.exporter", description=(__doc__ or "")[:80])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9300)
    given = parser.parse_args()
    server, _ = start_http_server(given.port, given.host, registry(load_settings()))
    print(f"metrics at http://{given.host}:{server.server_port}/metrics", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
