"""What is wrong with a file that a person wrote, field by field, in words that are not about Python."""

from typing import Any

from pydantic import ValidationError

from orchestration.promotion.redact import redact

_WORDS = {
    "missing": "this field is missing",
    "extra_forbidden": "there is no such field",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "tuple_type": "expected a list",
    "string_type": "expected a text (a number needs quotes)",
    "bool_type": "expected true or false",
    "finite_number": "expected a finite number",
    "string_too_short": "expected a text that is not empty",
    "too_short": "expected at least {min_length} in the list",
    "too_long": "expected at most {max_length} in the list",
    "greater_than_equal": "expected {ge} or more, found {input}",
    "less_than_equal": "expected {le} at most, found {input}",
    "literal_error": "expected {expected}, found {input}",
    "string_pattern_mismatch": "expected a text of the form {pattern}, found {input}",
    "int_type": "expected a whole number, found {input}",
    "int_from_float": "expected a whole number, found {input}",
    "float_type": "expected a number, found {input}",
}
"""By pydantic's types of errors, with what it knows of each and with the value."""
_SHOWN = 80
"""Characters of a wrong value that are repeated."""


def field_faults(error: ValidationError, whole: str) -> list[str]:
    """Say of each wrong field where it is and what is wrong with it.

    A list whose entries are wrong is not called too short as well: pydantic counts only the right ones.

    Args:
        error: What pydantic found.
        whole: What to call the file itself, where no field of it is to blame.
    """
    faults = error.errors()
    wrong_entries = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    return [
        f"{'.'.join(map(str, fault['loc'])) or whole}: {_in_words(fault)}"
        for fault in faults
        if fault["type"] != "too_short" or fault["loc"] not in wrong_entries
    ]


def _in_words(fault: Any) -> str:
    found = redact(repr(fault["input"]))
    shown = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."
    words = _WORDS.get(fault["type"], "{msg}")
    return words.format(**fault.get("ctx", {}), input=shown, msg=fault["msg"].removeprefix("Value error, "))
