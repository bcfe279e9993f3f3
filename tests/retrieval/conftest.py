"""Projects whose documents and code are indexed, and the sample, indexed once."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cortex_pipelines.ingest.documents import DOCUMENTS
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.retrieval.index import RAG_INDEX
from cortex_pipelines.settings import load_settings
from cortex_pipelines.stairs import Outcome, Work, climb
from cortex_pipelines.store import ProjectStore, Snapshot
from tests.ingest.git_building import commit_files, make_repository


@pytest.fixture
def index(work: Work, folder: Path) -> Callable[..., Outcome]:
    """Write documents (None: remove) and a repository `r`, and climb up to the index."""

    def run(documents: Mapping[str, str | None] | None = None, code: Mapping[str, str | None] | None = None) -> Outcome:
        for name, text in (documents or {}).items():
            if text is None:
                (folder / name).unlink()
            else:
                (folder / name).write_text(text)
        if code and (folder / "r").exists():
            commit_files(folder / "r", code)
        elif code:
            make_repository(folder / "r", {name: text for name, text in code.items() if text is not None})
        climb(DOCUMENTS, work)
        climb(REPOSITORIES, work)
        outcome = climb(RAG_INDEX, work)
        assert outcome.failed == ()
        return outcome

    return run


@pytest.fixture(scope="session")
def sample_index(built_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """The sample project, indexed. Do not write into it."""
    folder = tmp_path_factory.mktemp("index")
    names = {"CORTEX_STORE": "store", "CORTEX_REPORTS": "reports", "CORTEX_STATE": "state"}
    variables = {"CORTEX_INBOX": str(built_sample)} | {name: str(folder / part) for name, part in names.items()}
    settings = load_settings(variables, env_file=None)
    work = Work("kestrel", settings, ProjectStore(settings.store, "kestrel", settings.state))
    for stair in (DOCUMENTS, REPOSITORIES, RAG_INDEX):
        climb(stair, work)
    return work.store.snapshot()
