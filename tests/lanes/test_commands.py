"""`cortex lanes`, as it is typed: what it prints, what it exits with, and that a server's words stay words."""

import json

import pytest
from click.testing import CliRunner

from cortex_pipelines.cli import main
from tests.servers.faults import Answer, nobody, serving
from tests.servers.keepers import Router


@pytest.fixture
def cortex(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **variables):
        return CliRunner().invoke(main, ["lanes", *arguments], env=variables)

    return run


def test_with_nothing_set_every_command_says_so(cortex):
    assert "everything runs without a model" in cortex("show").stderr
    assert cortex("doctor").exit_code == 0
    assert cortex("metrics").exit_code == 0
    for command in (["explain", "CODER"], ["ask", "coder", "hello"]):
        told = cortex(*command)
        assert told.exit_code == 2
        assert "ARGOS_LANE_CODER_URL" in told.stderr
        assert len(told.stderr.splitlines()) == 1


def test_show_and_explain_say_where_a_call_goes_and_why(cortex, tmp_path):
    (tmp_path / ".env").write_text("ARGOS_LANE_CODER_API_KEY=very-secret\n")
    variables = {"ARGOS_LANE_CODER_URL": "http://a:1,http://b:2", "ARGOS_LLM_BASE_URL": "http://c:3"}
    told = cortex("explain", "coder", **variables).stdout
    assert [told.index(part) for part in ("http://a:1", "http://b:2", "http://c:3")] == sorted(
        told.index(part) for part in ("http://a:1", "http://b:2", "http://c:3")
    )
    assert "ARGOS_LANE_CODER_API_KEY (.env)" in told
    assert "very-secret" not in told + cortex("explain", "coder", "--json", **variables).stdout
    rows = json.loads(cortex("show", "--json", **variables).stdout)
    assert [place["endpoint"] for place in rows["CODER"]["endpoints"]] == ["http://a:1", "http://b:2"]
    assert rows["GOVERNANCE"]["served_by"] is None


def test_the_doctor_names_each_fault_and_what_mends_it(cortex, llama_server):
    told = cortex("doctor", "--json", ARGOS_LANE_CODER_URL=llama_server)
    assert told.exit_code == 0, told.output
    [well] = [one for one in json.loads(told.stdout) if one["endpoint"]]
    assert (well["fault"], well["backend"], well["served"], well["window"]) == ("", "llama_cpp", ["tiny"], 32_768)
    assert (well["slots"], well["structured"]) == (1, "json_schema")
    assert well["version"]
    assert well["seconds"] > 0
    faults = {
        ("ARGOS_LANE_CODER_MODEL", "other", "it serves tiny, not other"): "set ARGOS_LANE_CODER_MODEL=tiny",
        ("ARGOS_LANE_CODER_BACKEND", "vllm", "it is llama_cpp, not vllm"): "set ARGOS_LANE_CODER_BACKEND=llama_cpp",
    }
    for (name, value, fault), fix in faults.items():
        told = cortex("doctor", ARGOS_LANE_CODER_URL=llama_server, **{name: value})
        assert told.exit_code == 1
        assert fault in told.stdout
        assert f"fix {fix}" in told.stdout
    told = cortex("doctor", ARGOS_LANE_CODER_URL=nobody())
    assert told.exit_code == 1
    assert "or set ARGOS_LANE_CODER_URL to where it is" in told.stdout


def test_what_changed_since_the_last_time_is_told(cortex):
    with serving(window=1_000) as server:
        assert "changed" not in cortex("doctor", ARGOS_LANE_CODER_URL=server.url).stdout
        server.window = 500
        assert "changed window: was 1000, is 500" in cortex("doctor", ARGOS_LANE_CODER_URL=server.url).stdout
        assert "changed" not in cortex("doctor", "--quick", ARGOS_LANE_CODER_URL=server.url).stdout


def test_a_server_that_the_doctor_finds_well_is_asked_again_at_once(cortex):
    refused = Answer(status=401, body=b'{"error": "Unauthorized"}')
    answers = {"now": refused}
    with serving(lambda _: answers["now"]) as server:
        variables = {"ARGOS_LANE_CODER_URL": server.url}
        assert "unauthorised" in cortex("ask", "coder", "x", "--timeout", "1", **variables).stderr
        assert "misconfigured after unauthorised" in cortex("show", **variables).stdout
        answers["now"] = Answer()
        assert cortex("doctor", **variables).exit_code == 0
        assert cortex("ask", "coder", "x", "--timeout", "1", **variables).stdout == "The answer.\n"


def test_a_question_is_answered_and_its_trail_told(cortex, llama_saying):
    url, dead = llama_saying("The ferry leaves at seven."), nobody()
    told = cortex("ask", "coder", "When?", "--max-tokens", "40", ARGOS_LANE_CODER_URL=f"{dead},{url}")
    assert (told.exit_code, told.stdout) == (0, "The ferry leaves at seven.\n")
    assert f"{dead}: connection" in told.stderr
    again = json.loads(cortex("ask", "coder", "When?", "--max-tokens", "40", "--json", ARGOS_LANE_CODER_URL=url).stdout)
    assert (again["cached"], again["text"]) == (True, "The ferry leaves at seven.")


def test_a_models_words_cannot_command_a_terminal(cortex):
    with serving(Answer(text="\x1b]0;owned\x07 done \x1b[2J")) as server:
        told = cortex("ask", "coder", "x", ARGOS_LANE_CODER_URL=server.url)
        assert "\x1b" not in told.output
        server.model = "m\x1b[2J"
        assert "\x1b" not in cortex("doctor", ARGOS_LANE_CODER_URL=server.url).output


def test_metrics_are_prometheus_text_of_all_calls(cortex):
    with serving() as server:
        for number in range(3):
            cortex("ask", "coder", f"question {number}", ARGOS_LANE_CODER_URL=server.url)
        told = cortex("metrics").stdout
        assert f'cortex_lane_answered_total{{endpoint="{server.url}",model=""}} 3' in told
        assert f'cortex_lane_prompt_tokens_total{{endpoint="{server.url}",model=""}} 21' in told
        assert all(
            line.startswith(("# HELP cortex_lane_", "# TYPE cortex_lane_", "cortex_lane_"))
            for line in told.splitlines()
        )
        [row] = json.loads(cortex("metrics", "--json").stdout)
        assert (row["endpoint"], row["answered_total"], row["in_flight"]) == (server.url, 3, 0)


def test_a_plan_says_what_fits_and_refuses_what_does_not(cortex, tiny_model):
    path = str(tiny_model())
    told = cortex("plan", path, "--budget", "1GB", "--bandwidth", "100GB", "--json")
    assert told.exit_code == 0, told.output
    row = json.loads(told.stdout)["models"][path]
    assert row["kv_bytes_per_token"]["f16"] > row["kv_bytes_per_token"]["q8_0"] > row["kv_bytes_per_token"]["q4_0"]
    assert row["window"]["f16"] > 0
    assert row["tokens_per_second"]["f16"][0] > row["tokens_per_second"]["f16"][1]
    told = cortex("plan", "--budget", "301MB", "--window", "10000000", ARGOS_LANE_GOVERNANCE_MODEL_PATH=path)
    assert told.exit_code == 1
    assert f"GOVERNANCE {path}" in told.stdout
    assert "10,000,000 tokens x" in told.stderr
    for wrong in (["plan"], ["plan", "missing.gguf"], ["plan", path, "--budget", "plenty"]):
        told = cortex(*wrong)
        assert (told.exit_code, len(told.stderr.splitlines())) == (2, 1)


def test_a_model_is_loaded_and_let_go_by_hand_and_the_doctor_leaves_it_as_it_is(cortex):
    keeper = Router(["m"])
    with serving(keeper=keeper) as server:
        variables = {"ARGOS_LANE_CODER_URL": server.url, "ARGOS_LANE_CODER_MODEL": "m"}
        told = cortex("doctor", **variables)
        assert (told.exit_code, keeper.commands) == (0, [])
        assert "not in memory; kept by llama.cpp's router" in told.stdout
        assert cortex("load", "coder", **variables).stdout == f"m at {server.url}: loaded\n"
        assert json.loads(cortex("load", "coder", "--json", **variables).stdout)["changed"] is False
        assert cortex("unload", "coder", **variables).stdout == f"m at {server.url}: let go\n"
    assert keeper.commands == ["load m", "unload m"]
