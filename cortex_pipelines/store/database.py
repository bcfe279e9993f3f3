"""The connection to a project's database, on a folder or on S3, and the little SQL that is written by hand."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lancedb
    from pyarrow import fs

Where = Mapping[str, str | Sequence[str]]

# LanceDB's own default caches hold 7 GB and are never evicted by a commit.
INDEX_CACHE_BYTES = 256 * 2**20
METADATA_CACHE_BYTES = 64 * 2**20


def is_remote(uri: str) -> bool:
    """Whether a store lies on object storage."""
    return uri.startswith("s3://")


def connect(uri: str) -> "lancedb.DBConnection":
    """A connection whose handles always see the newest version."""
    os.environ.setdefault("LANCE_LOG", "error")
    import lancedb

    return lancedb.connect(
        uri,
        read_consistency_interval=timedelta(0),
        session=_session(),
        storage_options=storage_options() if is_remote(uri) else None,
    )


@cache
def _session() -> Any:
    import lancedb

    return lancedb.Session(index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES)


def storage_options() -> dict[str, str]:
    """Access to S3 from the variables every S3 client reads."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT")
    options = {"region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"}
    for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token"):
        if value := os.environ.get(name.upper()):
            options[name] = value
    if endpoint:
        options["endpoint"] = endpoint
        options["allow_http"] = str(endpoint.startswith("http://")).lower()
    return options


def file_system(uri: str) -> "tuple[fs.FileSystem, str]":
    """The file system of a store and the path in it."""
    from pyarrow import fs

    if not is_remote(uri):
        return fs.LocalFileSystem(), uri
    options = storage_options()
    scheme, _, host = options.get("endpoint", "https://").partition("://")
    return (
        fs.S3FileSystem(
            access_key=options.get("aws_access_key_id"),
            secret_key=options.get("aws_secret_access_key"),
            session_token=options.get("aws_session_token"),
            region=options["region"],
            scheme=scheme,
            endpoint_override=host or None,
        ),
        uri.removeprefix("s3://"),
    )


def condition(where: Where | None) -> str | None:
    """Equality or membership of columns as SQL; a value can never leave its quotes."""
    if not where:
        return None
    return " AND ".join(_clause(column, value) for column, value in where.items())


def _clause(column: str, value: str | Sequence[str]) -> str:
    if not column.isidentifier():
        raise ValueError(f"{column!r} is no column")
    if isinstance(value, str):
        return f"{column} = {_literal(value)}"
    return f"{column} IN ({', '.join(map(_literal, value))})" if value else "false"


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
