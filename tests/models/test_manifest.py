"""The manifest: the one that is shipped, what is refused in one line, and what is chosen of it."""

from pathlib import Path

import pytest

from cortex_pipelines.models.manifest import (
    File,
    Kind,
    ManifestError,
    Profile,
    choose,
    load_manifest,
    safe_path,
)
from cortex_pipelines.names import Lane
from cortex_pipelines.settings import Downloads

ROOT = Path(__file__).parents[2]


def left_in(choices):
    return [choice.model.name for choice in choices if choice.left_out is None]


def test_the_shipped_manifest_serves_every_lane_on_the_reference_box_and_something_small_on_a_laptop():
    shipped = load_manifest()
    strix = {model.lane for model in shipped.models if Profile.STRIX in model.profiles}
    assert strix == {*Lane, "EMBEDDINGS"}
    laptop = {model.kind for model in shipped.models if Profile.LAPTOP in model.profiles}
    assert laptop == {Kind.GGUF, Kind.EMBEDDINGS}
    assert (ROOT / "ops" / "models.yaml").read_bytes() == (
        ROOT / "cortex_pipelines" / "models" / "models.yaml"
    ).read_bytes()


def test_a_non_commercial_model_is_never_a_silent_default():
    shipped = load_manifest()
    assert any(model.non_commercial for model in shipped.models)
    for profile in Profile:
        choices = choose(shipped, profile, Downloads())
        assert not [choice for choice in choices if choice.model.non_commercial and choice.left_out is None]
        for choice in choices:
            if choice.model.non_commercial:
                assert choice.notable
                assert f"--accept-licence {choice.model.licence}" in (choice.left_out or "")
    accepted = choose(shipped, Profile.STRIX, Downloads(), accepted=frozenset({"cc-by-nc-4.0"}))
    assert "UltraLong-8B-4M" in left_in(accepted)


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("super_reader", lambda model: model.lane == "SUPER_READER"),
        ("governance", lambda model: model.lane == "GOVERNANCE"),
        ("vllm", lambda model: model.kind is Kind.VLLM),
        ("embeddings", lambda model: model.kind is Kind.EMBEDDINGS),
    ],
)
def test_each_switch_leaves_out_its_models_and_no_others(switch, gone):
    shipped = load_manifest()
    licences = frozenset({"cc-by-nc-4.0"})
    everything = [m for m in shipped.models if Profile.STRIX in m.profiles]
    assert any(gone(model) for model in everything)
    chosen = choose(shipped, Profile.STRIX, Downloads(**{switch: False}), accepted=licences)
    assert left_in(chosen) == [model.name for model in everything if not gone(model)]
    for choice in chosen:
        assert choice.left_out == (f"ARGOS_DOWNLOAD_{switch.upper()} is off" if gone(choice.model) else None)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_skipped_kind_is_left_out(kind):
    chosen = choose(load_manifest(), Profile.STRIX, Downloads(), frozenset({kind}), frozenset({"cc-by-nc-4.0"}))
    assert {choice.model.kind for choice in chosen if choice.left_out is None} == set(Kind) - {kind}


@pytest.mark.parametrize(
    "path", ["../x", "a/../x", "/etc/x", "a//x", "", ".hidden", "a/.x", "a\\x", "a\nb", "a/./x", "~/x", "a" * 300, "ä"]
)
def test_a_path_that_could_leave_its_folder_is_refused(path, manifest):
    with pytest.raises(ValueError, match="plain relative path"):
        safe_path(path)
    with pytest.raises(ManifestError, match=r"models\[0\]\.files\[0\]\.path \(reader\): should be a plain relative"):
        load_manifest(manifest(files=[{"path": path}]))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": "../up"}, r"models\[0\]\.name .*plain"),
        ({"name": "a/b"}, r"models\[0\]\.name .*one plain name"),
        ({"lane": "JUDGE"}, r"models\[0\]\.lane"),
        ({"kind": "onnx"}, r"models\[0\]\.kind \(reader\)"),
        ({"repository": "../../x"}, r"models\[0\]\.repository"),
        ({"revision": "main?x=1"}, r"models\[0\]\.revision"),
        ({"files": []}, r"models\[0\]\.files"),
        ({"files": [{"path": "x.gguf", "size": -1}]}, r"files\[0\]\.size"),
        ({"files": [{"path": "x.gguf", "sha256": "abc"}]}, r"files\[0\]\.sha256"),
        ({"files": [{"path": "*.gguf", "size": 5}]}, "a pattern should have no size"),
        ({"profiles": ["mainframe"]}, r"profiles\[0\]"),
        ({"licens": "mit"}, r"models\[0\]\.licens"),
    ],
)
def test_a_bad_manifest_is_one_line_that_names_file_and_field(manifest, changed, told):
    path = manifest(**changed)
    with pytest.raises(ManifestError, match=told) as caught:
        load_manifest(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_two_models_in_one_folder_and_what_is_no_manifest_are_refused(manifest, tmp_path):
    with pytest.raises(ManifestError, match="two models would lie in one folder: gguf/reader"):
        load_manifest(manifest({}, {"name": "Reader"}))
    for text in ("[1, 2", "just words", "", "version: 2\nmodels: []"):
        (tmp_path / "odd.yaml").write_text(text)
        with pytest.raises(ManifestError, match=r"odd\.yaml"):
            load_manifest(tmp_path / "odd.yaml")
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / "none.yaml")


def test_a_pattern_stays_in_its_folder_and_finds_no_hidden_files():
    assert File(path="*.json").matches("config.json")
    assert not File(path="*.json").matches("folder/config.json")
    assert not File(path="*").matches(".gitattributes")
    assert File(path="folder/*").matches("folder/config.json")
    assert not File(path="*/*").matches("../config.json")
