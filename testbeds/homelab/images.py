"""Images of models, in layers: Python, the libraries, the server, and the model itself with its recorded requests.

Their ground is `settings.PYTHON_IMAGE` as the testbed's registry has it; where that is empty, the official image is
brought there first. So a new version's image costs a few hundred kilobytes, and its nodes pull no more than those.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from testbeds.common.layers import Layer, LayerWriter, layer_in_memory, read_layer, write_layer
from testbeds.common.oci import Image, Registry, read_docker_archive
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import settings
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.libraries import FOLDER as LIBRARIES
from testbeds.homelab.libraries import compile_sources, library_layer
from testbeds.homelab.programs import run_long

MODEL_FOLDER = "/srv/model"
_LIBRARIES = ("scikit-learn", "skops", "prometheus-client")  # no MLflow: the model is in the image
_SERVER = "/srv/server"
_USER = "10001"


def publish_model(
    mlflow_url: str,
    registry_url: str,
    model_uri: str,
    tag: str,
    faults: Mapping[str, str],
    *,
    repository: str,
) -> str:
    """Push the image of a logged model under that tag, with these faults, and return its digest.

    Raises:
        ModelUnusableError: MLflow has none that can be served.
        MlflowException: MLflow has no such model, or does not answer.
        ProblemError: the libraries cannot be had, or the registry refused a part.
    """
    from testbeds.model_server.from_image import write_model
    from testbeds.model_server.from_mlflow import download_model

    with tempfile.TemporaryDirectory() as scratch:
        downloads, folder = Path(scratch, "downloads"), Path(scratch, "model")
        downloads.mkdir()
        write_model(download_model(model_uri, mlflow_url, downloads), folder)
        environment = {"MODEL_URI": model_uri, **faults}
        registry = Registry(registry_url)
        image = model_image(_ground(registry), library_layer(_LIBRARIES, _say), folder, tag, environment)
    return registry.push(repository, tag, image)


def model_image(ground: Image, libraries: Layer, model: Path, tag: str, environment: Mapping[str, str]) -> Image:
    """The image of the model in that folder, as `write_model` laid it out."""

    def write(layer: LayerWriter) -> None:
        layer.tree(MODEL_FOLDER, model)
        # Two versions may have one model, and each has an image of its own.
        layer.file(
            f"{MODEL_FOLDER}/image.env", "".join(f"{name}={environment[name]}\n" for name in environment).encode()
        )
        layer.file(f"{MODEL_FOLDER}/image.tag", f"{tag}\n".encode())

    return ground.extended(
        libraries,
        _server_layer(),
        layer_in_memory(write),
        environment={
            "PYTHONPATH": f"{_SERVER}:{LIBRARIES}",
            "PYTHONUNBUFFERED": "1",
            "MODEL_DIR": MODEL_FOLDER,
            "OMP_NUM_THREADS": "1",  # a pod has a part of a processor
            **environment,
        },
        Entrypoint=[],
        Cmd=["python", "-m", "testbeds.model_server"],
        WorkingDir="/srv",
        User=_USER,
        ExposedPorts={"8080/tcp": {}},
        Labels={"org.opencontainers.image.revision": tag},
    )


def _server_layer() -> Layer:
    """The model server of this checkout, compiled; kept, because compiling again may give other bytes."""
    package = CHECKOUT / "testbeds"
    sources = (package / "__init__.py", *sorted((package / "model_server").glob("*.py")))
    key = key_of(repr(sys.version_info[:2]), *(item for path in sources for item in (path.name, path.read_bytes())))

    def make(unfinished: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for source in sources:
                copy = Path(scratch) / source.relative_to(CHECKOUT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(source.read_bytes())
            compile_sources(Path(scratch), _SERVER)
            write_layer(unfinished, lambda layer: layer.tree(_SERVER, Path(scratch)))

    return read_layer(cached("layers", f"server-{key}", make))


def _ground(registry: Registry) -> Image:
    repository, _, tag = settings.PYTHON_IMAGE.partition("/")[2].rpartition(":")
    found = registry.read(repository, tag)
    if found is None:
        _copy_official(registry, repository, tag)
        found = registry.read(repository, tag)
        assert found is not None, "it was pushed just now"
    return found


def _copy_official(registry: Registry, repository: str, tag: str) -> None:
    """Let Docker pull the official image, with its own logins, and push it to the testbed's registry."""
    next_step = "Look whether Docker runs here and may pull from the internet."
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "image.tar")
        for command in (
            ["pull", "--quiet", settings.PYTHON_IMAGE],
            ["save", f"--output={archive}", settings.PYTHON_IMAGE],
        ):
            run_long(f"docker {command[0]} {settings.PYTHON_IMAGE}", ["docker", *command], _say, next_step=next_step)
        registry.push(repository, tag, read_docker_archive(archive, Path(scratch)))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
