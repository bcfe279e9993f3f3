"""One staircase of the core as one graph-backed asset of a project, each batch a mapped step."""

from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any

import dagster as dg

from cortex_pipelines.assets.outcome import (
    Options,
    lane_metadata,
    lane_pool,
    materialize_result,
    one_line_failure,
)
from cortex_pipelines.products import Product, stair_of
from cortex_pipelines.resources import work_for
from cortex_pipelines.stairs import Batch, Plan, Work

# How many batches were planned, in what the plan hands to the commit.
BATCHES = "batches"
NEEDS = {"settings", "store", "lanes"}


def staircase(product: Product, projects: dg.PartitionsDefinition[str], **spec: Any) -> dg.AssetsDefinition:
    """The asset of a product whose source is a `Stair`; `spec` goes on to `graph_asset`."""
    stair = stair_of(product)
    name, schema = product.name, Options.to_config_schema()
    step: dict[str, Any] = {"required_resource_keys": NEEDS, "config_schema": schema}
    checks = {
        f"{name}_{check}": dg.AssetCheckSpec(check, asset=name, blocking=blocking)
        for check, blocking in product.checks.items()
    }

    def work(context: dg.OpExecutionContext) -> Work:
        return work_for(context, force=context.op_config["force"])

    @dg.op(
        name=f"{name}_plan",
        ins={dep: dg.In(dg.Nothing) for dep in product.deps},
        out={"batch": dg.DynamicOut(), "summary": dg.Out()},
        **step,
    )
    def plan_op(context: dg.OpExecutionContext) -> Iterator[Any]:
        with one_line_failure():
            plan = stair.plan(work(context))
        yield dg.Output({**plan.summary, BATCHES: len(plan.batches)}, "summary")
        for number, batch in enumerate(plan.batches):
            yield dg.DynamicOutput(batch, output_name="batch", mapping_key=f"b{number:04d}")

    @dg.op(name=f"{name}_map", pool=lane_pool(product), **step)
    def map_op(context: dg.OpExecutionContext, batch: Batch) -> dict[str, int]:
        with one_line_failure():
            doing = work(context)
            counts = dict(stair.map(doing, batch))
        if told := lane_metadata(doing):
            context.add_output_metadata(told)
        return counts

    # Nothing is pickled for the asset itself: its product is in the store.
    @dg.op(name=f"{name}_commit", out={out: dg.Out(dg.Nothing) for out in ("result", *checks)}, **step)
    def commit_op(context: dg.OpExecutionContext, summary: dict[str, Any], counts: list[Any]) -> Iterator[Any]:
        planned = summary.pop(BATCHES)
        with one_line_failure():
            doing = work(context)
            if len(counts) < planned:
                # Dagster repeats a run from where it failed without the mapped steps that had not begun.
                counts = [*counts, *(stair.map(doing, batch) for batch in stair.plan(doing).batches)]
            shown = materialize_result(product, doing, stair.commit(doing, Plan((), summary), counts))
        yield shown

    def body(**upstream: Any) -> Any:
        batches, summary = plan_op(**upstream)
        done = commit_op(summary, batches.map(map_op).collect())
        return {out: getattr(done, out) for out in ("result", *checks)}

    body.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(dep, Parameter.POSITIONAL_OR_KEYWORD) for dep in product.deps]
    )

    def spread(given: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{name}_{part}": {"config": dict(given)} for part in ("plan", "map", "commit")}

    return dg.graph_asset(
        name=name,
        partitions_def=projects,
        config=dg.ConfigMapping(config_schema=schema, config_fn=spread),
        check_specs=list(checks.values()),
        ins={dep: dg.AssetIn(dagster_type=dg.Nothing) for dep in product.deps},
        **spec,
    )(body)
