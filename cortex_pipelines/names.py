"""The names that settings, lanes and commands share; importing them costs nothing."""

from enum import StrEnum


class Lane(StrEnum):
    """An intent, served by the model that suits it."""

    ORCHESTRATOR = "ORCHESTRATOR"
    CODER = "CODER"
    SUPER_READER = "SUPER_READER"
    FAST_RAG = "FAST_RAG"
    GOVERNANCE = "GOVERNANCE"


class Backend(StrEnum):
    """The kind of server behind an endpoint."""

    VLLM = "vllm"
    LLAMA_CPP = "llama_cpp"
    TGI = "tgi"
    OPENAI = "openai"
    EMBEDDED = "embedded"


class CacheMode(StrEnum):
    """What is done with answers that models gave before: `write` reads them too, `refresh` asks anew and keeps."""

    OFF = "off"
    READ = "read"
    WRITE = "write"
    REFRESH = "refresh"
