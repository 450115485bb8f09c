"""What is an owner's own: the settings in `homelab.yaml`, the one file that a fork's owner edits.

Everything else that names a repository, a branch, an address, an image repository or a storage class follows from them
(`places.py`). Namespaces, ports of the platform and the names `gcp` and `edge` are the platform's own, and no settings.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.git_names import BRANCH_NAME, is_branch_name
from orchestration.promotion.images import ImageRef, is_registry_host, parse_image
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.yaml_mapping import read_yaml_mapping

FILE = "homelab.yaml"
CHECKOUT = Path(__file__).parents[1]
"""The checkout whose files follow from its settings."""
MLFLOW_PORT = 30500
"""The NodePort of `manifests/platform/mlflow`."""
_NAME = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
MODEL_NAME = re.compile(_NAME)
"""What Kubernetes takes as the name of each of a model's objects (RFC 1123)."""
_HOST_NAME = re.compile(rf"{_NAME}(\.{_NAME})*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_SIZE = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti)")
_GITHUB_NAME = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


def _address_of(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for one that is not a number
    except ValueError as error:
        raise ValueError("expected an address, found one that cannot be read") from error
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected an address without a user or password, found one with them (it is not shown)")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected https:// or http:// with a host, and no query")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("expected an address without white space and other characters than ASCII's")
    return parts


def _is_repository(value: str) -> str:
    """Argo CD is registered with a token or none, so an address for ssh would not be read by it."""
    if not _PATH.fullmatch(_address_of(value).path):
        raise ValueError("expected the address of a Git repository, such as https://github.com/you/your-fork.git")
    return value


def _is_page(value: str) -> str:
    _address_of(value)
    return value


def _is_server(value: str) -> str:
    if _address_of(value).path:
        raise ValueError("expected an address without a path, such as http://gcp-control-plane:30500")
    return value


def _is_branch(value: str) -> str:
    if not is_branch_name(value):
        raise ValueError(f"expected {BRANCH_NAME}, found {value!r}")
    return value


def _is_address(value: str) -> str:
    try:
        address = ipaddress.IPv4Address(value)
    except ValueError as error:
        raise ValueError(f"expected an IPv4 address, such as `tailscale ip -4` prints, found {value!r}") from error
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise ValueError(f"expected an address that the other cluster can reach, found {value}")
    return value


def _is_host(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError(f"expected a host name, such as gcp-control-plane, found {value!r}")
    return value


def _is_registry(value: str) -> str:
    if parse_image(f"{value}/x") != ImageRef(f"{value}/x") or not is_registry_host(value.partition("/")[0]):
        raise ValueError(
            f"expected a registry and what comes before images' names, such as ghcr.io/you, found {value!r}"
        )
    return value


def _is_size(value: str) -> str:
    if not _SIZE.fullmatch(value):
        raise ValueError(f"expected a size such as 5Gi, found {value!r}")
    return value


Branch = Annotated[str, AfterValidator(_is_branch)]
Address = Annotated[str, AfterValidator(_is_address)]
Host = Annotated[str, AfterValidator(_is_host)]
Size = Annotated[str, AfterValidator(_is_size)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ControlPlane(_Part):
    """The cluster with Argo CD, MLflow and monitoring."""

    context: str = "gcp"
    """In the kubeconfig of whoever sets it up."""
    host: Host = "gcp-control-plane"
    """Its name in the tailnet."""
    address: Address
    """Its address there, for pods, which do not ask the tailnet's name server."""


class Edge(_Part):
    """The cluster of the models."""

    context: str = "edge"
    """In the kubeconfig of whoever sets it up."""
    address: Address
    """Its address in the tailnet, at which its API and its NodePorts are published."""
    api_port: Port = 6550
    """The port of its API there."""


class Storage(_Part):
    """The volume claims of the control plane."""

    storage_class: Annotated[Host, Field(alias="class")] = "local-path"
    mlflow: Size = "5Gi"
    mlflow_backup: Size = "10Gi"
    prometheus: Size = "5Gi"
    dispatcher: Size = "256Mi"
    dagster: Size = "5Gi"


class Images(_Part):
    """The repositories of images that are made from the checkout."""

    companion: str = "incumbent-companion"
    pipeline: str = "incumbent"


class Mlflow(_Part):
    """The model registry."""

    url: Annotated[str, AfterValidator(_is_server)] | None = None
    """Where clients reach it; None for the platform's own, at the control plane's name."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names by which clients may call it (MLflow's `--allowed-hosts`)."""


class GitHub(_Part):
    """Where alerts start workflows."""

    repository: Annotated[str, Field(pattern=_GITHUB_NAME.pattern)] | None = None
    """owner/name; None for that of the repository's address."""
    api: Annotated[str, AfterValidator(_is_page)] = "https://api.github.com"


class Serving(_Part):
    """Where the models' manifests are, which the pipeline changes (decision 16)."""

    repository: Annotated[str, AfterValidator(_is_repository)] | None = None
    """None for the repository of everything else."""
    branch: Branch = "models"


class Owner(_Part):
    """All that differs between the owners of two forks."""

    repository: Annotated[str, AfterValidator(_is_repository)]
    """The GitOps repository's address, as Argo CD reads it."""
    branch: Branch = "main"
    """Its branch that Argo CD follows."""
    serving: Serving = Serving()
    runbooks: Annotated[str, AfterValidator(_is_page)] | None = None
    """The page with the runbooks to which alerts link; None for its address at GitHub."""
    registry: Annotated[str, AfterValidator(_is_registry)]
    """What comes before the names of images that have no slash."""
    images: Images = Images()
    models: Mapping[str, str]
    """Each model's repository of images, by the model's name in `manifests/applications`."""
    control_plane: ControlPlane
    edge: Edge
    storage: Storage = Storage()
    mlflow: Mlflow = Mlflow()
    github: GitHub = GitHub()

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.models:
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(f"models: expected names of lower-case letters, digits and dashes, found {name!r}")
        for field, image in (
            ("images.companion", self.companion),
            ("images.pipeline", self.pipeline),
            *((f"models.{n}", self.image(n)) for n in self.models),
        ):
            if parse_image(image) != ImageRef(image):
                raise ValueError(f"{field}: expected a repository's name without tag or digest, found {image!r}")
        if (self.serving_repository, self.serving.branch) == (self.repository, self.branch):
            raise ValueError(
                "serving.branch: expected another branch than branch, which has rights (docs/blast-radius.md)"
            )
        if not _GITHUB_NAME.fullmatch(self.github_repository):
            raise ValueError("github.repository: expected owner/name, because the repository's address has none")
        return self

    @property
    def serving_repository(self) -> str:
        """The repository of the models' manifests."""
        return self.serving.repository or self.repository

    @property
    def companion(self) -> str:
        """The repository of the companion's images, with its registry."""
        return self._whole(self.images.companion)

    @property
    def pipeline(self) -> str:
        """The repository of the pipeline's images, with its registry."""
        return self._whole(self.images.pipeline)

    def image(self, model: str) -> str:
        """Return the repository of a model's images, with its registry."""
        return self._whole(self.models[model])

    @property
    def mlflow_url(self) -> str:
        """Where clients reach MLflow."""
        return self.mlflow.url or f"http://{self.control_plane.host}:{MLFLOW_PORT}"

    @property
    def mlflow_inside(self) -> str:
        """Where pods of the control plane reach MLflow."""
        return self.mlflow.url or "http://mlflow.mlflow:5000"

    @property
    def allowed_hosts(self) -> str:
        """Every name by which MLflow may be called, as its option takes them."""
        inside = ("mlflow.mlflow.svc:5000", "mlflow.mlflow:5000", "localhost:*")
        return ",".join((urlsplit(self.mlflow_url).netloc, *self.mlflow.allowed_hosts, *inside))

    @property
    def runbooks_page(self) -> str:
        """The page to which alerts link."""
        return self.runbooks or f"{self.repository.removesuffix('.git')}/blob/{self.branch}/docs/runbooks.md"

    @property
    def github_repository(self) -> str:
        """The repository whose workflows alerts start, as owner/name."""
        path = urlsplit(self.repository).path.removesuffix(".git").strip("/")
        return self.github.repository or "/".join(path.split("/")[-2:])

    @property
    def edge_api(self) -> str:
        """The address of edge's API server, as the control plane reaches it."""
        return f"https://{self.edge.address}:{self.edge.api_port}"

    def _whole(self, name: str) -> str:
        return name if "/" in name else f"{self.registry}/{name}"


def parse_owner(text: str) -> Owner:
    """Read the settings from the content of `homelab.yaml`.

    Raises:
        InvalidInputError: they cannot be used; the problem names every wrong field.
    """
    try:
        return Owner.model_validate(_with_tuples(read_yaml_mapping(text)))
    except ValidationError as error:  # a ValueError, too
        found = "; ".join(field_faults(error, "the file"))
    except ValueError as error:
        found = str(error)
    raise InvalidInputError(
        Problem(
            FILE, "an owner's settings as docs/adopt.md describes them", found, f"Correct {FILE}, and run it again."
        )
    )


def read_owner(root: Path = CHECKOUT) -> Owner:
    """Read the settings of a checkout.

    Raises:
        InvalidInputError: there are none, or they cannot be used.
    """
    try:
        text = (root / FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(str(root / FILE), "the owner's settings", str(error), f"Bring it back: git checkout {FILE}.")
        raise InvalidInputError(problem) from error
    return parse_owner(text)


def _with_tuples(raw: dict[str, object]) -> dict[str, object]:
    """Make the one list of the file a tuple, which a strict model of fixed values asks for."""
    mlflow = raw.get("mlflow")
    if isinstance(mlflow, dict) and isinstance(mlflow.get("allowed_hosts"), list):
        return raw | {"mlflow": mlflow | {"allowed_hosts": tuple(mlflow["allowed_hosts"])}}
    return raw
