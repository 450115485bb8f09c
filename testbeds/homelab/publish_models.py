"""`python -m testbeds.homelab.publish_models`: train all models, with images that pods can run."""

from collections.abc import Mapping

from testbeds.homelab.images import publish_model
from testbeds.training.command import Destination, train_and_publish
from testbeds.training.publish import Push


def _push_to(destination: Destination) -> Push:
    def push(model_uri: str, tag: str, faults: Mapping[str, str]) -> str:
        return publish_model(
            destination.mlflow_url,
            destination.registry_url,
            model_uri,
            tag,
            faults,
            repository=destination.repository,
        )

    return push


if __name__ == "__main__":
    train_and_publish("testbeds.homelab.publish_models", _push_to)
