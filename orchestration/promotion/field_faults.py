"""What is wrong with a file that a person wrote, field by field, in words that are not about Python."""

from pydantic import ValidationError

_WORDS = {
    "missing": "this field is missing",
    "extra_forbidden": "there is no such field",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "tuple_type": "expected a list",
    "string_type": "expected a text (a number needs quotes)",
}
"""By pydantic's types of errors."""


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
        f"{'.'.join(map(str, fault['loc'])) or whole}: "
        f"{_WORDS.get(fault['type'], fault['msg'].removeprefix('Value error, '))}"
        for fault in faults
        if fault["type"] != "too_short" or fault["loc"] not in wrong_entries
    ]
