"""The project's database: tables, staging and publications. Nothing else opens it."""

from cortex_pipelines.store.errors import PublicationMoved, StoreBusy, StoreError
from cortex_pipelines.store.project import ProjectStore, Publishing, Snapshot
from cortex_pipelines.store.staging import Staging

__all__ = ["ProjectStore", "PublicationMoved", "Publishing", "Snapshot", "Staging", "StoreBusy", "StoreError"]
