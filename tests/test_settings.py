"""Every variable: that it changes what is resolved, where its value is said to come from, and how a bad one is told."""

import pytest

from cortex_pipelines.lanes import Lanes, LaneUnresolved, chain, resolve
from cortex_pipelines.names import Backend, Lane
from cortex_pipelines.settings import VARIABLES, SettingsError, load_settings

# A value for each variable that is not its default.
VALUES = {
    "CORTEX_INBOX": "elsewhere/inbox",
    "CORTEX_STORE": "elsewhere/store",
    "CORTEX_REPORTS": "elsewhere/reports",
    "CORTEX_STATE": "elsewhere/state",
    "CORTEX_PROJECTS": "a,b",
    "CORTEX_DEEP_INGEST_BYTES": "1000000",
    "CORTEX_ARCHIVE_MEMBERS": "10",
    "CORTEX_ARCHIVE_BYTES": "1000000",
    "CORTEX_ARCHIVE_MEMBER_BYTES": "100000",
    "CORTEX_ARCHIVE_RATIO": "20",
    "CORTEX_ARCHIVE_DEPTH": "1",
    "CORTEX_ARCHIVE_NAME_BYTES": "100",
    "CORTEX_MASK_SECRETS": "true",
    "CORTEX_BETTER_DESCRIPTIONS": "true",
    "CORTEX_EXECUTOR": "multiprocess",
    "CORTEX_LANE_CACHE": "refresh",
    "CORTEX_LANE_CACHE_BYTES": "1000000",
    "CORTEX_CELERY_URL": "redis://box:6379/1",
    "CORTEX_ALERT_WEBHOOK": "https://chat.local/hook/secret",
    "CORTEX_ALERT_EMAIL": "ops@example.org,team@example.org",
    "CORTEX_ALERT_FROM": "cortex@example.org",
    "CORTEX_SMTP_URL": "smtp+starttls://user:word@mail.local:587",
    "CORTEX_LANE_BOARD": "redis://box:6379/0",
    "CORTEX_MODEL_MEMORY": "100GB",
    "CORTEX_REMOTES": "github.com,/srv/git",
    "CORTEX_MODEL_HOSTS": "vllm,llamacpp",
    "CORTEX_BURST_MODEL": "reader-wide",
    "CORTEX_SLEEP_LEVEL": "2",
    "ARGOS_LLM_BASE_URL": "http://box:8000",
    "ARGOS_LLM_MODEL": "some-model",
    "ARGOS_LLM_API_KEY": "a-key",
    "ARGOS_LLM_BACKEND": "tgi",
    "ARGOS_LLM_DEFAULT_LANE": "coder",
    "ARGOS_LLAMA_CPP_N_CTX": "4096",
    "ARGOS_LLAMA_CPP_N_THREADS": "3",
    "ARGOS_LLAMA_CPP_N_GPU_LAYERS": "7",
    "ARGOS_MODELS_DIR": "elsewhere/models",
    "HF_TOKEN": "a-token",
    **{f"ARGOS_DOWNLOAD_{name}": "false" for name in ("SUPER_READER", "GOVERNANCE", "VLLM", "EMBEDDINGS")},
    **{
        f"ARGOS_LANE_{lane}_{part}": value
        for lane in Lane
        for part, value in {
            "URL": "http://a:1,http://b:2/v1",
            "MODEL": "lane-model",
            "MODEL_PATH": "model.gguf",
            "BACKEND": "openai",
            "API_KEY": "lane-key",
        }.items()
    },
}


def load(**variables):
    return load_settings(variables, env_file=None)


def test_every_variable_has_a_value_here():
    assert VALUES.keys() == VARIABLES.keys()


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_changes_what_is_resolved_and_says_where_from(name, tmp_path):
    default = load()
    told = load(**{name: VALUES[name]})
    assert told.value(name) != default.value(name)
    assert (default.source(name), told.source(name)) == ("default", "environment")
    assert [other for other in VARIABLES if told.value(other) != default.value(other)] == [name]
    file = tmp_path / ".env"
    file.write_text(f"{name}={VALUES[name]}\n")
    by_file = load_settings({}, env_file=file)
    assert by_file.value(name) == told.value(name)
    assert by_file.source(name) == str(file)
    assert load_settings({name: VALUES[name]}, env_file=file).source(name) == "environment"
    assert load_settings({name: ""}, env_file=file).value(name) == default.value(name)


@pytest.mark.parametrize("name", ["ARGOS_LANE_CODER_ULR", "CORTEX_INBOXX", "ARGOS_LANE_POET_URL"])
def test_an_unknown_name_is_told_by_name(name):
    with pytest.raises(SettingsError, match=name):
        load(**{name: "x"})


def test_a_misspelt_name_is_told_with_the_right_one():
    with pytest.raises(SettingsError, match="did you mean ARGOS_LANE_CODER_URL"):
        load(ARGOS_LANE_CODER_ULR="http://x:1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CORTEX_DEEP_INGEST_BYTES", "many"),
        ("CORTEX_EXECUTOR", "warp"),
        ("CORTEX_SLEEP_LEVEL", "3"),
        ("CORTEX_PROJECTS", "a,../b"),
        ("ARGOS_LANE_CODER_URL", "ftp://x"),
        ("ARGOS_LANE_CODER_URL", "http://user:secret@x"),
        ("ARGOS_LANE_CODER_BACKEND", "cuda"),
        ("ARGOS_LLM_DEFAULT_LANE", "poet"),
        ("ARGOS_LLAMA_CPP_N_CTX", "-1"),
        ("CORTEX_INBOX", "a\nb"),
    ],
)
def test_a_bad_value_is_one_line_with_the_variable(name, value):
    with pytest.raises(SettingsError) as told:
        load(**{name: value})
    assert name in str(told.value)
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_secrets_are_never_shown():
    settings = load(ARGOS_LLM_API_KEY="hush-1", ARGOS_LANE_CODER_API_KEY="hush-2", HF_TOKEN="hush-3")
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"


# Resolution: the lane's own endpoint; else the default lane's; else ARGOS_LLM_*; else an error that names them.


@pytest.mark.parametrize("lane", Lane)
def test_a_lanes_own_endpoint_comes_first(lane):
    variables = {
        f"ARGOS_LANE_{lane}_{part}": VALUES[f"ARGOS_LANE_{lane}_{part}"]
        for part in ("URL", "MODEL", "BACKEND", "API_KEY")
    }
    resolved = resolve(load(**variables, ARGOS_LLM_BASE_URL="http://default:1"), lane)
    assert [endpoint.url for endpoint in resolved.endpoints] == ["http://a:1", "http://b:2"]
    first = resolved.endpoints[0]
    assert (first.model, first.backend, first.api_key.get_secret_value()) == ("lane-model", Backend.OPENAI, "lane-key")
    assert resolved.origins["url"].variable == f"ARGOS_LANE_{lane}_URL"


@pytest.mark.parametrize("lane", [lane for lane in Lane if lane is not Lane.ORCHESTRATOR])
def test_a_lane_without_an_endpoint_is_served_by_the_default_lane_then_by_the_default_endpoint(lane):
    resolved = resolve(load(ARGOS_LANE_ORCHESTRATOR_URL="http://o:1", ARGOS_LLM_BASE_URL="http://d:1"), lane)
    assert (resolved.served_by, resolved.endpoints[0].url) == (Lane.ORCHESTRATOR, "http://o:1")
    resolved = resolve(load(ARGOS_LLM_BASE_URL="http://d:1"), lane)
    assert (resolved.served_by, resolved.endpoints[0].url) == (None, "http://d:1")


def test_another_default_lane_serves():
    resolved = resolve(load(ARGOS_LANE_CODER_URL="http://c:1", ARGOS_LLM_DEFAULT_LANE="coder"), Lane.FAST_RAG)
    assert resolved.served_by is Lane.CODER


def test_a_model_without_an_address_is_asked_of_the_default_endpoint():
    resolved = resolve(
        load(ARGOS_LANE_CODER_MODEL="coder-30b", ARGOS_LLM_BASE_URL="http://d:1", ARGOS_LLM_MODEL="m"), Lane.CODER
    )
    [endpoint] = resolved.endpoints
    assert (resolved.served_by, endpoint.url, endpoint.model) == (Lane.CODER, "http://d:1", "coder-30b")


def test_a_model_file_without_an_address_is_embedded_and_two_lanes_are_llama_cpp():
    [endpoint] = resolve(load(ARGOS_LANE_CODER_MODEL_PATH="x.gguf"), Lane.CODER).endpoints
    assert endpoint.backend is Backend.EMBEDDED
    for lane, backend in (
        (Lane.SUPER_READER, Backend.LLAMA_CPP),
        (Lane.GOVERNANCE, Backend.LLAMA_CPP),
        (Lane.CODER, None),
    ):
        [endpoint] = resolve(load(**{f"ARGOS_LANE_{lane}_URL": "http://x:1"}), lane).endpoints
        assert endpoint.backend is backend


@pytest.mark.parametrize("lane", Lane)
def test_with_nothing_set_the_error_names_what_would_help(lane):
    with pytest.raises(LaneUnresolved) as told:
        resolve(load(), lane)
    for name in (f"ARGOS_LANE_{lane}_URL", "ARGOS_LANE_ORCHESTRATOR_URL", "ARGOS_LLM_BASE_URL"):
        assert name in str(told.value)
    assert not Lanes(load()).configured


@pytest.mark.parametrize("lane", Lane)
def test_no_chain_has_a_cycle(lane):
    everything = load(
        **{f"ARGOS_LANE_{each}_URL": f"http://{each.lower()}:1" for each in Lane}, ARGOS_LLM_BASE_URL="http://d:1"
    )
    steps = [step.served_by for step in chain(everything, lane)]
    assert len(steps) == len(set(steps))
    assert steps[0] is lane
    assert steps[-1] is None
