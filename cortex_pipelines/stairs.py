"""The staircase: plan, map, commit, the one way to build a product over many or costly items."""

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cortex_pipelines.ingest.scan import Scan
    from cortex_pipelines.lanes import Lanes
    from cortex_pipelines.names import Lane
    from cortex_pipelines.settings import Settings
    from cortex_pipelines.store import ProjectStore

# A mapped step costs Dagster about 30 ms of CPU and 20 KB of event log: about 16 batches a stair, 64 at most.
USUAL_BATCHES = 16
BATCH_BYTES = 16 * 2**20
BATCH_ITEMS = 500


@dataclass(frozen=True)
class Work:
    """What a product is built with: whose it is, where its inputs lie and where it goes."""

    project: str
    settings: "Settings"
    store: "ProjectStore"
    lanes: "Lanes | None" = None
    force: bool = False
    quiet: bool = False
    """Only what no longer grows is taken: a sensor asked, not a person."""
    looked: "list[Scan] | None" = field(default=None, repr=False, compare=False)
    """Where given, the folder is scanned once, and all that is built with this is built from what was there then."""

    def served_by(self, lane: "Lane | None") -> str:
        """The models that a lane's calls may go to, as one text; empty where there are none."""
        return self.lanes.served_by(lane) if self.lanes is not None and lane is not None else ""


@dataclass(frozen=True, slots=True)
class Item:
    """One input: its name, the key of what it would become (digest of the input and version of the maker), its size.

    `size` is in bytes, or in whatever unit the cost of the item grows with.
    """

    id: str
    key: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that one mapped step does: references, never content. Equal items make an equal name.

    `group` is what the items share and *map* has to open once, such as the repository they lie in.
    """

    name: str
    items: tuple[Item, ...]
    group: str = ""


@dataclass(frozen=True)
class Changes:
    """What is there against what is stored."""

    todo: tuple[Item, ...]
    gone: tuple[str, ...]
    unchanged: int
    staged: int


@dataclass(frozen=True)
class Plan:
    """The batches to do, and what to tell of the rest."""

    batches: Sequence[Batch]
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether something that must hold does. A failed verdict that only warns does not stop anything."""

    passed: bool
    warn: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a commit did: counts to show, the version of the product, and a verdict for each check."""

    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    changed: bool = False
    standing: bool = False
    """Nothing that it was made from has moved since: it is what the last run told, and so is its report."""
    provisional: bool = False
    """A lane that is configured did not answer: the next run asks it again."""

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks whose failure is an error."""
        return tuple(name for name, verdict in self.verdicts.items() if not (verdict.passed or verdict.warn))

    def told(self) -> dict[str, Any]:
        """What a later run can be told of it, as JSON holds it."""
        verdicts = {name: asdict(verdict) for name, verdict in self.verdicts.items()}
        return {"metadata": dict(self.metadata), "version": self.version, "verdicts": verdicts}

    @classmethod
    def of(cls, told: Mapping[str, Any], standing: bool = False) -> "Outcome":
        """The inverse of `told`, of a product that has not changed since."""
        verdicts = {name: Verdict(**verdict) for name, verdict in told["verdicts"].items()}
        return cls(told["metadata"], told["version"], verdicts, standing=standing)


@dataclass(frozen=True)
class Stair:
    """A product over many items as three functions; `map` must be safe to repeat."""

    plan: Callable[[Work], Plan]
    map: Callable[[Work, Batch], Mapping[str, int]]
    commit: Callable[[Work, Plan, Sequence[Mapping[str, int]]], Outcome]


def climb(stair: Stair, work: Work, on_batch: Callable[[int, int], None] = lambda done, of: None) -> Outcome:
    """Climb a staircase in this process; `on_batch` hears how many batches are done, of how many."""
    plan = stair.plan(work)
    counts = []
    for done, batch in enumerate(plan.batches):
        on_batch(done, len(plan.batches))
        counts.append(stair.map(work, batch))
    on_batch(len(plan.batches), len(plan.batches))
    return stair.commit(work, plan, counts)


def compare(current: Iterable[Item], stored: Mapping[str, str], staged: Mapping[str, Container[str]]) -> Changes:
    """Split items into those to do, those already staged and those whose stored key is equal; list what is gone.

    `stored` maps an item's name to the key it was made under, `staged` to the keys.
    """
    todo, names, unchanged, already = [], set(), 0, 0
    for item in current:
        names.add(item.id)
        if stored.get(item.id) == item.key:
            unchanged += 1
        elif item.key in staged.get(item.id, ()):
            already += 1
        else:
            todo.append(item)
    return Changes(tuple(todo), tuple(name for name in stored if name not in names), unchanged, already)


def cut(items: Sequence[Item], group: str = "") -> list[Batch]:
    """Cut items, in order, by size and count into about 16 batches when there are many, at most 49."""
    most_bytes = max(BATCH_BYTES, sum(item.size for item in items) // USUAL_BATCHES)
    most_items = max(BATCH_ITEMS, len(items) // USUAL_BATCHES)
    batches: list[list[Item]] = []
    room = 0
    for item in items:
        if not batches or item.size > room or len(batches[-1]) >= most_items:
            batches.append([])
            room = most_bytes
        batches[-1].append(item)
        room -= item.size
    return [Batch(_name(batch), tuple(batch), group) for batch in batches]


def _name(items: Iterable[Item]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for item in items:
        digest.update(f"{item.id}\0{item.key}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
