"""The schema version of a project's store: recorded beside its tables, so that no code reads what it does not know."""

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines import __version__
from cortex_pipelines.store.database import file_system, is_remote
from cortex_pipelines.store.errors import StoreError
from cortex_pipelines.store.tables import TABLES

if TYPE_CHECKING:
    import lancedb

# One more whenever the tables change so that older code must not write them. 0 is a store that records none.
SCHEMA_VERSION = 2
MARK = "schema.json"


class StoreTooNew(StoreError):
    """Newer code made the store."""


def recorded(uri: str) -> int:
    """The schema version that a store records, 0 where it records none."""
    content = _read(uri)
    if content is None:
        return 0
    try:
        return int(json.loads(content)["schema"])
    except (ValueError, TypeError, KeyError):
        raise StoreError(
            f"the store {uri}: its {MARK} is broken: remove that file, and the next run takes the store over"
        ) from None


def known(uri: str) -> int:
    """The recorded version, where this code can read it; `StoreTooNew` where it cannot."""
    version = recorded(uri)
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the store {uri} is of newer code (schema {version}, this code knows up to {SCHEMA_VERSION}): "
            "install a newer cortex-pipelines, or set CORTEX_STORE to another place"
        )
    return version


def record(uri: str) -> None:
    """Record this code's version, in one step."""
    content = json.dumps({"schema": SCHEMA_VERSION, "made_by": __version__}).encode()
    if is_remote(uri):
        system, folder = file_system(uri)
        with system.open_output_stream(f"{folder}/{MARK}") as file:
            file.write(content)
        return
    path = Path(uri, MARK)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfit(database: "lancedb.DBConnection", tables: dict[str, int]) -> list[str]:
    """The published tables whose columns are not those this code reads and writes."""
    return [name for name, version in tables.items() if name in TABLES and not _fits(database, name, version)]


def _fits(database: "lancedb.DBConnection", name: str, version: int) -> bool:
    found: Any = database.open_table(name, version=version).schema
    wanted = TABLES[name].schema()
    return {field.name: field.type for field in found} == {field.name: field.type for field in wanted}


def _read(uri: str) -> bytes | None:
    try:
        if not is_remote(uri):
            return Path(uri, MARK).read_bytes()
        system, folder = file_system(uri)
        with system.open_input_file(f"{folder}/{MARK}") as file:
            return bytes(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
