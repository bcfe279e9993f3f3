"""What steps hand each other on S3, beside the store, where they run on machines that share no folder."""

import io
import pickle
from typing import Any

import dagster as dg

from cortex_pipelines.executors import ON_MACHINES
from cortex_pipelines.settings import Settings
from cortex_pipelines.stairs import Batch, Item
from cortex_pipelines.store import get_object, is_remote, put_object

# No project can be called so.
FOLDER = ".steps"
_KNOWN = {(kind.__module__, kind.__qualname__): kind for kind in (Batch, Item)}


def step_storage(settings: Settings) -> dict[str, "StepStorage"]:
    """The storage as a resource, where it is needed; elsewhere steps share the folder of the Dagster instance."""
    if is_remote(settings.store) and settings.executor in ON_MACHINES:
        return {"io_manager": StepStorage(store=settings.store.rstrip("/"))}
    return {}


class StepStorage(dg.ConfigurableIOManager):
    """Batches and counts, a few kilobytes each, as objects under the run's id."""

    store: str

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Keep what a step made."""
        put_object(self._uri(context), pickle.dumps(obj))

    def load_input(self, context: dg.InputContext) -> Any:
        """What an earlier step made."""
        assert context.upstream_output is not None
        return _Reader(io.BytesIO(get_object(self._uri(context.upstream_output)))).load()

    def _uri(self, context: dg.OutputContext) -> str:
        return "/".join([self.store, FOLDER, *context.get_identifier()])


class _Reader(pickle.Unpickler):
    """Reads plain values and batches: whoever may write into the bucket runs no code here."""

    def find_class(self, module: str, name: str) -> Any:
        """The few classes that steps hand on."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is nothing that a step hands on") from None
