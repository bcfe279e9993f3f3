"""One run over a project without Dagster: every product in order, its report, and a summary for people."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cortex_pipelines.lanes import Lanes
from cortex_pipelines.lanes.records import Records
from cortex_pipelines.products import PRODUCTS, Product, build, quarantined, write_report
from cortex_pipelines.settings import Settings
from cortex_pipelines.stairs import Outcome, Work
from cortex_pipelines.store import ProjectStore

QUARANTINE_SHOWN = 20


@dataclass(frozen=True)
class Built:
    """One product of a run: `blocked` names the product whose failed check kept it from being built.

    `lanes` is what each lane that was asked took.
    """

    product: Product
    outcome: Outcome
    seconds: float
    blocked: str | None = None
    lanes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """A run over one project."""

    project: str
    built: tuple[Built, ...]
    quarantine: tuple[tuple[str, str], ...]
    reports: str
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether anything was different from the last run."""
        return any(item.outcome.changed for item in self.built)

    @property
    def failed(self) -> tuple[str, ...]:
        """Every failed check that is an error, as `product: check`."""
        return tuple(f"{item.product.name}: {check}" for item in self.built for check in item.outcome.failed)

    def as_json(self) -> dict[str, Any]:
        """The summary as a script reads it."""
        return {
            "project": self.project,
            "changed": self.changed,
            "failed": list(self.failed),
            "quarantine": [{"path": path, "reason": reason} for path, reason in self.quarantine],
            "reports": self.reports,
            "seconds": round(self.seconds, 3),
            "products": {
                item.product.name: {
                    "changed": item.outcome.changed,
                    "seconds": round(item.seconds, 3),
                    "blocked_by": item.blocked,
                    "metadata": _jsonable(item.outcome.metadata),
                    "lanes": {lane: dict(told) for lane, told in item.lanes.items()},
                    "checks": {name: verdict.passed for name, verdict in item.outcome.verdicts.items()},
                }
                for item in self.built
            },
        }


def run_project(
    project: str,
    settings: Settings,
    force: bool = False,
    report: Callable[[str, int, int], None] = lambda product, done, of: None,
    products: Sequence[Product] = PRODUCTS,
    quiet: bool = False,
) -> Summary:
    """Build `products` of a project, which are in their order; if `quiet`, only from what no longer grows.

    `report` hears the product and how many of its batches are done, of how many.

    A product whose check failed blocks what is built from it, as in Dagster; the others are built.
    """
    started = time.monotonic()
    lanes = Lanes(settings)
    work = Work(
        project,
        settings,
        ProjectStore(settings.store, project, settings.state),
        lanes if lanes.configured else None,
        force,
        quiet,
        looked=[],
    )
    built: list[Built] = []
    stopped: dict[str, str] = {}
    for product in products:
        if culprit := next((stopped[dep] for dep in product.deps if dep in stopped), None):
            stopped[product.name] = culprit
            built.append(Built(product, Outcome(), 0.0, culprit))
            continue
        began = time.monotonic()
        report(product.name, 0, 0)
        lanes.records = Records()
        outcome = build(product, work, lambda done, of, name=product.name: report(name, done, of))  # type: ignore[misc]
        built.append(Built(product, outcome, time.monotonic() - began, lanes=lanes.records.told()))
        if outcome.failed:
            stopped[product.name] = product.name
    report("done", 0, 0)
    for item in built:
        if item.blocked is None:
            write_report(item.product, work, item.outcome)
    return Summary(
        project,
        tuple(built),
        tuple(quarantined(work)),
        str(settings.reports / project),
        time.monotonic() - started,
    )


def summary_lines(summary: Summary) -> Iterator[str]:
    """The summary for people: what was read and skipped and why, what was found, where the reports are."""
    if summary.changed:
        width = max(len(item.product.name) for item in summary.built)
        yield f"{summary.project}:"
        for item in summary.built:
            yield f"  {item.product.name:<{width}}  {_told(item)}"
    else:
        yield f"{summary.project}: nothing changed since the last run ({summary.seconds:.1f} s)"
    if summary.quarantine:
        yield f"  not read, {len(summary.quarantine)}:"
        for path, reason in summary.quarantine[:QUARANTINE_SHOWN]:
            yield f"    {path}: {reason}"
        if (more := len(summary.quarantine) - QUARANTINE_SHOWN) > 0:
            yield f"    and {more} more, listed in the documents report"
    for failure in summary.failed:
        yield f"  FAILED check {failure}"
    yield f"  reports: {summary.reports}"


def _told(item: Built) -> str:
    if item.blocked is not None:
        return f"not built, blocked by a failed check of {item.blocked}"
    counts = ", ".join(
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value}"
        for name, value in item.outcome.metadata.items()
        if isinstance(value, (int, float, str)) and not isinstance(value, bool)
    )
    asked = "".join(
        f"; {lane}: {told['calls']} {'call' if told['calls'] == 1 else 'calls'}, {told['cached']} cached, "
        f"{told['prompt_tokens']:,} tokens in, {told['completion_tokens']:,} out"
        for lane, told in item.lanes.items()
    )
    return f"{counts or 'done'}{asked} ({item.seconds:.1f} s)"


def _jsonable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, (int, float, str, list, dict)) else str(value)
        for name, value in metadata.items()
    }
