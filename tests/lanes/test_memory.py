"""What a model takes in memory, from its own metadata: the requirements' figures, and files that lie."""

import json
import time

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex_pipelines.lanes.memory import (
    CacheType,
    CannotFit,
    Geometry,
    ModelUnreadable,
    fit,
    read_geometry,
    require_fit,
)

LLAMA_8B = Geometry("an 8B of Llama 3.1's shape", 8_540_000_000, (8,) * 32, 128, 128, 4_194_304, 8_540_000_000)


def model(path, kv_heads=2, byte_order=gguf.GGUFEndian.LITTLE, experts=0, **more):
    writer = gguf.GGUFWriter(path, "llama", endianess=byte_order)
    writer.add_name("a model")
    writer.add_block_count(4)
    writer.add_context_length(1_000)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(kv_heads)
    writer.add_token_list([f"t{number}" for number in range(500)])
    writer.add_token_scores([0.0] * 20_000)
    for name, value in more.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tensor("token_embd.weight", np.ones((100, 64), dtype=np.float32))
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
        writer.add_tensor("blk.0.ffn_up_exps.weight", np.ones((experts, 64, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "size"), [("f16", 131_072), ("q8_0", 69_632), ("q4_0", 36_864)])
def test_the_figures_of_the_requirements(kind, size):
    assert LLAMA_8B.kv_bytes_per_token(CacheType(kind), CacheType(kind)) == size


def test_64_gb_hold_about_0_8_million_tokens_at_q8_0_and_not_4_million():
    planned = fit(LLAMA_8B, 64 * 10**9, 256e9)
    assert 750_000 < planned.windows[CacheType.Q8_0] < 850_000
    with pytest.raises(CannotFit, match=r"4,000,000 tokens x 69,632 bytes = 287.9 GB does not fit 64.0 GB"):
        require_fit(planned, CacheType.Q8_0, 4_000_000)
    require_fit(planned, CacheType.Q8_0, 750_000)
    assert 29 < planned.speed(CacheType.Q8_0, 0) < 31
    assert planned.speed(CacheType.Q8_0, 750_000) < 5


def test_a_key_may_be_kept_otherwise_than_a_value():
    mixed = LLAMA_8B.kv_bytes_per_token(CacheType.Q8_0, CacheType.F16)
    assert mixed == (131_072 + 69_632) // 2


@pytest.mark.parametrize("order", list(gguf.GGUFEndian))
def test_a_gguf_is_read_in_either_byte_order(tmp_path, order):
    read = read_geometry(model(tmp_path / "m.gguf", byte_order=order))
    assert (read.name, read.kv_heads, read.key_size, read.window) == ("a model", (2,) * 4, 16, 1_000)
    assert read.weights_bytes == read.active_bytes == (tmp_path / "m.gguf").stat().st_size


def test_layers_may_differ_and_some_have_no_attention(tmp_path):
    path = model(tmp_path / "m.gguf", kv_heads=[0, 2, 0, 4], key_length=24, value_length=8)
    read = read_geometry(path)
    assert read.kv_heads == (0, 2, 0, 4)
    assert read.kv_bytes_per_token() == 6 * (24 + 8) * 2


def test_of_a_mixture_of_experts_a_token_reads_those_it_uses(tmp_path):
    read = read_geometry(model(tmp_path / "m.gguf", experts=8))
    assert read.weights_bytes - read.active_bytes == 6 * 64 * 64 * 4


def test_a_split_model_is_all_its_parts(tmp_path):
    first = model(tmp_path / "m-00001-of-00002.gguf")
    with pytest.raises(ModelUnreadable, match=r"m-00002-of-00002\.gguf is missing"):
        read_geometry(first)
    second = model(tmp_path / "m-00002-of-00002.gguf")
    assert read_geometry(first).weights_bytes == first.stat().st_size + second.stat().st_size


def test_the_tiny_model_of_the_tests_is_read(tiny_model):
    read = read_geometry(tiny_model())
    assert read.kv_bytes_per_token() > 0


CONFIG = {
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "hidden_size": 2048,
    "max_position_embeddings": 262_144,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "torch_dtype": "bfloat16",
}


def folder_of(folder, config, size=61_000_000_000):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


def test_a_folder_is_read_by_its_config(tmp_path):
    read = read_geometry(folder_of(tmp_path / "qwen", CONFIG))
    assert (read.kv_heads, read.key_size, read.window) == ((4,) * 48, 128, 262_144)
    assert read.kv_bytes_per_token() == 98_304
    # Three of thirty billion parameters, at two bytes.
    assert 5e9 < read.active_bytes < 8e9
    nested = read_geometry(folder_of(tmp_path / "nested", {"text_config": CONFIG}))
    assert nested.kv_heads == read.kv_heads


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "num_hidden_layers"),
        (CONFIG | {"num_hidden_layers": "many"}, "num_hidden_layers"),
        (CONFIG | {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ([], "no object"),
    ],
)
def test_a_config_that_does_not_say_is_one_line(tmp_path, config, told):
    with pytest.raises(ModelUnreadable, match=told) as error:
        read_geometry(folder_of(tmp_path / "m", config))
    assert len(str(error.value).splitlines()) == 1


def test_what_is_not_there_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.gguf").write_bytes(b"GGUF")
    (tmp_path / "zip.gguf").write_bytes(b"PK\3\4" * 10)
    for name in ("missing.gguf", "empty", "short.gguf", "zip.gguf"):
        with pytest.raises(ModelUnreadable, match=name):
            read_geometry(tmp_path / name)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_file_that_lies_is_read_or_refused_quickly(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    whole = folder / "whole.gguf"
    if not whole.exists():
        model(whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.one_of(st.integers(0, 400), st.integers(0, len(content) - 1)))
        content[at] = data.draw(st.integers(0, 255))
    broken = folder / "broken.gguf"
    broken.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    began = time.monotonic()
    try:
        read_geometry(broken)
    except ModelUnreadable as error:
        assert "broken.gguf" in str(error)
    assert time.monotonic() - began < 2


@given(st.integers(0, 10**12), st.integers(0, 10**11), st.sampled_from(list(CacheType)))
def test_more_memory_never_holds_less(budget, more, kind):
    less, much = fit(LLAMA_8B, budget, 1e9), fit(LLAMA_8B, budget + more, 1e9)
    assert less.windows[kind] <= much.windows[kind] <= LLAMA_8B.window
    if less.windows[kind]:
        require_fit(less, kind, less.windows[kind])
        assert "does not fit" not in less.arithmetic(kind, less.windows[kind])
