"""The contents of the GitOps repository during the contract tests."""

from tests.contract.manifests import Json, config_map, deployment
from tests.contract.place import STEADY, TROUBLED, Place

UNKNOWN = "sha256:" + "0" * 64
NOWHERE = {"example.org/planet": "mars"}
SECRET = {"name": "COLOUR", "valueFrom": {"secretKeyRef": {"name": "nobody-made-it", "key": "colour"}}}


TROUBLES = ("missing", "untagged", "crash", "greedy", "sick", "unplaceable", "secretive")
PODS = 2 + len(TROUBLES)
"""The number of pods while no rollout is under way."""


def steady(image: str) -> list[Json]:
    """Return the manifest of `steady`, with two replicas of an image."""
    return [deployment("steady", image, replicas=2)]


def write_all(place: Place) -> None:
    """Write `steady`, an object beside it, and a Deployment for each trouble, without pushing them yet."""
    write = place.repository.write
    write(f"{STEADY}/steady.yaml", *steady(place.image("steady")))
    write(f"{STEADY}/notes.yaml", config_map("notes", colour="blue"))
    troubles = {
        "missing": deployment("missing", f"{place.image_repository}@{UNKNOWN}", deadline=8),
        "untagged": deployment("untagged", f"{place.image_repository}:nobody-pushed-it"),
        "crash": deployment("crash", place.image("crash", CRASH="7")),
        "greedy": deployment("greedy", place.image("greedy", EAT_MEGABYTES="200")),
        "sick": deployment("sick", place.image("sick", NEVER_READY="1")),
        "unplaceable": deployment("unplaceable", place.image("unplaceable"), nodeSelector=NOWHERE),
        "secretive": deployment("secretive", place.image("secretive"), env=[SECRET]),
    }
    assert tuple(troubles) == TROUBLES
    for name, manifest in troubles.items():
        write(f"{TROUBLED}/{name}.yaml", manifest)
