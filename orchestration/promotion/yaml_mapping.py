"""A YAML file that a person wrote, read into plain values."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_DEEPEST = 30


def read_yaml_mapping(text: str) -> dict[str, Any]:
    """Read a file that must be one mapping.

    Raises:
        ValueError: it is not; the text says what it is instead.
    """
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = _DEEPEST
        raw: Any = yaml.load(text)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:  # 2001-99-99 is a ValueError
        raise ValueError(f"YAML that cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise ValueError("a file that is not a YAML mapping")
    return raw
