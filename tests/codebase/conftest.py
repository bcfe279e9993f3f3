"""A project with one repository, analysed as far as code analyses need it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cortex_pipelines.codebase.analyses import CODE_ANALYSES
from cortex_pipelines.ingest.repositories import REPOSITORIES
from cortex_pipelines.stairs import Outcome, Work, climb
from tests.ingest.git_building import commit_files, make_repository


@pytest.fixture
def folder(work: Work) -> Path:
    """The repository's folder."""
    return work.settings.inbox / work.project / "r"


@pytest.fixture
def analyse(work: Work, folder: Path) -> Callable[..., Outcome]:
    """Commit files (None: remove) to the repository `r`, if there are any, and climb up to the analyses."""

    def run(files: Mapping[str, str | bytes | None] | None = None) -> Outcome:
        if files and folder.exists():
            commit_files(folder, files)
        elif files:
            make_repository(folder, {name: content for name, content in files.items() if content is not None})
        climb(REPOSITORIES, work)
        outcome = climb(CODE_ANALYSES, work)
        assert outcome.verdicts["evidence_resolves"].passed
        return outcome

    return run
