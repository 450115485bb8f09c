"""`python -m testbeds.sandbox.publish_models`: train all models, with images that only name the model they serve."""

from collections.abc import Mapping

from testbeds.sandbox.images import publish_image
from testbeds.training.command import Destination, train_and_publish
from testbeds.training.publish import Push


def _push_to(destination: Destination) -> Push:
    def push(model_uri: str, tag: str, faults: Mapping[str, str]) -> str:
        environment = {"MODEL_URI": model_uri, **faults}
        return publish_image(destination.registry_url, destination.repository, tag, environment)

    return push


if __name__ == "__main__":
    train_and_publish("testbeds.sandbox.publish_models", _push_to)
