"""More versions of a model that has been trained, for stories and benchmarks that need many."""

import hashlib
from collections.abc import Mapping

from testbeds.story.environment import Environment
from testbeds.story.stories import registry


def register_again(
    environment: Environment, of: int, faults: Mapping[str, str] | None = None, *, published: bool = True
) -> int:
    """Register the model of a version again, as the next version, with its own image that has the given faults.

    With `published=False` the image was never built, and the version only has the tag that it would have.
    """
    client = registry(environment)
    original = client.get_model_version(environment.model, str(of))
    model_id = original.source.removeprefix("models:/")  # MLflow does not return it in `model_id`
    copy = client.create_model_version(environment.model, original.source, run_id=original.run_id, model_id=model_id)
    uri = f"models:/{environment.model}/{copy.version}"
    tags = {"image_tag": image_tag(environment, int(copy.version))}
    if published:
        tags["image_digest"] = environment.publish(uri, tags["image_tag"], **(faults or {}))
    for name, value in tags.items():
        client.set_model_version_tag(environment.model, copy.version, name, value)
    return int(copy.version)


def image_tag(environment: Environment, version: int) -> str:
    """Return the image tag of a version registered here, which looks like a commit id and differs for each version."""
    return hashlib.sha1(f"{environment.model}/{version}".encode()).hexdigest()
