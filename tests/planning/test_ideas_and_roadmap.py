"""What chats hold, and the graph of what to do."""

import json

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.evidence import Evidence
from cortex_pipelines.planning.roadmap import EFFORTS, Node, _graph, _is_acyclic, _milestones, _rows
from tests.ingest.chat_exports import chatgpt_message, chatgpt_node


def test_the_sample_chat_gives_its_idea_task_decision_question_and_code(sample_work):
    rows = sample_work.store.snapshot().rows("ideas")
    found = {(row["kind"], row["speaker"], row["line_start"]) for row in rows}
    assert found == {
        ("idea", "Ana", 3),
        ("decision", "Miriam", 9),
        ("task", "Jonas", 11),
        ("task", "Ana", 13),
        ("code", "Jonas", 18),
        ("question", "Miriam", 22),
    }
    text = sample_work.store.snapshot().texts(["documents/planning-chat.md"])["documents/planning-chat.md"]
    for row in rows:
        lines = text.split("\n")[row["line_start"] - 1 : row["line_end"]]
        assert row["quote"] in "\n".join(lines)


def test_a_log_or_prose_is_no_chat(build_all):
    outcomes = build_all(
        {"a.md": "# A\n\nWhat if: we could go.\n", "b.log": "2026-01-01 10:00:00 INFO a: TODO: x\n" * 9}
    )
    assert outcomes["ideas"].metadata["chats"] == 0


def test_an_export_gives_what_was_said_in_any_branch_but_not_what_a_program_printed(build_all, work):
    code = {"content_type": "code", "language": "python", "text": "print(rate)"}
    output = {"content_type": "execution_output", "text": "TODO: 7"}
    tree = {
        "a": chatgpt_node("a", None, ["b", "c"], chatgpt_message("user", "Please write the exporter.", 1730800000)),
        "b": chatgpt_node("b", "a", [], chatgpt_message("assistant", "What if we\nalso wrote GPX?", 1730800001)),
        "c": chatgpt_node("c", "a", ["d"], chatgpt_message("assistant", code, 1730800002)),
        "d": chatgpt_node("d", "c", [], chatgpt_message("tool", output, 1730800003, name="python")),
    }
    export = [{"title": "Exporter", "mapping": tree, "current_node": "d"}]
    outcomes = build_all({"conversations.json": json.dumps(export)})
    assert outcomes["ideas"].metadata["chats"] == 1
    rows = work.store.snapshot().rows("ideas")
    assert {(row["kind"], row["speaker"], row["time"], row["text"], row["line_start"]) for row in rows} == {
        ("task", "user", "2024-11-05T09:46:40Z", "Please write the exporter.", 5),
        ("code", "assistant", "2024-11-05T09:46:42Z", "print(rate)", 9),
        ("idea", "assistant", "2024-11-05T09:46:41Z", "What if we", 20),
    }


def nodes(work):
    return {row["node_id"]: row for row in work.store.snapshot().rows("roadmap")}


def test_the_roadmap_of_the_sample_is_acyclic_ordered_and_traced(sample_work):
    rows = nodes(sample_work)
    graph = nx.DiGraph((before, name) for name, row in rows.items() for before in row["depends_on"])
    assert nx.is_directed_acyclic_graph(graph)
    assert set(graph) <= set(rows)
    for row in rows.values():
        assert row["node_type"] in ("task", "decision", "milestone")
        assert all(rows[before]["phase"] < row["phase"] for before in row["depends_on"])
        assert row["traces"]
        assert row["node_type"] == "milestone" or json.loads(row["evidence"])


def test_every_gap_of_the_sample_is_a_node_and_nothing_that_is_built_is(sample_work):
    traced = {trace for row in nodes(sample_work).values() for trace in row["traces"]}
    for gap in sample_work.store.snapshot().rows("gaps"):
        assert (f"gap:{gap['requirement_id']}" in traced) == (gap["status"] != "implemented")


def test_a_task_of_a_chat_that_a_gap_already_names_is_one_node_with_both_traces(sample_work):
    euring = [row for row in nodes(sample_work).values() if "EURING" in row["description"]]
    assert len(euring) == 1
    assert {trace.partition(":")[0] for trace in euring[0]["traces"]} == {"gap", "idea"}


def test_an_open_question_is_a_decision_with_its_options(sample_work):
    [question] = [row for row in nodes(sample_work).values() if "Postgres" in row["label"]]
    assert (question["node_type"], question["decision_options"]) == ("decision", ["Postgres", "SQLite"])


def test_what_waits_for_a_decision_comes_after_it(build_all, work):
    build_all(
        {
            "prd.md": "# PRD\n\n- R-1: The timetable printer must print the winter timetable.\n\n"
            "## Open points\n\n- The paper of the timetable printer is TBD.\n"
        },
        {"a.py": "x = 1\n"},
    )
    rows = nodes(work)
    [task] = [row for row in rows.values() if row["traces"][0].startswith("gap:")]
    assert [rows[before]["node_type"] for before in task["depends_on"]] == ["decision"]
    assert [row["node_type"] for row in sorted(rows.values(), key=lambda r: r["phase"]) if row["critical"]] == [
        "decision",
        "task",
        "milestone",
    ]


@st.composite
def some_nodes(draw):
    """Nodes that depend on earlier ones, as the roadmap makes them."""
    made = []
    for number in range(draw(st.integers(1, 12))):
        before = draw(st.sets(st.sampled_from([node.node_id for node in made]))) if made else set()
        effort = draw(st.sampled_from(sorted(EFFORTS)))
        evidence = (Evidence("a", 1, 1, "x"),)
        made.append(
            Node(
                str(number),
                "n",
                "d",
                "task",
                "high",
                effort,
                ("gap:1",),
                evidence,
                tuple(before),
                requires=draw(st.booleans()),
            )
        )
    return [*made, *_milestones(made)]


@settings(max_examples=50)
@given(some_nodes())
def test_phases_follow_dependencies_and_the_critical_path_is_a_longest_one(made):
    graph = _graph(made)
    assert _is_acyclic(graph)
    rows = {row["node_id"]: row for row in _rows(made, graph, frozenset({Evidence("a", 1, 1, "x")}))}
    for row in rows.values():
        assert row["phase"] == 1 + max((rows[before]["phase"] for before in row["depends_on"]), default=0)
    path = [row for row in rows.values() if row["critical"]]
    days = sum(EFFORTS[row["effort"]] for row in path if row["node_type"] != "milestone")
    longest = {}
    for name in nx.topological_sort(graph):
        own = 0 if rows[name]["node_type"] == "milestone" else EFFORTS[rows[name]["effort"]]
        longest[name] = own + max((longest[before] for before in rows[name]["depends_on"]), default=0)
    assert days == max(longest.values())
