"""Acceptance: real source distributions as projects, run whole, and questions about them answered from the right file.

    python -m benchmarks.acceptance --data DIR [--json]

DIR holds the unpacked source distributions that `acceptance.toml` names, `DIR/flask-3.1.2` and `DIR/django-5.2.8`.
"""

import argparse
import json
import tomllib
from pathlib import Path

from benchmarks.ingest import repository_of
from benchmarks.measuring import Cost, ProcessFailed, cortex, figures, table

# What is counted of a project: the product that tells it, and its name there.
COUNTED = {"files": "repositories", "chunks": "rag_index", "symbols": "code_analyses"}


def ask(folder: Path, question: str) -> list[str]:
    """The sources that an answer cites, in order; none where nothing was found."""
    try:
        _, told = cortex(folder, "ask", "-p", "tree", "--json", question)
    except ProcessFailed:
        return []
    return [citation["source"] for citation in json.loads(told)["citations"]]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the unpacked distributions")
    parser.add_argument("--json", action="store_true", help="end with one JSON object of named figures")
    given = parser.parse_args()
    costs: dict[str, Cost] = {}
    named: dict[str, float] = {}
    lines = []
    for name, expected in tomllib.loads(Path(__file__).with_suffix(".toml").read_text()).items():
        tree = (given.data / expected["distribution"]).resolve()
        with repository_of(tree) as folder:
            costs[name], told = cortex(folder, "run", "tree", "--json")
            [summary] = json.loads(told)
            right = 0
            for question in expected["questions"]:
                cited = ask(folder, question["ask"])
                first = cited[0].removeprefix(f"{tree.name}/") if cited else "nothing"
                right += first in question["files"]
                lines.append(
                    f"| {name} | {question['ask']} | {first} | {'yes' if first in question['files'] else 'no'} |"
                )
            named |= {f"{name}_questions": len(expected["questions"]), f"{name}_right": right}
            named[f"{name}_quarantined"] = len(summary["quarantine"])
            named[f"{name}_failed_checks"] = len(summary["failed"])
            for what, product in COUNTED.items():
                named[f"{name}_{what}"] = summary["products"][product]["metadata"][what]
    print(table(costs))
    print("\n| project | question | first file cited | right |\n|---|---|---|---|")
    print("\n".join(lines))
    named |= figures(costs)
    if given.json:
        print(json.dumps(named))


if __name__ == "__main__":
    main()
