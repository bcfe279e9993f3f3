"""A llama model of 430 KB with made-up weights: real to a server, the same bytes every time, read in 20 ms.

One byte is one token. It writes printable text that ends by itself, or always the one sentence it is made to say.
"""

from pathlib import Path

import gguf
import numpy as np

WIDTH = 64
HEAD = 32
HEADS = WIDTH // HEAD
LAYERS = 2
SPECIAL = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
BOS, IM_END = 0, 3
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# These channels of the residual stream are written by the embedding only, so that a weight of the output layer on one
# of them acts as a bias on a token's logit: CONSTANT is on for every token, SPOKEN after the sentence has been said.
CONSTANT, SPOKEN = 0, 1
LEVEL = 8.0


def write_tiny_gguf(path: Path, *, says: str | None = None, context: int = 32_768, seed: int = 0) -> Path:
    """Write the model to `path`; with `says` its whole vocabulary of answers is that sentence, as one token."""
    alphabet = _byte_alphabet()
    # llama.cpp insists on one merge at least: these two bytes never stand in UTF-8.
    pair = (alphabet[0xFE], alphabet[0xFF])
    words = [*SPECIAL, *alphabet, "".join(pair)]
    if says is not None:
        words.append("".join(alphabet[byte] for byte in says.encode()))
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, len(words), context)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (len(words) - len(SPECIAL))
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair)])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(IM_END)
    writer.add_eot_token_id(IM_END)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    _add_weights(writer, len(words), says is not None, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_alphabet() -> list[str]:
    """The printable character that stands for each byte in a byte-level BPE vocabulary, as GPT-2 chose them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(0x100)]


def _describe(writer: gguf.GGUFWriter, words: int, context: int) -> None:
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(words)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_weights(writer: gguf.GGUFWriter, words: int, sentence: bool, random: np.random.Generator) -> None:
    def noise(*shape: int, scale: float = 0.05) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    def silent(matrix: np.ndarray) -> np.ndarray:
        matrix[[CONSTANT, SPOKEN]] = 0
        return matrix

    embedding = noise(words, WIDTH, scale=1.0)
    embedding[:, CONSTANT] = LEVEL
    embedding[:, SPOKEN] = 0
    output = noise(words, WIDTH, scale=0.1)
    level = LEVEL / np.sqrt((LEVEL**2 + WIDTH - 2) / WIDTH)
    output[:, CONSTANT] = _biases(words) / level
    output[:, SPOKEN] = 0
    if sentence:
        said = words - 1
        embedding[said, SPOKEN] = LEVEL
        output[said, CONSTANT], output[said, SPOKEN] = 100 / level, -200 / level
        output[IM_END, SPOKEN] = 100 / level
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{block}.attn_q.weight", noise(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.attn_k.weight", noise(WIDTH // 2, WIDTH))
        writer.add_tensor(f"{block}.attn_v.weight", noise(WIDTH // 2, WIDTH))
        writer.add_tensor(f"{block}.attn_output.weight", silent(noise(WIDTH, WIDTH)))
        writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        writer.add_tensor(f"{block}.ffn_gate.weight", noise(2 * WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", noise(2 * WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", silent(noise(WIDTH, 2 * WIDTH)))


def _biases(words: int) -> np.ndarray:
    """How likely each token is: letters, then other printable ASCII; never what is no ASCII or no text."""
    biases = np.full(words, -30.0, np.float32)
    for byte in range(0x20, 0x7F):
        biases[len(SPECIAL) + byte] = 1.0 if chr(byte).isalpha() else 0.0
    biases[len(SPECIAL) + ord(" ")] = -1.0
    biases[len(SPECIAL) + ord("\\")] = -30.0
    # Strings of a structured answer end after about ten letters, and free text ends by itself.
    biases[len(SPECIAL) + ord('"')] = 3.0
    biases[IM_END] = 2.0
    return biases
