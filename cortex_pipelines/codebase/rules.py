"""What is looked for in code, and where each rule belongs: its section and how much it matters."""

from dataclasses import dataclass
from enum import StrEnum

from cortex_pipelines.evidence import Severity


class Section(StrEnum):
    """The four parts of a code analysis."""

    QUALITY = "quality_assessment"
    REFACTORING = "refactoring_suggestions"
    SECURITY = "security_concerns"
    PERFORMANCE = "performance_optimizations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule's place; `message` is what a rule of ours says, ruff brings its own."""

    section: Section
    severity: Severity
    message: str = ""


_HIGH, _MEDIUM, _LOW, _INFO = Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.INFO

# Ruff's rules by the start of their code; the longest start that fits decides, and the starts are what is selected.
# Chosen for what a reader acts on: families whose findings depend on taste (UP031, SIM108) or on the Python
# version that the repository supports, which is not known here (UP006), are left out.
RUFF_RULES: dict[str, Rule] = {
    "S": Rule(Section.SECURITY, _MEDIUM),
    **{f"S{code}": Rule(Section.SECURITY, _HIGH) for code in (102, 202, 307, 501, 506, 602, 604, 605, 609, 701, 702)},
    **{f"S{code}": Rule(Section.SECURITY, _LOW) for code in (101, 108, 113, 310, 311)},
    "S110": Rule(Section.QUALITY, _LOW),
    "S112": Rule(Section.QUALITY, _LOW),
    "F": Rule(Section.QUALITY, _MEDIUM),
    "F401": Rule(Section.QUALITY, _LOW),
    "F541": Rule(Section.QUALITY, _LOW),
    "F821": Rule(Section.QUALITY, _HIGH),
    "F841": Rule(Section.QUALITY, _LOW),
    "B": Rule(Section.QUALITY, _MEDIUM),
    **{f"B0{code}": Rule(Section.QUALITY, _LOW) for code in ("07", "09", "10", "18", "28")},
    "B019": Rule(Section.PERFORMANCE, _MEDIUM),
    "B904": Rule(Section.QUALITY, _LOW),
    "PLE": Rule(Section.QUALITY, _HIGH),
    "PLE2502": Rule(Section.SECURITY, _HIGH),
    "PLW": Rule(Section.QUALITY, _LOW),
    "ERA001": Rule(Section.QUALITY, _INFO),
    "C901": Rule(Section.REFACTORING, _MEDIUM),
    "PLR0913": Rule(Section.REFACTORING, _LOW),
    "PLR5501": Rule(Section.REFACTORING, _LOW),
    "SIM": Rule(Section.REFACTORING, _LOW),
    **{f"UP0{code}": Rule(Section.REFACTORING, _LOW) for code in ("04", "08", "18", "24", "28")},
    "PERF": Rule(Section.PERFORMANCE, _LOW),
    "C4": Rule(Section.PERFORMANCE, _LOW),
    "RUF015": Rule(Section.PERFORMANCE, _LOW),
    "RUF017": Rule(Section.PERFORMANCE, _MEDIUM),
    **{f"ASYNC{code}": Rule(Section.PERFORMANCE, _MEDIUM) for code in (210, 220, 221, 222, 230, 251)},
}

# S603 and S607 flag every call of a program, PLW2901 every loop variable that is cleaned, B905 every zip;
# PERF203 has not cost anything since Python 3.11.
RUFF_IGNORED = ("S603", "S607", "B905", "PLW2901", "PERF203", "SIM105", "SIM108", "C408")

# What is right in a test: asserts, passwords, temporary paths, statements for their effect, nested `with`.
_TEST_NOISE = ("S", "B011", "B017", "B018", "B904", "SIM117", "PLR0913", "PLW", "ERA")


TREE_RULES: dict[str, Rule] = {
    "long-function": Rule(
        Section.REFACTORING, _LOW, "Function {name} is {count} lines long: split what can be named apart"
    ),
    "deep-nesting": Rule(
        Section.REFACTORING, _LOW, "Function {name} nests {count} levels deep: return early or take out the inner part"
    ),
    "complex-function": Rule(
        Section.REFACTORING, _MEDIUM, "Function {name} has a cyclomatic complexity of {count}: split its decisions"
    ),
    "large-file": Rule(Section.REFACTORING, _LOW, "File has {count} lines of code: split it by what changes together"),
    "import-cycle": Rule(Section.REFACTORING, _MEDIUM, "Files import each other in a circle: {name}"),
    "duplicate-definition": Rule(
        Section.QUALITY, _MEDIUM, "{name} is defined again in the same scope: the later definition replaces the earlier"
    ),
    "note": Rule(Section.QUALITY, _INFO, "{name} left in a comment"),
    "defer-in-loop": Rule(
        Section.PERFORMANCE, _MEDIUM, "defer in a loop holds every resource until the function returns"
    ),
    "await-in-loop": Rule(
        Section.PERFORMANCE, _LOW, "await in a loop runs one after another: gather independent calls with Promise.all"
    ),
    "code-from-text": Rule(Section.SECURITY, _HIGH, "Text is run as code: whoever controls it runs the program"),
    "markup-from-text": Rule(
        Section.SECURITY, _MEDIUM, "Text becomes markup unescaped: cross-site scripting where it is not constant"
    ),
    "certificates-unchecked": Rule(Section.SECURITY, _HIGH, "TLS certificates are not verified"),
    "shell-command": Rule(
        Section.SECURITY, _MEDIUM, "A command is built at run time and given to a shell: pass a list of arguments"
    ),
    "unbounded-copy": Rule(
        Section.SECURITY, _MEDIUM, "Copies without a bound on the target's size: use the bounded variant"
    ),
    "unsafe-deserialization": Rule(
        Section.SECURITY, _MEDIUM, "Untrusted input can choose the class that is deserialised"
    ),
    "download-and-run": Rule(Section.SECURITY, _HIGH, "Runs what it downloads without verifying it"),
}


def ruff_rule(code: str) -> Rule | None:
    """The place of a ruff rule; None for one that was not asked for, such as a syntax error."""
    return next((RUFF_RULES[code[:size]] for size in range(len(code), 0, -1) if code[:size] in RUFF_RULES), None)


def is_test_noise(code: str) -> bool:
    """Whether a ruff rule flags what is normal in a test."""
    return code.startswith(_TEST_NOISE)
