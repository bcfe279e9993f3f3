"""A lease on a project whose store is shared by machines: a row in the database, moved by compare-and-swap."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cortex_pipelines.store.errors import PublicationMoved, StoreBusy
from cortex_pipelines.store.publication import table_names

if TYPE_CHECKING:
    import lancedb

TABLE = "leases"
# A holder that was killed keeps the others out for this long; one that lives renews three times in it.
LEASE_SECONDS = 60.0
POLL_SECONDS = 2.0
ROWS_KEPT = 16


@contextmanager
def lease(connect: "Callable[[], lancedb.DBConnection]", seconds: float) -> Iterator[Callable[[], None]]:
    """Hold the lease; yields a function that raises `PublicationMoved` when it is no longer ours.

    Waits up to `seconds` for another holder, then raises `StoreBusy`.
    """
    database = connect()
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    deadline = time.monotonic() + seconds
    while (number := _take(database, holder)) is None:
        if time.monotonic() > deadline:
            raise StoreBusy(
                f"another run is writing this project ({_newest(database)['holder']}): wait for it to end, or stop it"
            )
        time.sleep(POLL_SECONDS)
    ours = [number]
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(LEASE_SECONDS / 3):
            if (moved := _append(database, ours[0] + 1, holder, time.time() + LEASE_SECONDS)) is None:
                return
            ours[0] = moved

    def still_ours() -> None:
        newest = _newest(database)
        if newest is None or newest["holder"] != holder or newest["expires"] < time.time():
            raise PublicationMoved("the lease on this project was lost to another run: run again, nothing is lost")

    keeper = threading.Thread(target=renew, name="lease", daemon=True)
    keeper.start()
    try:
        yield still_ours
    finally:
        stop.set()
        keeper.join()
        _append(database, ours[0] + 1, holder, 0.0)


def _take(database: "lancedb.DBConnection", holder: str) -> int | None:
    newest = _newest(database)
    if newest is not None and newest["expires"] > time.time():
        return None
    return _append(database, newest["number"] + 1 if newest else 1, holder, time.time() + LEASE_SECONDS)


def _newest(database: "lancedb.DBConnection") -> Any:
    if TABLE not in table_names(database):
        return None
    rows = database.open_table(TABLE).to_arrow().to_pylist()
    return max(rows, key=lambda row: row["number"], default=None)


def _append(database: "lancedb.DBConnection", number: int, holder: str, expires: float) -> int | None:
    """Insert the next row, unless another process did; its number, or None."""
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("holder", pa.string(), nullable=False),
            pa.field("expires", pa.float64(), nullable=False),
        ]
    )
    if TABLE not in table_names(database):
        created: Any = database.create_table(TABLE, schema=schema, exist_ok=True)
        created.set_unenforced_primary_key("number")
    table = database.open_table(TABLE)
    row = pa.Table.from_pylist([{"number": number, "holder": holder, "expires": expires}], schema=schema)
    merged = table.merge_insert("number").when_not_matched_insert_all().execute(row)
    if merged.num_inserted_rows != 1:
        return None
    table.delete(f"number < {number - ROWS_KEPT}")
    return number
