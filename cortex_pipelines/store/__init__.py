"""The project's database: tables, staging and publications. Nothing else opens it."""

from cortex_pipelines.store.database import is_remote
from cortex_pipelines.store.errors import PublicationMoved, StoreBusy, StoreError
from cortex_pipelines.store.objects import get_object, put_object
from cortex_pipelines.store.project import ProjectStore, Publishing, Snapshot
from cortex_pipelines.store.staging import Staging
from cortex_pipelines.store.versions import SCHEMA_VERSION, StoreTooNew

__all__ = [
    "SCHEMA_VERSION",
    "ProjectStore",
    "PublicationMoved",
    "Publishing",
    "Snapshot",
    "Staging",
    "StoreBusy",
    "StoreError",
    "StoreTooNew",
    "get_object",
    "is_remote",
    "put_object",
]
