"""The homelab's GitOps repository: its content, and the server that keeps it.

The content is the checkout's, as `python -m bootstrap init` writes it for the homelab's owner (`settings.OWNER`).
"""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bootstrap.adopt import write
from bootstrap.owner import Owner
from bootstrap.places import follow, places
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common import git_server
from testbeds.common.state import read_policy
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import settings
from testbeds.homelab.docker import Docker

URL = settings.OWNER.repository
HEALTH_URL = f"{settings.GIT_URL}/healthz"
_NAME = urlsplit(URL).path.strip("/")
_FOLDERS = ("manifests", "argocd-apps")
_MODELS = "manifests/applications"
"""The folder that the models' branch holds."""
_MAY_PUSH = f"refs/heads/{settings.OWNER.serving.branch} refs/heads/incumbent/* refs/incumbent/* refs/tags/incumbent/*"
"""What the pipeline's token may push to, as docs/blast-radius.md has it."""
_POLICIES = "testbeds/homelab/policies"
_SCRAPE_SECONDS = 2
"""A soak of a few seconds needs more samples than the real interval of 15 s gives."""


@dataclass(frozen=True)
class Difference:
    """A text in which the homelab differs from every owner's clusters; it occurs once in its file."""

    file: str
    in_checkout: str
    in_homelab: str


def differences(owner: Owner = settings.OWNER) -> tuple[Difference, ...]:
    """Return everything that is only the homelab's: its pace, its one address, and what receives its alerts."""
    intervals = "scrape_interval: {0}s\n  evaluation_interval: {0}s"
    # One address stands for the whole tailnet, and Kubernetes takes an address once.
    alias = "        - ip: {}\n          hostnames: [{}]\n"
    plane, edge = owner.control_plane, owner.edge
    webhooks = "    webhook_configs: &webhook\n"
    receiver = (
        f"      - url: {settings.RECEIVER_URL}/alerts\n"
        "        http_config:\n"
        "          authorization:\n"
        "            credentials_file: /etc/alertmanager/webhook/token\n"
    )
    config = "manifests/platform/monitoring/config"
    return (
        Difference(f"{config}/prometheus.yml", intervals.format(15), intervals.format(_SCRAPE_SECONDS)),
        Difference(
            "manifests/platform/monitoring/prometheus.yaml",
            alias.format(edge.address, "edge") + alias.format(plane.address, plane.host),
            alias.format(edge.address, f"edge, {plane.host}"),
        ),
        Difference(f"{config}/alertmanager.yml", webhooks, webhooks + receiver),
        *_of_dagster(),
        *(
            Difference("manifests/platform/access/control-plane/network.yaml", text, text.replace("443", str(port)))
            for text, port in (
                ("ports: # a receiver elsewhere, if there is one\n        - port: 443", settings.RECEIVER_PORT),
                ("ports: # GitHub, whose addresses change\n        - port: 443", settings.GITHUB_PORT),
            )
        ),
    )


def _of_dagster() -> tuple[Difference, ...]:
    """Let Dagster on the control plane reach the homelab's own Git server and registry."""
    ports = "whose addresses change\n{}        - port: 443"
    own = "".join(f"        - port: {port}\n" for port in (settings.GIT_PORT, settings.REGISTRY_PORT))
    state = "INCUMBENT_STATE=/var/lib/incumbent\n"
    mirrors = f"INCUMBENT_OCI_MIRRORS=ghcr.io={settings.REGISTRY_URL}\n"
    return (
        Difference("manifests/platform/access/dagster/network.yaml", ports.format(""), ports.format(own)),
        Difference("manifests/platform/dagster/config/settings.env", state, state + mirrors),
    )


def followed(file: str) -> str:
    """Return a file of the checkout as the homelab's owner has it."""
    content, _ = follow(file, (CHECKOUT / file).read_bytes(), places(settings.OWNER))
    return content.decode("utf-8")


def write_content(folder: Path, owner: Owner = settings.OWNER) -> None:
    """Write the repository's content into a new folder.

    Raises:
        ProblemError: the checkout has changed, so that the text of a difference does not occur exactly once.
    """
    for name in _FOLDERS:
        shutil.copytree(CHECKOUT / name, folder / name)
    write(folder, owner)
    for difference in differences(owner):
        path = folder / difference.file
        text = path.read_text(encoding="utf-8")
        if text.count(difference.in_checkout) != 1:
            raise ProblemError(
                Problem(
                    difference.file,
                    f"{difference.in_checkout!r} once",
                    f"{text.count(difference.in_checkout)} times",
                    "Correct `differences` in testbeds/homelab/gitops.py, which replaces it for the homelab.",
                )
            )
        path.write_text(text.replace(difference.in_checkout, difference.in_homelab), encoding="utf-8")


def write_policies(folder: Path) -> Policy:
    """Write the homelab's policies into a new folder, and return the story's policy."""
    folder.mkdir()
    for path in (CHECKOUT / _POLICIES).glob("*.yaml"):
        (folder / path.name).write_text(followed(f"{_POLICIES}/{path.name}"), encoding="utf-8")
    return read_policy(folder)


def create(state: Path) -> None:
    """Make the repository, a readable copy of its content, and the tokens, in a state that has none of these."""
    write_content(content(state))
    repository = git_server.create_repository(state / "git", _NAME, content(state), settings.OWNER.branch)
    git_server.begin_branch(repository, settings.OWNER.serving.branch, _MODELS)
    git_server.protect(repository)
    for file in (token_file(state), owners_token_file(state), readers_token_file(state)):
        _write_secret(file, secrets.token_urlsafe(24))
    pipelines, readers = (file(state).read_text(encoding="utf-8") for file in (token_file, readers_token_file))
    _write_secret(_bounded_file(state), f"{pipelines} {_MAY_PUSH}\n{readers}\n")


def content(state: Path) -> Path:
    """Return the folder with the repository's first content."""
    return state / "gitops-content"


def token_file(state: Path) -> Path:
    """Return the file with the token by which the pipeline, and people who serve models, push to the models' branch."""
    return state / "git-token"


def owners_token_file(state: Path) -> Path:
    """Return the file with the token by which the platform's owners push, to any branch."""
    return state / "git-token-of-owners"


def readers_token_file(state: Path) -> Path:
    """Return the file with the token by which Argo CD reads, and pushes nothing."""
    return state / "git-token-of-argocd"


@dataclass(frozen=True)
class Trunk:
    """The branch that everything but the models follows, as the platform's owners see it."""

    state: Path
    git_url: str = URL
    git_branch: str = settings.OWNER.branch

    @property
    def git_token_file(self) -> Path:
        return owners_token_file(self.state)


def _bounded_file(state: Path) -> Path:
    return state / "git-tokens-and-refs"


def _write_secret(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")


def start_server(docker: Docker, state: Path) -> None:
    """Run the Git server beside the clusters, with the repository and the tokens of the state."""
    program = Path(git_server.__file__).resolve()
    docker.run(
        "run",
        "--detach",
        f"--name={settings.GIT}",
        f"--network={settings.NETWORK}",
        f"--ip={settings.GIT_ADDRESS}",
        f"--publish={settings.ADDRESS}:{settings.GIT_PORT}:{settings.GIT_PORT}",
        "--restart=unless-stopped",
        f"--user={os.getuid()}:{os.getgid()}",  # the owner of the repository's files
        f"--volume={state / 'git'}:/srv/git",
        f"--volume={owners_token_file(state)}:/srv/token:ro",
        f"--volume={_bounded_file(state)}:/srv/bounded:ro",
        f"--volume={program}:/srv/git_server.py:ro",
        settings.PYTHON_IMAGE,
        "python3",
        "/srv/git_server.py",
        "--host=0.0.0.0",
        f"--port={settings.GIT_PORT}",
        "--root=/srv/git",
        "--token-file=/srv/token",
        "--bounded-file=/srv/bounded",
    )
