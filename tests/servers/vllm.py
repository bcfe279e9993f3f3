"""A real vLLM server on the CPU, with a tiny model that is made here: for the tests marked `vllm`.

vLLM is installed by whoever wants them run, into an environment of its own (docs/lanes.md says how), which VLLM_PYTHON
names.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from safetensors.numpy import save_file

MODEL = "tiny"
WINDOW = 512
READY_SECONDS = 300

# One core each: more threads than free cores spin.
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_SERVER_DEV_MODE": "1",
}

_SPECIAL = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
_WIDTH, _LAYERS, _HEADS, _HEAD, _INNER = 64, 2, 2, 32, 128
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_checkpoint(folder: Path) -> Path:
    """A Llama of 260 tokens, one for each byte, with random weights and a bias towards printable text."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = _bytes_as_letters()
    vocabulary = {token: number for number, token in enumerate([*_SPECIAL, *letters])}
    added = [
        {"id": number, "content": token, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for number, token in enumerate(_SPECIAL)
    ]
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": by_bytes,
        "decoder": by_bytes,
        "model": {"type": "BPE", "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []},
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|eos|>",
        "model_max_length": 2_048,
        "add_bos_token": False,
        "chat_template": _TEMPLATE,
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": _WIDTH,
        "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": 1,
        "head_dim": _HEAD,
        "max_position_embeddings": 2_048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 3,
        "pad_token_id": 1,
        "torch_dtype": "float32",
    }
    for name, told in {"tokenizer": tokenizer, "tokenizer_config": settings, "config": config}.items():
        (folder / f"{name}.json").write_text(json.dumps(told))
    save_file(_weights(len(vocabulary)), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _bytes_as_letters() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _weights(size: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def some(*shape: int, scale: float = 0.05) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    # The first dimension of every embedding is the same, so that the head can add a bias by it.
    embedding = some(size, _WIDTH, scale=1.0)
    embedding[:, 0] = 8.0
    bias = np.full(size, -30.0, np.float32)
    for byte in range(32, 127):
        bias[4 + byte] = 3.0 if byte == 34 else 1.0 if chr(byte).isalpha() else 0.0
    bias[4 + ord("\\")] = -30.0
    bias[3] = 1.0
    head = some(size, _WIDTH, scale=0.1)
    # The norm before the head divides by the root of the mean square of about 8 and many ones.
    head[:, 0] = bias * np.sqrt((64 + _WIDTH - 1) / _WIDTH) / 8
    weights = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": np.ones(_WIDTH, np.float32),
    }
    for layer in range(_LAYERS):
        at = f"model.layers.{layer}"
        out, down = some(_WIDTH, _HEADS * _HEAD), some(_WIDTH, _INNER)
        # No layer writes into the dimension that carries the bias.
        out[0] = down[0] = 0
        weights |= {
            f"{at}.self_attn.q_proj.weight": some(_HEADS * _HEAD, _WIDTH),
            f"{at}.self_attn.k_proj.weight": some(_HEAD, _WIDTH),
            f"{at}.self_attn.v_proj.weight": some(_HEAD, _WIDTH),
            f"{at}.self_attn.o_proj.weight": out,
            f"{at}.mlp.gate_proj.weight": some(_INNER, _WIDTH),
            f"{at}.mlp.up_proj.weight": some(_INNER, _WIDTH),
            f"{at}.mlp.down_proj.weight": down,
            f"{at}.input_layernorm.weight": np.ones(_WIDTH, np.float32),
            f"{at}.post_attention_layernorm.weight": np.ones(_WIDTH, np.float32),
        }
    return weights


@contextmanager
def serving(python: str, folder: Path) -> Iterator[str]:
    """The address of vLLM with the tiny model and a window of 512 tokens (bytes)."""
    model = write_tiny_checkpoint(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", str(WINDOW), "--max-num-seqs", "2", "--max-num-queued-reqs", "4"]
    command += ["--distributed-executor-backend", "uni"]
    command += ["--structured-outputs-config", '{"backend":"guidance","disable_any_whitespace":true}']
    with (folder / "vllm.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | ENVIRON, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}", folder / "vllm.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended: {log.read_text()[-2_000:]}")
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise RuntimeError(f"vLLM was not ready within {READY_SECONDS} s: {log.read_text()[-2_000:]}")
