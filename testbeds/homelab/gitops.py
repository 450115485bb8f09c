"""The homelab's GitOps repository: its content, and the server that keeps it."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common import git_server
from testbeds.common.services import BRANCH, REPOSITORY
from testbeds.common.tools import CHECKOUT
from testbeds.homelab import settings
from testbeds.homelab.docker import Docker

URL = f"{settings.GIT_URL}/{REPOSITORY}"
HEALTH_URL = f"{settings.GIT_URL}/healthz"
_FOLDERS = ("manifests", "argocd-apps")
_TRUNK, _MODELS = "main", "manifests/applications"
"""The branch that everything but the models follows, and the folder that the models' branch holds."""
_MAY_PUSH = f"refs/heads/{BRANCH} refs/heads/incumbent/* refs/incumbent/* refs/tags/incumbent/*"
"""What the pipeline's token may push to, as docs/blast-radius.md has it."""
_SCRAPE_SECONDS = 2
"""A soak of a few seconds needs more samples than the real interval of 15 s gives."""


@dataclass(frozen=True)
class Difference:
    """A text that differs between the checkout and the homelab; it occurs once in its file."""

    file: str
    in_checkout: str
    in_homelab: str


def differences(address: str = settings.ADDRESS) -> tuple[Difference, ...]:
    """Return everything in which the homelab's repository differs from the checkout."""
    prometheus = "manifests/platform/monitoring/prometheus.yaml"
    intervals = "scrape_interval: {0}s\n  evaluation_interval: {0}s"
    texts = [
        Difference("argocd-apps/root.yaml", "https://github.com/dycouzt/mlops-ai-platform.git", URL),
        Difference(
            "manifests/platform/monitoring/config/prometheus.yml",
            intervals.format(15),
            intervals.format(_SCRAPE_SECONDS),
        ),
        # Here one address stands for the whole tailnet.
        Difference(prometheus, "hostnames: [edge]", f"hostnames: [edge, {settings.CONTROL_PLANE_HOST}]"),
        # MLflow refuses host names that it does not know; the machine reaches its NodePort by this address.
        Difference(
            "manifests/platform/mlflow/mlflow.yaml",
            "--allowed-hosts=",
            f"--allowed-hosts={address}:{settings.MLFLOW_PORT},",
        ),
    ]
    texts += _of_alerts(address)
    if address != settings.DEFAULT_ADDRESS:
        texts.append(Difference(prometheus, settings.DEFAULT_ADDRESS, address))
    return tuple(texts)


def _of_alerts(address: str) -> list[Difference]:
    """Alertmanager also sends to the tests' receiver, and the dispatcher knows a stand-in for GitHub."""
    webhooks = "    webhook_configs: &webhook\n"
    receiver = (
        f"      - url: http://{address}:{settings.RECEIVER_PORT}/alerts\n"
        "        http_config:\n"
        "          authorization:\n"
        "            credentials_file: /etc/alertmanager/webhook/token\n"
    )
    dispatcher = "manifests/platform/dispatcher"
    return [
        Difference("manifests/platform/monitoring/config/alertmanager.yml", webhooks, webhooks + receiver),
        Difference(
            f"{dispatcher}/config/dispatcher.yml", "https://api.github.com", f"http://{address}:{settings.GITHUB_PORT}"
        ),
        *(
            Difference("manifests/platform/access/control-plane/network.yaml", text, text.replace("443", str(port)))
            for text, port in (
                ("ports: # a receiver elsewhere, if there is one\n        - port: 443", settings.RECEIVER_PORT),
                ("ports: # GitHub, whose addresses change\n        - port: 443", settings.GITHUB_PORT),
            )
        ),
    ]


def write_content(folder: Path, address: str = settings.ADDRESS) -> None:
    """Write the repository's content into a new folder.

    Raises:
        ProblemError: the checkout has changed, so that the text of a difference does not occur exactly once.
    """
    for name in _FOLDERS:
        shutil.copytree(CHECKOUT / name, folder / name)
    for difference in differences(address):
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


def create(state: Path) -> None:
    """Make the repository, a readable copy of its content, and the tokens, in a state that has none of these."""
    write_content(content(state))
    repository = git_server.create_repository(state / "git", REPOSITORY, content(state), _TRUNK)
    git_server.begin_branch(repository, BRANCH, _MODELS)
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
    git_branch: str = _TRUNK

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
