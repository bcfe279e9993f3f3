"""What can be a project: a folder with a safe name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex_pipelines.errors import CortexError
from cortex_pipelines.projects import ProjectNameError, find_projects, project_name, project_names


@pytest.mark.parametrize("name", ["kestrel", "Atlas-2", "a.b_c", "0", "x" * 100])
def test_plain_names_are_taken(name):
    assert project_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "../a", "a..b", ".hidden", "-flag", "a b", "a\nb", "a\0b", "ü", "x" * 101, "a:b"],
)
def test_names_that_could_lead_elsewhere_are_refused_in_one_line(name):
    with pytest.raises(ProjectNameError) as told:
        project_name(name)
    assert "\n" not in str(told.value)


@given(st.text(max_size=20))
def test_whatever_is_taken_is_one_folder_of_the_inbox(name):
    try:
        project_name(name)
    except ProjectNameError:
        return
    assert "/" not in name
    assert name not in ("", ".", "..")
    assert name.isascii()
    assert name.isprintable()


def test_names_that_differ_only_in_case_are_refused():
    with pytest.raises(ProjectNameError, match="differ only in case"):
        project_names(["atlas", "Atlas"])
    assert project_names(["a", "b", "a"]) == ("a", "b")


def test_the_folders_of_an_inbox_and_why_some_are_none(tmp_path):
    for name in ("atlas", "no good", "Twin", "twin", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file.md").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "atlas")
    found = find_projects(tmp_path)
    assert found.projects == ("atlas",)
    assert sorted(found.refused) == ["Twin", "link", "no good", "twin"]


def test_an_inbox_that_is_missing_or_a_file_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(CortexError, match="set CORTEX_INBOX"):
            find_projects(place)
