"""The one way to keep a cheap product of a whole project: made anew when what it is made from changed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cortex_pipelines.evidence import Evidence, verify
from cortex_pipelines.stairs import Outcome, Verdict, Work

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """The rows of a product, counts to show, what guards its publication, and verdicts that do not."""

    rows: Sequence[Row]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    guards: Mapping[str, Verdict] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)


def keep(
    work: Work, product: str, table: str, version: str, inputs: Sequence[str], make: "Callable[[Snapshot], Made]"
) -> Outcome:
    """Make the rows of a product and publish them, unless `inputs`, the tables it is made from, are as they were.

    A product whose guard fails is not published: what was published before stays.
    """
    snapshot = work.store.snapshot()
    digest = snapshot.versions(*inputs)
    key = {"digest": digest, "version": version}
    stored = snapshot.rows("products", None, {"product": product})
    if not work.force and stored and {name: stored[0][name] for name in key} == key:
        return Outcome.of(json.loads(stored[0]["summary"]))
    made = make(snapshot)
    verdicts = {**made.guards, **made.verdicts}
    if any(not verdict.passed for verdict in made.guards.values()):
        return Outcome(made.metadata, None, verdicts)
    version_of_data = _data_version(made.rows)
    before = json.loads(stored[0]["summary"])["version"] if stored else None
    outcome = Outcome(made.metadata, version_of_data, verdicts, changed=version_of_data != before)
    summary = json.dumps(outcome.told(), ensure_ascii=False)
    with work.store.publishing() as writer:
        if writer.rows(table) != list(made.rows):
            writer.overwrite(table, made.rows)
        writer.upsert("products", [{"product": product, **key, "summary": summary}])
        writer.publish()
    return outcome


def resolved(snapshot: "Snapshot", claims: Sequence[Evidence]) -> frozenset[Evidence]:
    """Those of the claims whose quotes stand where they say."""
    return frozenset(verify(claims, snapshot.texts).kept)


def identifier(*parts: object) -> str:
    """A name that is the same whenever its parts are."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def _data_version(rows: Sequence[Row]) -> str:
    return hashlib.blake2b(json.dumps(list(rows), sort_keys=True).encode(), digest_size=16).hexdigest()
