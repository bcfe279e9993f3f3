"""What starts runs: dropped files, new commits, and the weekly audit."""

import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from cortex_pipelines.ingest.watch import Look, Watch
from cortex_pipelines.products import PRODUCTS
from cortex_pipelines.projects import find_projects
from cortex_pipelines.settings import Settings, load_settings

# A tick is cut off after 60 s, and a run costs the daemon 0.15 s of CPU to queue: what is left waits for the next tick.
REQUESTS_PER_TICK = 50
TICK_SECONDS = 20.0
INTERVAL_SECONDS = 15
DEEP = "deep_ingest_audits"
EVERY_PRODUCT = [product.name for product in PRODUCTS]
WITHOUT_DEEP = [name for name in EVERY_PRODUCT if name != DEEP]

Projects = dg.PartitionsDefinition[str]


def project_automation(
    settings: Settings, projects: Projects
) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """The sensors and schedules of the projects, all on from the start."""
    return [dropped_files(settings, projects), new_commits(settings, projects)], [weekly_audit(settings, projects)]


def dropped_files(settings: Settings, projects: Projects) -> dg.SensorDefinition:
    """Requests a run for each project in which files are new, changed or gone, and none of these still grows."""
    return _sensor("dropped_files", settings, projects, lambda look: look.files, _drop_request)


def new_commits(settings: Settings, projects: Projects) -> dg.SensorDefinition:
    """Requests a run, deep audits included, for each project with a repository whose head commit moved."""
    return _sensor("new_commits", settings, projects, lambda look: look.heads, _commit_request)
