"""The code location: where assets, checks, resources, sensors and schedules meet. It computes nothing."""

import os

import dagster as dg

from cortex_pipelines.assets import project_assets
from cortex_pipelines.errors import CortexError
from cortex_pipelines.resources import resources
from cortex_pipelines.sensors import AUDIT_JOB, project_automation
from cortex_pipelines.sensors.alerting import alerting
from cortex_pipelines.sensors.lane_health import lane_watch
from cortex_pipelines.settings import Settings, load_settings
from cortex_pipelines.upkeep import daily_upkeep, upkeep


class ExecutorMissing(CortexError):
    """The package of the executor that `CORTEX_EXECUTOR` names is not installed."""


def build_definitions(settings: Settings, variables: dict[str, str] | None = None) -> dg.Definitions:
    """The definitions for given settings; `variables` are handed to the steps instead of the environment."""
    projects = project_partitions(settings)
    sensors, schedules = project_automation(settings, projects)
    lanes = lane_watch(settings)
    return dg.Definitions(
        assets=[*project_assets(projects), *lanes.assets],
        asset_checks=lanes.checks,
        resources=resources(variables),
        jobs=[AUDIT_JOB, upkeep],
        sensors=[*sensors, *lanes.sensors, *alerting(settings)],
        schedules=[*schedules, daily_upkeep],
        executor=executor(settings.executor),
    )


def project_partitions(settings: Settings) -> dg.PartitionsDefinition[str]:
    """Projects named by `CORTEX_PROJECTS` as static partitions, which CI needs; otherwise found as they are dropped."""
    if settings.projects:
        return dg.StaticPartitionsDefinition(list(settings.projects))
    return dg.DynamicPartitionsDefinition(name="projects")


def executor(name: str) -> dg.ExecutorDefinition:
    """The executor of every run. In one process is the default: a process per step costs about 4 s of CPU each."""
    if name == "in_process":
        return dg.in_process_executor
    if name == "multiprocess":
        return dg.multiprocess_executor
    try:
        if name == "docker":
            from dagster_docker import docker_executor

            return docker_executor
        if name == "celery":
            from dagster_celery import celery_executor

            # By the variable's name, so that the address, which may hold a password, is in no run's configuration.
            url = {"env": "CORTEX_CELERY_URL"}
            given = {"broker": url, "backend": url} if os.environ.get("CORTEX_CELERY_URL") else {}
            return celery_executor.configured(given, name="celery")
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor
    except ImportError:
        package = f"dagster-{name}"
        raise ExecutorMissing(f"CORTEX_EXECUTOR={name} needs the package {package}: pip install {package}") from None


defs = build_definitions(load_settings())
