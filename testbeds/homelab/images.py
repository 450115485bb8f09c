"""Images of models, in layers: Python, the libraries, the server, and the model itself with its recorded requests.

Their base is `settings.PYTHON_IMAGE` as the testbed's registry has it; a registry without it gets the official image
first. So the image of a new version costs a few hundred kilobytes, and nodes pull no more than that. The companion's
image has the same base.
"""

import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from testbeds.common.layers import Layer, LayerWriter, layer_in_memory, read_layer, write_layer
from testbeds.common.oci import Image, Registry, read_docker_archive
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import settings
from testbeds.homelab.cache import cached, key_of
from testbeds.homelab.libraries import FOLDER as LIBRARIES
from testbeds.homelab.libraries import INCUMBENT, compile_sources, library_layer, wheel_layer
from testbeds.homelab.programs import run_long
from testbeds.homelab.progress import Say

MODEL_FOLDER = "/srv/model"
_LIBRARIES = ("scikit-learn", "skops", "prometheus-client")  # no MLflow: the model is in the image
_SERVER = "/srv/server"
_COMPANION_LIBRARIES = (
    "click",
    "httpx2",
    "prometheus-client",
    "pydantic",
    "pyjwt",
    "cryptography",
    "ruamel-yaml",
    "stamina",
    "starlette",
    "uvicorn",
)
"""What `incumbent companion` imports without the metrics of the promotions, which need MLflow's client and more."""
_VERSIONS = re.compile(r"[ <>=!~;]")
_DAGSTER_HOME = "srv/dagster"
_ID = 10001
_USER = f"{_ID}:{_ID}"


def publish_model(
    mlflow_url: str,
    registry_url: str,
    model_uri: str,
    tag: str,
    faults: Mapping[str, str],
    *,
    repository: str,
) -> str:
    """Push the image of a logged model, and return its digest.

    Args:
        mlflow_url: where the model is.
        registry_url: where the image goes.
        model_uri: the model, as `models:/<name>/<version>` or `runs:/<run>/model`.
        tag: the image's tag.
        faults: settings of `model_server/faults.py`: what is wrong with the image.
        repository: the image's name in the registry.

    Raises:
        ModelUnusableError: the model cannot be served.
        MlflowException: MLflow has no such model, or does not answer.
        ProblemError: the libraries cannot be installed, or the registry refused a part.
    """
    from model_server.from_image import write_model
    from model_server.from_mlflow import download_model

    with tempfile.TemporaryDirectory() as scratch:
        downloads, folder = Path(scratch, "downloads"), Path(scratch, "model")
        downloads.mkdir()
        write_model(download_model(model_uri, mlflow_url, downloads), folder)
        environment = {"MODEL_URI": model_uri, **faults}
        registry = Registry(registry_url)
        image = model_image(_base(registry), library_layer(_LIBRARIES, _say), folder, tag, environment)
    return registry.push(repository, tag, image)


def model_image(base: Image, libraries: Layer, model: Path, tag: str, environment: Mapping[str, str]) -> Image:
    """Make the image of a model.

    Args:
        base: the image with Python.
        libraries: the layer with the server's libraries.
        model: the folder that `write_model` filled.
        tag: the image's tag, which the model server reports.
        environment: more environment variables of the image.
    """

    def write(layer: LayerWriter) -> None:
        layer.tree(MODEL_FOLDER, model)
        # Two versions may have the same model; this makes their images differ.
        layer.file(
            f"{MODEL_FOLDER}/image.env", "".join(f"{name}={environment[name]}\n" for name in environment).encode()
        )
        layer.file(f"{MODEL_FOLDER}/image.tag", f"{tag}\n".encode())

    return base.extended(
        libraries,
        _server_layer(),
        layer_in_memory(write),
        environment={
            "PYTHONPATH": f"{_SERVER}:{LIBRARIES}",
            "PYTHONUNBUFFERED": "1",
            "MODEL_DIR": MODEL_FOLDER,
            "OMP_NUM_THREADS": "1",  # a pod has a fraction of a processor
            **environment,
        },
        Entrypoint=[],
        Cmd=["python", "-m", "model_server"],
        WorkingDir="/srv",
        User=_USER,
        ExposedPorts={"8080/tcp": {}},
        Labels={"org.opencontainers.image.revision": tag},
    )


def publish_server(registry_url: str, repository: str, tag: str, say: Say) -> str:
    """Push an image of the server that can also fetch its model before it starts, and return the digest.

    Raises:
        ProblemError: the libraries cannot be installed, or the registry refused a part.
    """
    registry = Registry(registry_url)
    image = _base(registry).extended(
        library_layer((*_LIBRARIES, "mlflow-skinny", "pandas"), say),
        _server_layer(),
        environment={"PYTHONPATH": f"{_SERVER}:{LIBRARIES}", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        Entrypoint=[],
        Cmd=["python", "-m", "model_server"],
        WorkingDir="/srv",
        User=_USER,
        ExposedPorts={"8080/tcp": {}},
    )
    return registry.push(repository, tag, image)


def publish_companion(registry_url: str, say: Say) -> None:
    """Push the image of the companion as the manifests name it, made from this checkout.

    Raises:
        ProblemError: the libraries cannot be installed, or the registry refused a part.
    """
    _push(settings.COMPANION_IMAGE, registry_url, companion_image, library_layer(_COMPANION_LIBRARIES, say), say)


def publish_pipeline(registry_url: str, say: Say) -> str:
    """Push the image of the pipeline as the manifests of Dagster name it, made from this checkout; return its digest.

    Raises:
        ProblemError: the libraries cannot be installed, or the registry refused a part.
    """
    return _push(settings.PIPELINE_IMAGE, registry_url, pipeline_image, library_layer(pipeline_libraries(), say), say)


def pipeline_libraries() -> tuple[str, ...]:
    """Return what the pipeline needs, with all extras."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    return tuple(_VERSIONS.split(text)[0] for text in (*project["dependencies"], *extras))


def pipeline_image(base: Image, libraries: Layer, incumbent: Layer) -> Image:
    """Make the image of the pipeline, as images/pipeline/Dockerfile does, but without ssh.

    Args:
        base: the image with Python and Git.
        libraries: the layer with the pipeline's libraries.
        incumbent: the layer with the package itself.
    """

    def write(layer: LayerWriter) -> None:
        layer.folder(_DAGSTER_HOME, 0o755, _ID)
        layer.file(f"{_DAGSTER_HOME}/dagster.yaml", CHECKOUT / "dagster.yaml", owner=_ID)

    environment = {
        "PYTHONPATH": f"{INCUMBENT}:{LIBRARIES}",
        "PYTHONUNBUFFERED": "1",
        "DAGSTER_HOME": f"/{_DAGSTER_HOME}",
        "HOME": "/tmp",  # all that a read-only container may write
        "INCUMBENT_POLICIES": "/srv/policies",
        "INCUMBENT_STATE": "/tmp/incumbent",
    }
    return base.extended(
        libraries,
        incumbent,
        layer_in_memory(write),
        environment={"PATH": _path(base), **environment},
        Entrypoint=[],
        Cmd=["incumbent", "--help"],
        WorkingDir="/srv",
        User=_USER,
        ExposedPorts={"3000/tcp": {}, "4266/tcp": {}},
    )


def companion_image(base: Image, libraries: Layer, incumbent: Layer) -> Image:
    """Make the image of the companion, as images/pipeline/Dockerfile does.

    Args:
        base: the image with Python.
        libraries: the layer with the companion's libraries.
        incumbent: the layer with the package itself.
    """
    environment = {"PYTHONPATH": f"{INCUMBENT}:{LIBRARIES}", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"}
    return base.extended(
        libraries,
        incumbent,
        environment={"PATH": _path(base), **environment},
        Entrypoint=["incumbent", "companion"],
        Cmd=[],
        WorkingDir="/srv",
        User=_USER,
        ExposedPorts={"8080/tcp": {}},
    )


def _push(
    name: str, registry_url: str, make: Callable[[Image, Layer, Layer], Image], libraries: Layer, say: Say
) -> str:
    """Push an image made from this checkout under its name, and return its digest."""
    repository, _, tag = name.partition("/")[2].rpartition(":")
    registry = Registry(registry_url)
    return registry.push(repository, tag, make(_base(registry), libraries, wheel_layer(say)))


def _path(base: Image) -> str:
    known = dict(pair.split("=", 1) for pair in base.settings.get("Env", ()))
    return f"{INCUMBENT}/bin:{LIBRARIES}/bin:{known['PATH']}"


def _server_layer() -> Layer:
    return _source_layer("server", sorted((CHECKOUT / "model_server").glob("*.py")), _SERVER)


def _source_layer(name: str, sources: Sequence[Path], folder: str) -> Layer:
    """Make a layer with sources of this checkout; it is cached, since compiling again may give other bytes.

    Args:
        name: the layer's name in the cache.
        sources: the files.
        folder: where the image has them.
    """
    key = key_of(
        repr(sys.version_info[:2]),
        *(item for path in sources for item in (str(path.relative_to(CHECKOUT)), path.read_bytes())),
    )

    def make(unfinished: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            for source in sources:
                copy = Path(scratch) / source.relative_to(CHECKOUT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(source.read_bytes())
            compile_sources(Path(scratch), folder)
            write_layer(unfinished, lambda layer: layer.tree(folder, Path(scratch)))

    return read_layer(cached("layers", f"{name}-{key}", make))


def _base(registry: Registry) -> Image:
    repository, _, tag = settings.PYTHON_IMAGE.partition("/")[2].rpartition(":")
    image = registry.read(repository, tag)
    if image is None:
        _copy_official(registry, repository, tag)
        image = registry.read(repository, tag)
        assert image is not None, "it was pushed just now"
    return image


def _copy_official(registry: Registry, repository: str, tag: str) -> None:
    """Let Docker pull the official image with its own logins, and push it to the testbed's registry."""
    next_step = "Check that Docker runs here and can pull from the internet."
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
