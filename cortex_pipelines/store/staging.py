"""What *map* finished and *commit* has not merged yet: durable, so that a kill loses none of it.

A staged batch is one Parquet file per table and, written last, a JSON marker that names its items: a batch
without its marker was never staged.
"""

import json
import os
import time
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cortex_pipelines.store.database import file_system, is_remote
from cortex_pipelines.store.errors import told_of
from cortex_pipelines.store.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "staging"
# No batch takes as long to write.
LEFT_SECONDS = 3_600.0


class Staging:
    """The staged batches of one product, on the same storage as the database."""

    def __init__(self, uri: str, product: str) -> None:
        self._uri = uri
        self._folder = f"{uri}/{FOLDER}/{product}"

    def put(
        self,
        name: str,
        tables: "Mapping[str, Sequence[Mapping[str, Any]] | pa.Table]",
        items: Mapping[str, str],
    ) -> None:
        """Stage a batch: the rows for each table, and the key each item was made under. Safe to repeat."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with told_of(self._uri):
            system, folder = file_system(self._folder)
            system.create_dir(folder, recursive=True)
            for table, rows in tables.items():
                schema = TABLES[table].schema()
                arrow = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=schema)
                sink = pa.BufferOutputStream()
                # Dictionaries and statistics hold each text once more.
                pq.write_table(
                    arrow.cast(schema), sink, compression="zstd", use_dictionary=False, write_statistics=False
                )
                self._write(system, f"{folder}/{name}.{table}.parquet", sink.getvalue())
                del arrow, sink
            marker = json.dumps({"tables": sorted(tables), "items": dict(items)})
            self._write(system, f"{folder}/{name}.json", marker.encode("utf-8", "surrogatepass"))
        # Arrow keeps what a large batch took, for the next one.
        pa.default_memory_pool().release_unused()

    def names(self) -> list[str]:
        """The batches that are staged."""
        if not is_remote(self._uri):
            place = Path(self._folder)
            return sorted(path.stem for path in place.glob("*.json")) if place.is_dir() else []
        from pyarrow import fs

        with told_of(self._uri):
            system, folder = file_system(self._folder)
            found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return sorted(info.base_name[:-5] for info in found if info.base_name.endswith(".json"))

    def items(self) -> dict[str, set[str]]:
        """Every staged item and the keys it was made under: one that changed meanwhile may be staged twice."""
        found: dict[str, set[str]] = {}
        for name in self.names():
            marker = self._marker(name) or {"items": {}}
            for item, key in marker["items"].items():
                found.setdefault(item, set()).add(key)
        return found

    def tables(
        self, names: Iterable[str] | None = None, only: Container[str] | None = None
    ) -> "Iterator[tuple[dict[str, str], dict[str, pa.Table]]]":
        """Each staged batch: its items with their keys, and its rows by table, of those in `only` if it is given.

        One that another run has published and removed in the meantime is left out.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        for name in self.names() if names is None else names:
            marker = self._marker(name)
            if marker is None:
                continue
            with told_of(self._uri):
                system, folder = file_system(self._folder)
                try:
                    rows = {
                        table: pq.read_table(f"{folder}/{name}.{table}.parquet", filesystem=system, partitioning=None)
                        for table in marker["tables"]
                        if only is None or table in only
                    }
                except FileNotFoundError:
                    continue
            pa.default_memory_pool().release_unused()
            yield marker["items"], rows

    def clear(self, names: Iterable[str]) -> None:
        """Remove staged batches; the marker goes first, so that a kill leaves no half batch."""
        with told_of(self._uri):
            system, folder = file_system(self._folder)
            for name in names:
                marker = self._marker(name) or {"tables": ()}
                for part in ("json", *(f"{table}.parquet" for table in marker["tables"])):
                    with suppress(FileNotFoundError):
                        system.delete_file(f"{folder}/{name}.{part}")
        self._sweep()

    def _sweep(self) -> None:
        """Remove what killed processes left half written; others may be writing right now."""
        if not is_remote(self._uri):
            for left in Path(self._folder).glob("*.tmp"):
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                        left.unlink()

    def _marker(self, name: str) -> dict[str, Any] | None:
        """What a batch holds; None where another run has published and removed it in the meantime."""
        with told_of(self._uri):
            system, folder = file_system(self._folder)
            try:
                with system.open_input_file(f"{folder}/{name}.json") as file:
                    return json.loads(file.read())  # type: ignore[no-any-return]
            except FileNotFoundError:
                return None

    def _write(self, system: Any, path: str, content: Any) -> None:
        """An object on S3 appears whole; a local file is made so by renaming it when it is on the disk."""
        if is_remote(self._uri):
            with system.open_output_stream(path) as file:
                file.write(content)
            return
        unfinished = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)  # noqa: PTH105
        except OSError:
            if os.path.exists(unfinished):  # noqa: PTH110
                os.unlink(unfinished)  # noqa: PTH108
            raise
