"""The one way to keep a cheap product of a whole project: made anew when what it is made from changed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cortex_pipelines.evidence import Evidence, verify
from cortex_pipelines.names import Lane
from cortex_pipelines.stairs import Outcome, Verdict, Work

if TYPE_CHECKING:
    from cortex_pipelines.store import Snapshot

Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """The rows of a product, counts to show, what guards its publication, and verdicts that do not.

    `also` are rows of other tables. `provisional`: a lane that was asked did not answer, so it is made again next time.
    """

    rows: Sequence[Row]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    guards: Mapping[str, Verdict] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    also: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    provisional: bool = False


def keep(
    work: Work,
    product: str,
    table: str,
    version: str,
    inputs: Sequence[str],
    make: "Callable[[Snapshot], Made]",
    lane: Lane | None = None,
) -> Outcome:
    """Make the rows of a product and publish them, unless `inputs`, the tables it is made from, are as they were.

    A product that asks a `lane` is also made again when that goes to other models.

    A product whose guard fails is not published: what was published before stays.
    """
    snapshot = work.store.snapshot()
    digest = f"{snapshot.versions(*inputs)}{work.served_by(lane)}"
    key = {"digest": digest, "version": version}
    stored = snapshot.rows("products", None, {"product": product})
    if not work.force and stored and {name: stored[0][name] for name in key} == key:
        return Outcome.of(json.loads(stored[0]["summary"]))
    made = make(snapshot)
    verdicts = {**made.guards, **made.verdicts}
    if any(not verdict.passed for verdict in made.guards.values()):
        return Outcome(made.metadata, None, verdicts)
    if made.provisional:
        key = {**key, "digest": ""}
    version_of_data = _data_version([*made.rows, *(row for rows in made.also.values() for row in rows)])
    before = json.loads(stored[0]["summary"])["version"] if stored else None
    changed = version_of_data != before
    outcome = Outcome(made.metadata, version_of_data, verdicts, changed=changed, provisional=made.provisional)
    summary = json.dumps(outcome.told(), ensure_ascii=False)
    with work.store.publishing() as writer:
        for name, rows in {table: made.rows, **made.also}.items():
            if writer.rows(name) != list(rows):
                writer.overwrite(name, rows)
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
