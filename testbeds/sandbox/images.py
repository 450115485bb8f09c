"""The sandbox's images: small, but real.

An image is one layer with a note in it, and a config whose environment names the model that it serves. The stand-in for
the kubelet reads that environment and starts the model server with it, as a container runtime would.
"""

from collections.abc import Mapping

from testbeds.common.layers import layer_in_memory
from testbeds.common.oci import Image, Registry


def publish_image(
    registry_url: str, repository: str, tag: str, environment: Mapping[str, str], architecture: str = "amd64"
) -> str:
    """Push an image with that environment, and return its manifest's digest.

    Raises:
        ProblemError: the registry refused a part of it.
    """
    pairs = [f"{name}={value}" for name, value in sorted(environment.items())]
    note = "".join(f"{pair}\n" for pair in pairs).encode()
    image = Image(
        (layer_in_memory(lambda layer: layer.file("srv/model.env", note)),),
        {
            "Env": pairs,
            "Cmd": ["python", "-m", "model_server"],
            "ExposedPorts": {"8080/tcp": {}},
            "Labels": {"org.opencontainers.image.revision": tag},
        },
        architecture,
    )
    return Registry(registry_url).push(repository, tag, image)
