"""The environment of a container's process: the image's own, the manifest's, the sandbox's."""

import os
import re
from pathlib import Path
from typing import Any

from testbeds.sandbox.cluster.images import PulledImage
from testbeds.sandbox.cluster.objects import Json
from testbeds.sandbox.cluster.world import World

_ROOT = Path(__file__).resolve().parents[3]
_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """The container's configuration names an object that does not exist; the text is the kubelet's message."""


def container_environment(world: World, pod: Json, container: Json, image: PulledImage, folder: Path) -> dict[str, str]:
    """Return the name and value of each variable.

    The image's environment, then the manifest's, then: the address on which to listen, who the pod is, and where MLflow
    is in the sandbox (in a real cluster the manifest's own address leads there).

    Raises:
        ConfigError: a ConfigMap, a Secret or a key that the manifest names is missing.
    """
    base = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    base |= {"PYTHONPATH": str(_ROOT), "HOME": str(folder), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    base |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    stated = dict(image.environment)
    stated.pop("PATH", None)  # the image's programs do not exist here
    for variable in container.get("env", []):
        value = _value(world, pod, variable)
        if value is not None:
            stated[variable["name"]] = value
    ports = container.get("ports", [])
    metadata = pod["metadata"]
    own = {"HOST": pod["status"]["podIP"], "IMAGE": container["image"], "HOSTNAME": metadata["name"]}
    own |= {"POD_NAME": metadata["name"], "POD_NAMESPACE": metadata["namespace"]}
    own |= {"MLFLOW_TRACKING_URI": world.settings.mlflow_uri} if world.settings.mlflow_uri else {}
    own |= {"PORT": str(ports[0]["containerPort"])} if ports else {}
    return base | stated | own


def _value(world: World, pod: Json, variable: Json) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    for field, kind, content in (("configMapKeyRef", "ConfigMap", "data"), ("secretKeyRef", "Secret", "stringData")):
        if field in source:
            name, key = source[field]["name"], source[field]["key"]
            item = world.store.get(kind, pod["metadata"]["namespace"], name)
            if item is not None and key in item.get(content, {}):
                return str(item[content][key])
            if source[field].get("optional"):
                return None
            if item is None:
                raise ConfigError(f'{kind.lower()} "{name}" not found')
            namespace = pod["metadata"]["namespace"]
            raise ConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")
    raise ConfigError(f"the sandbox does not play valueFrom of {variable['name']}: {', '.join(source)}")


def _field(pod: Json, path: str) -> str:
    labelled = _FIELD.fullmatch(path)
    if labelled is not None:
        return str(pod["metadata"].get(labelled[1], {}).get(labelled[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part, {})
    return str(value or "")
