"""The products as software-defined assets of a project, each guarded by its checks."""

import dagster as dg

from cortex_pipelines.assets.plain import plain
from cortex_pipelines.assets.staircase import staircase
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.stairs import Stair


def project_assets(projects: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """Every product as an asset: a staircase where items are many or costly, a plain asset otherwise."""
    return [
        (staircase if isinstance(product.source, Stair) else plain)(
            product,
            projects,
            description=product.description,
            group_name=product.group,
            kinds=product.kinds,
        )
        for product in PRODUCTS
    ]
