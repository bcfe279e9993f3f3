"""Models that are about to be needed are loaded before: by the plan of a run, the backlog and the schedule."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache

import dagster as dg

from cortex_pipelines.lanes import Lanes
from cortex_pipelines.names import Lane
from cortex_pipelines.products import PRODUCTS

# The reference models take one to three minutes to load.
AHEAD = timedelta(minutes=5)
# Of a long backlog the next runs are what matters.
RUNS_AHEAD = 20
_WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]


def lanes_of(products: Iterable[str]) -> list[Lane]:
    """The lanes that products ask, in the order of the products."""
    wanted = set(products)
    return [product.lane for product in PRODUCTS if product.lane and product.name in wanted]


def lanes_of_run(run: dg.DagsterRun) -> list[Lane]:
    """The lanes that a run asks: of the assets that were selected, or of all."""
    selected = run.asset_selection
    return lanes_of(product.name for product in PRODUCTS if not selected or dg.AssetKey(product.name) in selected)


def lanes_ahead(instance: dg.DagsterInstance, due: datetime | None, now: datetime) -> list[Lane]:
    """The lanes of the runs that wait, and of all products where the audit, which is next at `due`, is near."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_WAITING), limit=RUNS_AHEAD, ascending=True)
    near = due is not None and now <= due <= now + AHEAD
    wanted = [lane for run in runs for lane in lanes_of_run(run)]
    return list(dict.fromkeys([*wanted, *(lanes_of(product.name for product in PRODUCTS) if near else ())]))


def warm_for(run: dg.DagsterRun, lanes: Lanes) -> None:
    """At a run's first step in a process, begin to load what its later steps will ask."""
    if _first_step(run.run_id):
        lanes.residency.warm(lanes_of_run(run))


@lru_cache(maxsize=256)
def _seen(run_id: str) -> list[bool]:
    return [True]


def _first_step(run_id: str) -> bool:
    told = _seen(run_id)
    first, told[0] = told[0], False
    return first
