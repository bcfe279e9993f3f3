"""roadmap: what to do next and in which order, an acyclic graph traced to gaps, findings, audits and chats."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from cortex_pipelines.evidence import Evidence, Severity, dump, evidence_of, load
from cortex_pipelines.planning import overview
from cortex_pipelines.planning.compliance import find_open_points
from cortex_pipelines.planning.products import Made, Row, identifier, keep, resolved
from cortex_pipelines.planning.requirements import specifications
from cortex_pipelines.retrieval.words import stems
from cortex_pipelines.stairs import Outcome, Verdict, Work

if TYPE_CHECKING:
    import networkx as nx

    from cortex_pipelines.lanes import Lanes
    from cortex_pipelines.store import Snapshot

VERSION = "1"
INPUTS = ("gaps", "code_findings", "audit_findings", "ideas", "documents", "files")
# Days that an effort stands for, for the critical path only: a rough measure, told as such.
EFFORTS = {"small": 1, "medium": 3, "large": 8}
PRIORITIES = {"must": "high", "should": "medium", "may": "low"}
LABEL_CHARACTERS = 90
EVIDENCE_KEPT = 6
# A decision comes before what shares this many telling words with it; what was said in a chat and shares this share
# of its words with a gap is the same thing.
SHARED_WORDS = 2
SAME_SHARE = 0.34
_OPTIONS = re.compile(r"\b([\w.+#-]+(?: [\w.+#-]+)?) or ([\w.+#-]+)")
_COMMON = frozenset(
    stems("must should shall open question decision decide point add make need please todo write still")
)


@dataclass(frozen=True)
class Node:
    """Something to do, to decide or to reach. `traces` names what it comes from."""

    node_id: str
    label: str
    description: str
    node_type: str
    priority: str
    effort: str
    traces: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()
    depends_on: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()
    requires: bool = False

    @cached_property
    def words(self) -> frozenset[str]:
        """The stems of what it says."""
        return frozenset(stems(self.description, drop=True)) - _COMMON


def build_roadmap(work: Work) -> Outcome:
    """Order what is to be done, and publish it where the graph has no cycle and every node stands on evidence.

    Where there is a lane, it writes what that comes to, and never changes it.
    """

    def make(snapshot: "Snapshot") -> Made:
        made = _make(snapshot)
        if work.lanes is None or not made.rows or not work.served_by(overview.LANE):
            return made
        return _with_overview(made, work.lanes)

    return keep(work, "roadmap", "roadmap", VERSION, INPUTS, make, overview.LANE)


def _with_overview(made: Made, lanes: "Lanes") -> Made:
    from cortex_pipelines.lanes import LaneError

    try:
        written = overview.write_overview(lanes, made.rows)
    except LaneError as error:
        return replace(made, metadata={**made.metadata, "overview": f"none: {error}"}, provisional=True)
    told = f"by {written.model}, {len(written.sentences)} sentences, {written.dropped} dropped"
    rows = [written.row("roadmap")] if written.sentences else []
    return replace(made, metadata={**made.metadata, "overview": told}, also={"overviews": rows})


def _make(snapshot: "Snapshot") -> Made:
    gaps = list(_gap_nodes(snapshot))
    fixes = [*_code_nodes(snapshot), *_audit_nodes(snapshot)]
    said, traced = _chat_nodes(snapshot, gaps)
    decisions = [*_open_nodes(snapshot), *(node for node in said if node.node_type == "decision")]
    tasks = [_after(node, decisions, fixes) for node in traced]
    others = [_after(node, decisions, []) for node in said if node.node_type == "task"]
    nodes = [*decisions, *fixes, *tasks, *others]
    nodes += _milestones(nodes)
    # What findings and audits quote was verified when they were published; of audits the source is no document.
    verified = frozenset(claim for node in fixes for claim in node.evidence)
    held = verified | resolved(snapshot, [claim for node in nodes for claim in node.evidence if claim not in verified])
    graph = _graph(nodes)
    acyclic = _is_acyclic(graph)
    rows = _rows(nodes, graph, held) if acyclic else []
    unfounded = [row["label"] for row in rows if row["node_type"] != "milestone" and row["evidence"] == "[]"]
    return Made(
        rows,
        {
            "tasks": sum(node.node_type == "task" for node in nodes),
            "decisions": sum(node.node_type == "decision" for node in nodes),
            "phases": max((row["phase"] for row in rows), default=0),
            "critical_path": sum(row["critical"] for row in rows),
        },
        {
            "acyclic": Verdict(acyclic),
            "evidence_resolves": Verdict(not unfounded, metadata={"without_evidence": unfounded}),
        },
        also={"overviews": []},
    )


def _gap_nodes(snapshot: "Snapshot") -> Iterator[Node]:
    rows = [row for row in snapshot.rows("gaps") if row["status"] != "implemented"]
    texts = snapshot.texts(sorted({row["source"] for row in rows})) if rows else {}
    efforts = {"unmapped": "medium", "partially_implemented": "small", "unknown": "small"}
    verbs = {"unmapped": "Build", "partially_implemented": "Finish", "unknown": "Check by hand"}
    for row in sorted(rows, key=lambda row: (row["source"], row["line_start"], row["requirement_id"])):
        lines = texts.get(row["source"], "").split("\n")[row["line_start"] - 1 : row["line_end"]]
        own = Evidence(row["source"], row["line_start"], row["line_end"], "\n".join(lines))
        named = row["label"] if row["statement"].startswith(row["label"]) else f"{row['label']}: {row['statement']}"
        yield Node(
            identifier("gap", row["requirement_id"]),
            _cut(f"{verbs[row['status']]}: {named}"),
            f"{row['statement']} {row['notes']}",
            "task",
            PRIORITIES[row["strength"]],
            efforts[row["status"]],
            (f"gap:{row['requirement_id']}",),
            (own, *load(row["evidence"]))[:EVIDENCE_KEPT],
            files=frozenset(row["related_files"]),
            requires=row["strength"] == "must",
        )


def _code_nodes(snapshot: "Snapshot") -> Iterator[Node]:
    """One task for the severe findings of one rule in one repository."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    severe = {"severity": [Severity.CRITICAL.value, Severity.HIGH.value]}
    for row in snapshot.rows("code_findings", None, severe):
        groups[row["repository"], row["rule"]].append(row)
    for (repository, rule), rows in sorted(groups.items()):
        rows.sort(key=lambda row: (row["source"], row["line_start"]))
        places = "1 place" if len(rows) == 1 else f"{len(rows)} places"
        worst = min(Severity(row["severity"]).rank for row in rows)
        yield Node(
            identifier("code", repository, rule),
            _cut(f"Fix {rule} in {places} of {repository}: {rows[0]['message']}"),
            rows[0]["message"],
            "task",
            "high" if worst == Severity.CRITICAL.rank or rows[0]["section"] == "security_concerns" else "medium",
            "small" if len(rows) <= 5 else "medium",
            tuple(f"finding:{row['finding_id']}" for row in rows[:EVIDENCE_KEPT]),
            tuple(evidence_of(row) for row in rows[:EVIDENCE_KEPT]),
            files=frozenset(row["source"] for row in rows),
        )


def _audit_nodes(snapshot: "Snapshot") -> Iterator[Node]:
    """One task for each severe finding of an audit."""
    severe = {"severity": [Severity.CRITICAL.value, Severity.HIGH.value]}
    for row in sorted(
        snapshot.rows("audit_findings", None, severe), key=lambda row: (row["source"], row["line_start"])
    ):
        yield Node(
            identifier("audit", row["finding_id"]),
            _cut(f"Find out why: {row['message']}"),
            row["message"],
            "task",
            "high",
            "small",
            (f"audit:{row['finding_id']}",),
            (evidence_of(row),),
            files=frozenset({row["source"]}),
        )


def _open_nodes(snapshot: "Snapshot") -> Iterator[Node]:
    for point in find_open_points(specifications(snapshot)):
        name = identifier("open", point.evidence.source, point.text)
        label = _cut(f"Decide: {point.text}")
        traces = (f"specification:{point.evidence.location}",)
        yield Node(
            name, label, point.text, "decision", "high", "small", traces, (point.evidence,), (), _options(point.text)
        )


def _chat_nodes(snapshot: "Snapshot", gaps: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """What chats add, and the gaps, each with what chats say of it."""
    said: list[Node] = []
    traced = {node.node_id: node for node in gaps}
    for row in sorted(snapshot.rows("ideas"), key=lambda row: (row["source"], row["line_start"], row["idea_id"])):
        if row["kind"] not in ("task", "idea", "question"):
            continue
        trace = f"idea:{row['idea_id']}"
        evidence = evidence_of(row)
        node = Node(
            identifier("idea", row["idea_id"]), "", row["text"], "task", "medium", "medium", (trace,), (evidence,)
        )
        if row["kind"] == "task" and (same := _same(node, traced.values())):
            traced[same.node_id] = replace(
                same, traces=(*same.traces, trace), evidence=(*same.evidence, evidence)[-EVIDENCE_KEPT:]
            )
        elif row["kind"] == "task":
            said.append(replace(node, label=_cut(f"Do: {row['text']}")))
        else:
            wished = row["kind"] == "idea"
            said.append(
                replace(
                    node,
                    label=_cut(f"Decide: {row['text']}"),
                    node_type="decision",
                    priority="low" if wished else "medium",
                    effort="small",
                    options=_options(row["text"]) or (("do it", "leave it") if wished else ()),
                )
            )
    return said, list(traced.values())


def _same(node: Node, others: Iterable[Node]) -> Node | None:
    """The one that says the same as a node, if any."""
    scored = [(len(node.words & other.words) / max(1, len(node.words)), other) for other in others]
    share, best = max(scored, key=lambda item: item[0], default=(0.0, None))
    return best if share >= SAME_SHARE else None


def _after(node: Node, decisions: Sequence[Node], fixes: Sequence[Node]) -> Node:
    """A task after the decisions it is about, and after the repairs of files that it will change."""
    deciding = [other.node_id for other in decisions if len(node.words & other.words) >= SHARED_WORDS]
    mending = [other.node_id for other in fixes if node.files & other.files]
    return replace(node, depends_on=tuple(sorted({*deciding, *mending})))


def _milestones(nodes: Sequence[Node]) -> Iterator[Node]:
    """What is reached: all that must be, then all that was asked for."""
    must = tuple(node.node_id for node in nodes if node.requires)
    asked = tuple(node.node_id for node in nodes if node.node_type == "task" and not node.requires)
    first = Node(
        identifier("milestone", "must"), "All that must be is built", "", "milestone", "high", "small", ("gap",)
    )
    if must:
        yield replace(first, description=f"{len(must)} requirements with must are met.", depends_on=must)
    if asked:
        yield Node(
            identifier("milestone", "asked"),
            "All that was found is done",
            f"{len(asked)} further tasks are done.",
            "milestone",
            "medium",
            "small",
            ("gap", "finding", "idea"),
            depends_on=(*((first.node_id,) if must else ()), *asked),
        )


def _graph(nodes: Sequence[Node]) -> "nx.DiGraph[str]":
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(node.node_id for node in nodes)
    days = {node.node_id: 0 if node.node_type == "milestone" else EFFORTS[node.effort] for node in nodes}
    for node in nodes:
        graph.add_weighted_edges_from((before, node.node_id, days[before]) for before in node.depends_on)
    return graph


def _is_acyclic(graph: "nx.DiGraph[str]") -> bool:
    import networkx as nx

    return bool(nx.is_directed_acyclic_graph(graph))


def _rows(nodes: Sequence[Node], graph: "nx.DiGraph[str]", held: frozenset[Evidence]) -> list[Row]:
    import networkx as nx

    phases = {name: phase for phase, names in enumerate(nx.topological_generations(graph), 1) for name in names}
    path = set(nx.dag_longest_path(graph)) if graph.number_of_edges() else set()
    return [
        {
            "node_id": node.node_id,
            "label": node.label,
            "description": node.description,
            "node_type": node.node_type,
            "depends_on": list(node.depends_on),
            "priority": node.priority,
            "decision_options": list(node.options),
            "effort": node.effort,
            "phase": phases[node.node_id],
            "critical": node.node_id in path,
            "traces": list(node.traces),
            "evidence": dump(claim for claim in node.evidence if claim in held),
            "version": VERSION,
        }
        for node in nodes
    ]


def _options(text: str) -> tuple[str, ...]:
    found = _OPTIONS.search(text.partition(":")[2] or text)
    return (found.group(1).split()[-1], found.group(2)) if found else ()


def _cut(label: str) -> str:
    words = " ".join(label.split())
    return words if len(words) <= LABEL_CHARACTERS else words[: LABEL_CHARACTERS - 1].rstrip() + "…"
