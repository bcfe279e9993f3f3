"""The size and shape of a file in numbers."""

from typing import TypedDict

from cortex_pipelines.codebase.symbols import Code


class Metrics(TypedDict):
    """What `code_files.metrics` holds: lengths in lines, complexity after McCabe (1 + decisions of each function)."""

    lines: int
    code_lines: int
    functions: int
    longest_function: int
    deepest_nesting: int
    complexity: int
    highest_complexity: int
    notes: int
    deferred_imports: list[int]
    left_out: str | None
    lint: str | None


def metrics(code: Code, lint: str | None = None) -> Metrics:
    """The metrics of a file; `lint` is why the linter did not read it, `""` where it did, None where it has no say."""
    return Metrics(
        lines=code.lines,
        code_lines=code.code_lines,
        functions=len(code.functions),
        longest_function=max((function.lines for function in code.functions), default=0),
        deepest_nesting=max((function.nesting for function in code.functions), default=0),
        complexity=code.branches + len(code.functions),
        highest_complexity=max((function.complexity for function in code.functions), default=0),
        notes=len(code.notes),
        deferred_imports=sorted({found.line for found in code.imports if found.deferred}),
        left_out=code.left_out,
        lint=lint,
    )
