"""What a step shows of a product: its report, its counts and the verdict of each check."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from cortex_pipelines.errors import CortexError
from cortex_pipelines.products import Product, write_report
from cortex_pipelines.reports import excerpt
from cortex_pipelines.stairs import Outcome, Verdict, Work

# Metadata is kept with every event, for ever: the whole report is the file.
REPORT_CHARACTERS = 60_000
# Dagster starts failed runs again without regard to `allow_retries`; this it regards.
NO_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}


class Options(dg.Config):
    """What a run may be told of one product."""

    force: bool = False
    """Do everything again, also what has not changed."""


def materialize_result(product: Product, work: Work, outcome: Outcome) -> dg.MaterializeResult[Any]:
    """The materialization of a product, after its report is written.

    Raises `Failure` when the core gave no verdict for a check: a check that says nothing must not look passed.
    """
    if missing := set(product.checks) - set(outcome.verdicts):
        raise dg.Failure(f"{product.name}: no verdict for {', '.join(sorted(missing))}", allow_retries=False)
    path, markdown = write_report(product, work, outcome)
    if any(blocking and not outcome.verdicts[name].passed for name, blocking in product.checks.items()):
        _not_again()
    return dg.MaterializeResult(
        metadata={
            **_shown(outcome.metadata),
            "report": dg.MetadataValue.md(excerpt(markdown, REPORT_CHARACTERS)),
            "report_file": dg.MetadataValue.path(str(path)),
            **lane_metadata(work),
        },
        data_version=dg.DataVersion(outcome.version) if outcome.version else None,
        check_results=[_check_result(name, outcome.verdicts[name], path) for name in product.checks],
    )


def lane_metadata(work: Work) -> dict[str, Any]:
    """What the calls of lanes took that a step made: a row for each lane, and sums that Dagster plots over time."""
    told = work.lanes.records.told() if work.lanes is not None else {}
    if not told:
        return {}
    rows = [dg.TableRecord({"lane": lane, **_cells(record)}) for lane, record in told.items()]
    schema = dg.TableSchema([dg.TableColumn(name) for name in rows[0].data])
    sums = ("calls", "failed", "cached", "fallbacks", "attempts", "prompt_tokens", "completion_tokens")
    slowest = {name: max(record[name] for record in told.values()) for name in ("p50_seconds", "p95_seconds")}
    return {
        "lanes": dg.MetadataValue.table(rows, schema),
        **{f"lane_{name}": sum(record[name] for record in told.values()) for name in sums},
        **{f"lane_{name}": seconds for name, seconds in slowest.items()},
    }


def lane_pool(product: Product) -> str | None:
    """The pool that a product's steps take a place in: the coarse limit of a lane across runs."""
    return f"lane_{product.lane.lower()}" if product.lane else None


def _cells(record: Mapping[str, Any]) -> dict[str, Any]:
    # Who answered is read first.
    return {"served_by": "; ".join(record["served_by"]), **{k: v for k, v in record.items() if k != "served_by"}}


@contextmanager
def one_line_failure() -> Iterator[None]:
    """Fail the step with the one line of a typed error; waiting or trying again would not mend it."""
    try:
        yield
    except CortexError as error:
        _not_again()
        raise dg.Failure(str(error), allow_retries=False) from error


def _not_again() -> None:
    """Mark the run: the same would come of it."""
    context = dg.OpExecutionContext.get()
    context.instance.add_run_tags(context.run_id, NO_RETRY)


def _check_result(name: str, verdict: Verdict, report: Path) -> dg.AssetCheckResult:
    """A verdict; one that did not pass leads to the report, which lists everything."""
    metadata = _shown(verdict.metadata)
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN if verdict.warn else dg.AssetCheckSeverity.ERROR,
        metadata=metadata if verdict.passed else {**metadata, "report_file": dg.MetadataValue.path(str(report))},
    )


def _shown(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as Dagster takes it: rows of equal columns as a table, other lists as JSON, the rest as it is."""
    return {name: _value(value) for name, value in metadata.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and value and all(isinstance(row, Mapping) for row in value):
        rows = [dg.TableRecord(_flat(row)) for row in value]
        if all(row.data.keys() == rows[0].data.keys() for row in rows):
            return dg.MetadataValue.table(rows, dg.TableSchema([dg.TableColumn(name) for name in rows[0].data]))
    return dg.MetadataValue.json(value) if isinstance(value, (list, tuple, dict)) else value


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a table takes it: a list in a cell is one text."""
    return {name: ", ".join(map(str, cell)) if isinstance(cell, (list, tuple)) else cell for name, cell in row.items()}
