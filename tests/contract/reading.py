"""Recording which fields of an answer a parser reads, and the type of each."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Reading(Mapping[str, Any]):
    """A JSON object that notes the path and the type of each field that is read from it and exists."""

    def __init__(self, document: Mapping[str, Any], noted: dict[str, str], path: str = "") -> None:
        self._document, self._noted, self._path = document, noted, path

    def __getitem__(self, name: str) -> Any:
        value = self._document[name]
        path = f"{self._path}.{name}" if self._path else name
        self._noted[path] = _type(value)
        return self._wrapped(value, path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._document)

    def __len__(self) -> int:
        return len(self._document)

    def _wrapped(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return Reading(value, self._noted, path)
        if isinstance(value, list):
            return [self._wrapped(item, f"{path}[]") for item in value]
        return value


def _type(value: Any) -> str:
    if isinstance(value, str):
        return "time" if _TIME.fullmatch(value) else "str"
    return type(value).__name__
