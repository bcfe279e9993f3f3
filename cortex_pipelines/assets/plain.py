"""A cheap product of a whole project as one plain asset."""

from typing import Any

import dagster as dg

from cortex_pipelines.assets.outcome import Options, lane_pool, materialize_result, one_line_failure
from cortex_pipelines.assets.staircase import NEEDS
from cortex_pipelines.products import Product, build
from cortex_pipelines.resources import work_for


def plain(product: Product, projects: dg.PartitionsDefinition[str], **spec: Any) -> dg.AssetsDefinition:
    """The asset of a product whose source is a function; `spec` goes on to `asset`."""

    @dg.asset(
        name=product.name,
        deps=list(product.deps),
        partitions_def=projects,
        required_resource_keys=NEEDS,
        pool=lane_pool(product),
        check_specs=[
            dg.AssetCheckSpec(check, asset=product.name, blocking=blocking)
            for check, blocking in product.checks.items()
        ],
        **spec,
    )
    def asset(context: dg.AssetExecutionContext, config: Options):  # type: ignore[no-untyped-def]
        with one_line_failure():
            work = work_for(context.op_execution_context, force=config.force)
            return materialize_result(product, work, build(product, work))

    return asset
