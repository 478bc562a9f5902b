"""What is wrong with a value of info.json, in plain words: pydantic's own are for programmers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = "must be text in quotes"
_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_YES_NO = "must be true or false"
_LIST = "must be a list of texts"
_OBJECT = "must be an object of names and values"
_EXAMPLES = {"command": '["python3", "run.py"]', "accepts": '["CT", "MR"]', "then": '["OTHER"]'}

# By pydantic's name of the mistake; what stands in braces is of its context.
_SENTENCES = {
    "string_type": _TEXT,
    "string_unicode": _TEXT,
    "string_too_long": "must be at most {max_length} characters long",
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _OBJECT,
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:.15g}",
}


def sentence_of(key: str, kind: str, context: Mapping[str, Any], said: str) -> str:
    """Say after the key what its value must be; `said` is pydantic's sentence, used for our own."""
    if kind not in _SENTENCES:
        own = said.removeprefix("Value error, ")
        return own[0].lower() + own[1:]
    words = _SENTENCES[kind].format_map(dict(context))
    example = _EXAMPLES.get(key) if words == _LIST else None
    return f"{words}, such as {example}" if example else words
