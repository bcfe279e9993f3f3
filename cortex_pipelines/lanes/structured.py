"""An answer of a given shape: how each server is asked for it, and how what it says is read."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from cortex_pipelines.names import Backend

# What a repair turn may quote of the faults.
FAULTS = 5
_FENCE = re.compile(r"^\s*```[a-zA-Z]*\s*\n?(.*?)\s*(?:```\s*)?$", re.DOTALL)


class Violation(ValueError):
    """What was said is not of the shape that was asked for."""


def response_format(schema: type[BaseModel], backend: Backend | None) -> Mapping[str, Any]:
    """The request's `response_format` as the server takes it. TGI does not read OpenAI's form, and refuses it."""
    name, shape = schema.__name__, schema.model_json_schema()
    if backend is Backend.TGI:
        return {"type": "json_schema", "value": {"name": name, "schema": shape}}
    return {"type": "json_schema", "json_schema": {"name": name, "schema": shape, "strict": True}}


def parse(schema: type[BaseModel], text: str) -> BaseModel:
    """The instance that a text says; `Violation` where it says none.

    Taken as meant: a code fence around it, words before and after it, raw control characters in strings. Not taken: an
    infinite number, which a grammar lets through (facts of inference servers).
    """
    if fenced := _FENCE.match(text):
        text = fenced.group(1)
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        raise Violation("there is no JSON in it")
    try:
        value, _ = _DECODER.raw_decode(text[start:])
        return schema.model_validate_json(json.dumps(value))
    except ValidationError as error:
        told = [f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}" for fault in error.errors()[:FAULTS]]
        raise Violation("; ".join(told)) from None
    except (ValueError, RecursionError) as error:
        raise Violation(f"it is no JSON: {error}") from None


def repair(said: str, violation: Violation) -> list[Mapping[str, Any]]:
    """The turn that asks for the answer once more."""
    return [
        {"role": "assistant", "content": said},
        {
            "role": "user",
            "content": f"That answer cannot be used: {violation}. Give the whole answer again, as JSON of the shape "
            "that was asked for and nothing else.",
        },
    ]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


_DECODER = json.JSONDecoder(strict=False, parse_float=_finite, parse_constant=_finite)
