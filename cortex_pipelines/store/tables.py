"""The tables of a project's database: their keys, columns and what each row is derived from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

VECTOR_SIZE = 256


@dataclass(frozen=True)
class Table:
    """A table's name, its key, its columns by name and type, and the column that names the source of a row.

    Types are `str`, `int`, `float`, `bool` (`?` behind one: may be null), `words` (a list of strings), `hashes` (a list
    of 64-bit integers) and `vector` (`VECTOR_SIZE` 32-bit floats). Columns that hold JSON are `str`. Rows of a source
    that is gone are found by `source`, in every table that has one.
    """

    name: str
    key: str
    columns: Mapping[str, str]
    source: str | None = None
    text_index: str | None = None

    def schema(self) -> "pa.Schema":
        """The Arrow schema; the key is not nullable, which LanceDB asks of a primary key."""
        return _schema(self.name)


def _table(name: str, columns: str, source: str | None = None, text_index: str | None = None) -> Table:
    """A table from `name:type` words, the first of which is the key."""
    typed = {name: kind or "str" for name, _, kind in (word.partition(":") for word in columns.split())}
    return Table(name, next(iter(typed)), typed, source, text_index)


# `digest` is of the input, `version` of what made the row; `path` and `source` are relative to the project's
# folder, and a file of a repository is named <repository>/<path>.
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        # What landed and was read: a file of the inbox, under the digest it was read with.
        _table("landed", "path digest version size:int"),
        # Each place that holds a document, and the path of the row of `documents` that has its text: exact copies are
        # stored once. A member of an archive is named <archive>/<member>, an attachment <mail>/<attachment>.
        _table("holders", "path landed digest document"),
        _table(
            "documents",
            "path digest version media_type title text headings pages size:int language topics:words summary details",
            "path",
        ),
        _table("sketches", "path digest version near bands:hashes signature:hashes", "path"),
        _table(
            "messages",
            "message_id source number:int parent:int? thread speaker time line_start:int line_end:int text digest "
            "version",
            "source",
        ),
        _table("secrets", "secret_id source rule severity line:int digest version", "source"),
        # `landed` is the file of the inbox that it lies in; null for what is of a repository.
        _table("quarantine", "path stage digest version size:int reason landed:str?", "path"),
        _table(
            "repositories",
            "path kind commit branch committed_at commits:int files:int bytes:int languages skipped version",
            "path",
        ),
        # `target` is where a submodule or a Git LFS pointer leads, as JSON.
        _table(
            "files",
            "source repository path digest version mode size:int language:str? lines:int text:str? skipped:str? "
            "changes:int target:str?",
            "source",
        ),
        _table(
            "code_files",
            "source repository digest version language parsed:bool error_lines:int metrics",
            "source",
        ),
        _table(
            "symbols",
            "symbol_id source repository name qualified kind line_start:int line_end:int signature digest version",
            "source",
        ),
        _table("imports", "import_id source repository target resolved:str? line:int digest version", "source"),
        _table(
            "code_findings",
            "finding_id repository section rule severity message source line_start:int line_end:int quote digest "
            "version",
            "source",
        ),
        _table("code_analyses", "repository commit version summary tools", "repository"),
        _table(
            "audits",
            "source kind digest version bytes_total:int bytes_read:int bytes_skipped:int skipped lines:int summary",
            "source",
        ),
        _table(
            "audit_findings",
            "finding_id audit section rule severity message source line_start:int line_end:int quote digest version",
            "audit",
        ),
        # `named` is what the source was called when its chunks were made.
        _table("indexed", "source digest version chunks:int named", "source"),
        _table(
            "chunks",
            "chunk_id source kind language:str? title section page:int? line_start:int line_end:int byte_start:int "
            "byte_end:int text search_text vector:vector digest version",
            "source",
            text_index="search_text",
        ),
        _table(
            "gaps",
            "requirement_id label statement strength section source line_start:int line_end:int status "
            "confidence:float related_files:words evidence notes version",
            "source",
        ),
        _table(
            "compliance",
            "finding_id rule severity message source line_start:int line_end:int quote version",
            "source",
        ),
        _table(
            "ideas",
            "idea_id kind text speaker time source line_start:int line_end:int quote version",
            "source",
        ),
        _table(
            "roadmap",
            "node_id label description node_type depends_on:words priority decision_options:words effort phase:int "
            "critical:bool traces:words evidence version",
        ),
        _table("overviews", "product text lane model version"),
        _table("products", "product digest version summary"),
    )
}


def derived_from_sources() -> Iterator[Table]:
    """The tables whose rows go when their source goes."""
    return (table for table in TABLES.values() if table.source)


@cache
def _schema(name: str) -> "pa.Schema":
    import pyarrow as pa

    table = TABLES[name]
    types = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "words": pa.list_(pa.string()),
        "hashes": pa.list_(pa.int64()),
        "vector": pa.list_(pa.float32(), VECTOR_SIZE),
    }
    return pa.schema(
        [
            pa.field(column, types[kind.rstrip("?")], nullable=kind.endswith("?"))
            for column, kind in table.columns.items()
        ]
    )
