"""What servers really said when they refused: vLLM 0.32 and 0.33, llama.cpp of October 2026, TGI. Kept word for word."""

import json
from typing import Any


def _openai(message: str, kind: str, code: int, param: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def _llama(message: str, kind: str, code: int, **more: Any) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "type": kind, **more}}).encode()


def _tgi(message: str, kind: str) -> bytes:
    return json.dumps({"error": message, "error_type": kind}).encode()


_VLLM_LONG = "This model's maximum context length is 512 tokens. However, your prompt contains "

# Who said it, with what status, the body, and the kind of error that it is.
REFUSALS = [
    ("vllm", 400, _openai(_VLLM_LONG + "at least 513 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=513)", "BadRequestError", 400, "input_tokens"), "context overflow"),
    ("vllm", 400, _openai(_VLLM_LONG + "30050 characters (more than 15872 characters, which is the upper bound for 512 input tokens). Please reduce the length of the input prompt. (parameter=input_text, value=30050)", "BadRequestError", 400, "input_text"), "context overflow"),
    ("vllm", 400, _openai("The decoder prompt (length 600) is longer than the maximum model length of 512.", "BadRequestError", 400), "context overflow"),
    ("vllm 0.16", 400, _openai("You passed 600 input tokens and requested 20 output tokens. However, the model's context length is only 512 tokens.", "BadRequestError", 400), "context overflow"),
    ("vllm 0.15", 400, _openai("This model's maximum context length is 512 tokens. However, you requested 620 tokens (600 in the messages, 20 in the completion).", "BadRequestError", 400), "context overflow"),
    ("vllm", 400, _openai("max_tokens=100000 cannot be greater than max_model_len=512. Please request fewer output tokens. (parameter=max_tokens, value=100000)", "BadRequestError", 400, "max_tokens"), "context overflow"),
    ("vllm", 404, _openai("The model `nope` does not exist. Valid aliases: tiny.", "NotFoundError", 404, "model"), "model not found"),
    ("vllm", 503, _openai("The engine is currently busy and cannot accept new requests. Please try again later or on a different instance.", "Service Unavailable", 503), "overloaded"),
    ("vllm", 503, _openai("Generation is paused. Please retry after it resumes.", "ServiceUnavailableError", 503), "loading"),
    ("vllm", 400, _openai("Grammar error: Invalid type: objekt", "BadRequestError", 400), "bad request"),
    ("vllm", 400, _openai("temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)", "BadRequestError", 400, "temperature"), "bad request"),
    ("vllm", 401, b'{"error":"Unauthorized"}', "unauthorised"),
    ("vllm", 404, b'{"detail":"Not Found"}', "bad request"),
    ("vllm", 500, _openai("EngineCore encountered an issue. See stack trace (above) for the root cause.", "InternalServerError", 500), "server error"),
    ("llama.cpp", 400, _llama("request (6024 tokens) exceeds the available context size (512 tokens), try increasing it", "exceed_context_size_error", 400, n_prompt_tokens=6024, n_ctx=512), "context overflow"),
    ("llama.cpp", 503, _llama("Loading model", "unavailable_error", 503), "loading"),
    ("llama.cpp", 503, _llama("no slot available", "unavailable_error", 503), "overloaded"),
    ("llama.cpp", 401, _llama("Invalid API Key", "authentication_error", 401), "unauthorised"),
    ("llama.cpp", 404, _llama("File Not Found", "not_found_error", 404), "bad request"),
    ("llama.cpp", 501, _llama("This server does not support embeddings. Start it with `--embeddings`", "not_supported_error", 501), "bad request"),
    ("llama.cpp", 500, _llama("input (3000 tokens) is too large to process. increase the physical batch size (current batch size: 512)", "server_error", 500), "context overflow"),
    ("llama.cpp", 500, _llama("Cannot use both json_schema and grammar", "server_error", 500), "bad request"),
    ("llama.cpp", 400, _llama("Unable to generate parser for this template. Automatic parser generation failed: JSON schema error at #: unrecognized type objekt", "invalid_request_error", 400), "bad request"),
    ("llama.cpp router", 400, _llama("model 'x' not found", "invalid_request_error", 400), "model not found"),
    ("llama.cpp router", 400, _llama("model is not loaded", "invalid_request_error", 400), "asleep"),
    ("llama.cpp router", 500, _llama("model limit reached, try again later", "server_error", 500), "overloaded"),
    ("llama.cpp router", 500, _llama("model name=x failed to load", "server_error", 500), "load failed"),
    ("llama.cpp router", 500, _llama("proxy error: Could not establish connection", "server_error", 500), "server error"),
    ("tgi", 422, _tgi("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512. Given: 600 `inputs` tokens and 20 `max_new_tokens`", "validation"), "context overflow"),
    ("tgi", 422, _tgi("Input validation error: `inputs` must have less than 512 tokens. Given: 600", "validation"), "context overflow"),
    ("tgi", 429, _tgi("Model is overloaded", "overloaded"), "overloaded"),
    ("tgi", 424, _tgi("Request failed during generation: Server error: CUDA out of memory", "generation"), "server error"),
    ("tgi", 422, _tgi("Input validation error: `temperature` must be strictly positive", "validation"), "bad request"),
    ("a proxy", 502, b"<html>Bad gateway</html>", "server error"),
    ("a proxy", 504, b"<html>Gateway Time-out</html>", "timeout"),
    ("a proxy", 413, b"<html>Request Entity Too Large</html>", "context overflow"),
]  # fmt: skip
