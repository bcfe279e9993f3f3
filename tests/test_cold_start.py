"""What a fresh interpreter loads: a command that only answers must not pay for what it does not use."""

import subprocess
import sys

HEAVY = (
    "dagster",
    "lancedb",
    "pyarrow",
    "numpy",
    "tree_sitter",
    "tree_sitter_language_pack",
    "httpx",
    "pypdfium2",
    "docx",
)


def loaded_after(code: str) -> set[str]:
    """The heavy packages that are loaded once `code` has run in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.__stdout__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy():
    code = "from cortex_pipelines.cli import main\nmain(['--help'], standalone_mode=False)"
    assert loaded_after(code) == set()


def test_settings_load_nothing_heavy():
    code = "from cortex_pipelines.cli import main\nmain(['settings'], standalone_mode=False)"
    assert loaded_after(code) == set()


def test_the_list_of_products_loads_nothing_heavy():
    assert loaded_after("import cortex_pipelines.products, cortex_pipelines.running") == set()


def test_the_code_location_loads_dagster_and_nothing_else_that_is_heavy():
    assert loaded_after("import cortex_pipelines.definitions") <= {"dagster", "numpy"}


def test_importing_the_client_of_lanes_asks_nobody_and_starts_no_thread():
    code = (
        "import sys, threading\n"
        "asked = []\n"
        "sys.addaudithook(lambda event, given: asked.append(event) if event.startswith('socket.') else None)\n"
        "import cortex_pipelines.lanes, cortex_pipelines.lanes.client\n"
        "assert [event for event in asked if event != 'socket.__new__'] == [], asked\n"
        "assert threading.active_count() == 1\n"
    )
    assert loaded_after(code) == {"httpx"}
