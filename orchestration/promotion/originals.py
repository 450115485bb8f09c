"""What a version is a copy of: the versions by whose names and image tags it is known as well."""

from dataclasses import replace

from orchestration.promotion.model_version import ModelVersion, unread_version
from orchestration.promotion.ports import Registry
from orchestration.promotion.problems import DependencyError

_MOST_COPIES = 5
"""How many versions back a copy is followed; a chain is two or three long where models go from stage to stage."""


def with_originals(registry: Registry, version: ModelVersion) -> ModelVersion:
    """Look up what a version is a copy of, so that it is known by its originals' names as well.

    An original that cannot be read, because it was deleted or the account may not see it, is known by its name alone.
    """
    originals: list[ModelVersion] = []
    following = version.copied_from
    while following is not None and len(originals) < _MOST_COPIES:
        model, number = following
        try:
            original = registry.version(model, number)
        except DependencyError:
            original = None
        originals.append(original or unread_version(model, number))
        following = originals[-1].copied_from
    return replace(version, originals=tuple(originals))
