"""What assets are handed: settings, store and lanes, as thin shells over the core."""

from functools import cached_property

import dagster as dg
from pydantic import Field

from cortex_pipelines.lanes import Lanes
from cortex_pipelines.resources.lane_board import lane_board
from cortex_pipelines.resources.warming import warm_for
from cortex_pipelines.settings import Settings, load_settings
from cortex_pipelines.stairs import Work
from cortex_pipelines.store import ProjectStore

# The tag of runs that a sensor asked for.
QUIET_TAG = "cortex/quiet"


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings, read from the environment where the step runs."""

    variables: dict[str, str] = Field(default={}, description="CORTEX_* and ARGOS_* to use instead of the environment.")

    @cached_property
    def value(self) -> Settings:
        """The settings, loaded once."""
        return load_settings(self.variables) if self.variables else load_settings()


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One database per project."""

    settings: dg.ResourceDependency[SettingsResource]

    def open(self, project: str) -> ProjectStore:
        """The project's store."""
        settings = self.settings.value
        return ProjectStore(settings.store, project, settings.state)


class LanesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The model lanes; None is handed on where no lane is configured."""

    settings: dg.ResourceDependency[SettingsResource]

    def open(self, instance: dg.DagsterInstance) -> Lanes | None:
        """The lanes, if there are any; `instance` is what machines tell each other through, where that is set."""
        lanes = Lanes(self.settings.value, board=lane_board(self.settings.value, instance))
        return lanes if lanes.configured else None


def resources(variables: dict[str, str] | None = None) -> dict[str, dg.ConfigurableResource]:  # type: ignore[type-arg]
    """Every resource by its key."""
    settings = SettingsResource(variables=variables or {})
    return {
        "settings": settings,
        "store": StoreResource(settings=settings),
        "lanes": LanesResource(settings=settings),
    }


def work_for(context: dg.OpExecutionContext, force: bool = False) -> Work:
    """What the core needs, for the partition and the resources of a step."""
    given = context.resources
    project = context.partition_key
    quiet = QUIET_TAG in context.run_tags
    if lanes := given.lanes.open(context.instance):
        warm_for(context.run, lanes)
    return Work(project, given.settings.value, given.store.open(project), lanes, force, quiet, [])
