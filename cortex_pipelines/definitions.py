"""The code location: where assets, checks, resources, sensors and schedules meet. It computes nothing."""

import dagster as dg

from cortex_pipelines.assets import project_assets
from cortex_pipelines.executors import executor
from cortex_pipelines.resources import resources
from cortex_pipelines.resources.step_storage import step_storage
from cortex_pipelines.sensors import AUDIT_JOB, project_automation
from cortex_pipelines.sensors.alerting import alerting
from cortex_pipelines.sensors.lane_health import lane_watch
from cortex_pipelines.sensors.lost_runs import lost_runs
from cortex_pipelines.settings import Settings, load_settings
from cortex_pipelines.upkeep import daily_upkeep, upkeep


def build_definitions(settings: Settings, variables: dict[str, str] | None = None) -> dg.Definitions:
    """The definitions for given settings; `variables` are handed to the steps instead of the environment."""
    projects = project_partitions(settings)
    sensors, schedules = project_automation(settings, projects)
    lanes = lane_watch(settings)
    return dg.Definitions(
        assets=[*project_assets(projects), *lanes.assets],
        asset_checks=lanes.checks,
        resources={**resources(variables), **step_storage(settings)},
        jobs=[AUDIT_JOB, upkeep],
        sensors=[*sensors, *lanes.sensors, *alerting(settings), lost_runs],
        schedules=[*schedules, daily_upkeep],
        executor=executor(settings.executor),
    )


def project_partitions(settings: Settings) -> dg.PartitionsDefinition[str]:
    """Projects named by `CORTEX_PROJECTS` as static partitions, which CI needs; otherwise found as they are dropped."""
    if settings.projects:
        return dg.StaticPartitionsDefinition(list(settings.projects))
    return dg.DynamicPartitionsDefinition(name="projects")


defs = build_definitions(load_settings())
