"""A team that serves a model with a server of its own: it logs, builds, records, deploys, and sends requests.

Its files are those that a user copies: a folder of `testbeds/known_servers`, or the blocks of docs/model-servers.md.
"""

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestration.promotion.policy import Policy, parse_policy
from testbeds.common.oci import Image, Registry
from testbeds.common.processes import wait_until
from testbeds.common.services import answers, free_ports
from testbeds.common.tools import CHECKOUT
from testbeds.known_servers import environments
from testbeds.known_servers.dockerfile import build
from testbeds.sandbox.cluster.images import PulledImage
from testbeds.sandbox.cluster.programs import extract, own_program
from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.story.expectation import promoting
from testbeds.story.look import Git, branch
from testbeds.story.pushing import commit_and_push
from testbeds.story.stories import Outcome, registry, request_promotion, wait_for_end
from tests.scenarios.people import incumbent

_START_SECONDS = 120.0
_PAGE = (CHECKOUT / "docs" / "model-servers.md").read_text(encoding="utf-8")
_SERVICE = """\
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: http, nodePort: {port}}}]
"""


@dataclass(frozen=True)
class Kit:
    """The texts that a team has written."""

    name: str
    """The model's name and the first part of the policy's."""
    server: str
    """The name of the server's environment."""
    files: Path | None
    """What goes into the image beside the weights; None for the page's, which has MLflow's own files."""
    dockerfile: str
    deployment: str
    policy: str


def kit_of(server: str) -> Kit:
    """Read a server's folder of `testbeds/known_servers`."""
    folder = environments.FOLDER / server
    texts = (folder / name for name in ("Dockerfile", "deployment.yaml", "policy.yaml"))
    return Kit(f"iris-{server}", server, folder, *(text.read_text(encoding="utf-8") for text in texts))


def kit_of_page() -> Kit:
    """Read the walk of docs/model-servers.md."""
    deployment, policy = re.findall(r"^```yaml\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
    return Kit("iris", "mlflow", None, block_of_page("dockerfile"), deployment, policy)


def block_of_page(language: str, page: str = _PAGE) -> str:
    """Return the only block of code in that language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(block)


class Team:
    """One team with its model, its server and its policy in a running sandbox."""

    def __init__(self, sandbox: SandboxEnvironment, kit: Kit, folder: Path) -> None:
        (port,) = free_ports(1)
        self._sandbox, self.kit, self.folder = sandbox, kit, folder
        self.node_port, self.service_url = port, f"http://127.0.0.1:{port}"
        text = kit.policy.replace("cluster: prod", "cluster: edge").replace("http://iris.example.org", self.service_url)
        self.policy_text = text.replace("gate:\n", "gate:\n  soak: 10s\n  every: 2s\n")  # a test does not soak longer
        self.policy_name = f"{kit.name}-prod"
        self.policy: Policy = parse_policy(self.policy_name, self.policy_text)
        (self.repository,) = re.findall(r"image: ([^:\s]+):", kit.deployment)
        self.environment = SandboxEnvironment(sandbox.sandbox, self.policy)
        self.model = self.policy.model
        self.client = registry(self.environment)
        self.digests: dict[int, str] = {}

    def log(self, *, shifted: int = 0) -> int:
        """Train a classifier of iris flowers, log and register it, and return its version.

        `shifted` numbers the classes otherwise, which is another model.
        """
        import mlflow
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        data, classes = load_iris(return_X_y=True, as_frame=True)
        model = LogisticRegression(max_iter=1000).fit(data, (classes + shifted) % 3)
        with tracking(self.environment.mlflow_url), mlflow.start_run():
            mlflow.log_metric("accuracy", model.score(data, (classes + shifted) % 3))
            logged = mlflow.sklearn.log_model(
                model, name="model", input_example=data[::8], pip_requirements=[], registered_model_name=self.model
            )
        version = int(logged.registered_model_version)
        self.client.set_model_version_tag(self.model, str(version), "image_tag", f"v{version}")
        return version

    def build(self, version: int, model_of: int | None = None, broken: str = "") -> Image:
        """Build a version's image.

        Args:
            version: what `MODEL_URI` says.
            model_of: the version whose model is in it; that version's own unless another is given by mistake.
            broken: code at the end of `scoring.py`, which makes it wrong.
        """
        with TemporaryDirectory(dir=self.folder) as folder:
            context = Path(folder)
            self._write_context(context, model_of or version, broken)
            environment = environments.find_environment(self.kit.server)
            return build(self.kit.dockerfile, context, environment, VERSION=str(version))

    def _write_context(self, context: Path, version: int, broken: str) -> None:
        import mlflow

        with tracking(self.environment.mlflow_url):
            mlflow.artifacts.download_artifacts(f"models:/{self.model}/{version}", dst_path=str(context / "model"))
        if self.kit.files is None:
            policies = (CHECKOUT / "docs" / "policies.md").read_text(encoding="utf-8")
            (context / "serve.py").write_text(block_of_page("python", policies), encoding="utf-8")
            return
        shutil.copytree(self.kit.files, context, dirs_exist_ok=True)
        model = mlflow.sklearn.load_model(str(context / "model"))
        shutil.rmtree(context / "model")
        weights = [[*row, intercept] for row, intercept in zip(model.coef_.tolist(), model.intercept_, strict=True)]
        (context / "weights.json").write_text(json.dumps(weights), encoding="utf-8")
        scoring = (environments.FOLDER / "scoring.py").read_text(encoding="utf-8")
        (context / "scoring.py").write_text(f"{scoring}{broken}", encoding="utf-8")

    def record(self, version: int, image: Image, requests: Sequence[Any] = ()) -> str:
        """Run an image as `docker run` does, record what it answers, and return what the command says.

        It asks as the policy says, or as MLflow's protocol has it before there is one."""
        with self._running(image) as url:
            command = ["record", self.model, str(version), "--url", url]
            if requests:
                (self.folder / "requests.json").write_text(json.dumps(requests), encoding="utf-8")
                command += ["--requests", str(self.folder / "requests.json")]
            process = incumbent(self.environment.settings(), *command)
        assert process.returncode == 0, process.stderr
        return process.stdout

    @contextmanager
    def _running(self, image: Image) -> Iterator[str]:
        processes = self._sandbox.processes
        with TemporaryDirectory(dir=self.folder) as folder:
            content = image.layers[0].content
            assert isinstance(content, bytes)
            extract(content, Path(folder))
            variables = dict(pair.split("=", 1) for pair in image.settings["Env"])
            pulled = PulledImage("", variables, "", tuple(image.settings["Cmd"]), image.settings["WorkingDir"])
            host = f"127.14.{self.node_port // 256}.{self.node_port % 256}"
            program = own_program(pulled, {**variables, "HOST": host, "HOME": folder, "TMPDIR": folder}, Path(folder))
            name = f"container of {self.model}"
            service = processes.start(name, program.argv, program.environment, cwd=program.folder)
            url = f"http://{host}:8080"
            try:
                wait_until(lambda: answers(f"{url}{self._readiness}"), _START_SECONDS, f"{name} is ready", service)
                yield url
            finally:
                processes.kill(service)

    @property
    def _readiness(self) -> str:
        found = re.search(r"readinessProbe: \{httpGet: \{path: ([^,]+),", self.kit.deployment)
        assert found is not None
        return found[1]

    def push(self, version: int, image: Image) -> None:
        """Push the image as the version's tag says."""
        repository = self.repository.partition("/")[2]
        self.digests[version] = Registry(self._sandbox.sandbox.registry_url).push(repository, f"v{version}", image)

    def serve_by_hand(self) -> None:
        """Put version 1 into Git, have Argo CD follow the folder, and wait until it serves."""
        target = self.policy.manifest
        folder = Path(target.path).parent
        service = _SERVICE.format(name=target.name, namespace=target.namespace, port=self.node_port)
        self._commit({target.path: self.kit.deployment, str(folder / "service.yaml"): service}, "Serve version 1")
        source = {
            "repoURL": self.environment.git_url,
            "targetRevision": self.environment.git_branch,
            "path": str(folder),
        }
        argocd = self.policy.argocd
        spec = {
            "project": "default",
            "source": source,
            "destination": {"name": "edge", "namespace": target.namespace},
            "syncPolicy": {"automated": {"prune": True, "selfHeal": True}},
        }
        metadata = {"name": argocd.application, "namespace": argocd.namespace}
        kind = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application"}
        self.environment.follow({**kind, "metadata": metadata, "spec": spec})
        wait_until(lambda: self.serves(1), _START_SECONDS, f"version 1 of {self.model} serves")

    def write_policy(self) -> None:
        """Put the policy in force."""
        self._policy_file.write_text(self.policy_text, encoding="utf-8")

    @property
    def _policy_file(self) -> Path:
        return Path(self.environment.settings()["INCUMBENT_POLICIES"]) / f"{self.policy_name}.yaml"

    def promote(self, version: int) -> Outcome:
        """Make a version the challenger, and wait for the end of its promotion."""
        requested_at = request_promotion(self.environment, self.client, version)
        return wait_for_end(self.environment, self.client, version, requested_at, print)

    def serves(self, version: int) -> bool:
        """Check that all pods are ready and run a version's image."""
        statuses = [pod["status"].get("containerStatuses") for pod in self.environment.pods()]
        image = f"{self.repository}@{self.digests[version]}"
        return len(statuses) == 2 and all(
            each and each[0]["ready"] and each[0]["imageID"] == image for each in statuses
        )

    @property
    def champion(self) -> int | None:
        """The version that has the champion alias."""
        aliases = self.client.get_registered_model(self.model).aliases
        return int(aliases["champion"]) if "champion" in aliases else None

    def commits(self, version: int) -> tuple[int, int]:
        """Count the commits that put a version into the manifest, and those that took it back."""
        commits = branch(self.environment)
        start = f"{self.policy_name}/{version}/"
        back = [commit for commit in commits if commit.trailers.get("Rollback-Of", "").startswith(start)]
        return len(promoting(commits, self.policy_name, version)), len(back)

    @property
    def manifest_image(self) -> str:
        """The image that the branch has."""
        with TemporaryDirectory(dir=self.folder) as folder:
            text = (Git(self.environment, Path(folder)).folder / self.policy.manifest.path).read_text(encoding="utf-8")
        found = re.search(r"image: (\S+)", text)
        assert found is not None
        return found[1]

    def leave(self) -> None:
        """Take the policy out of force and the Deployment out of Git, and wait until no pod is left."""
        self._policy_file.unlink(missing_ok=True)
        self._commit({self.policy.manifest.path: None}, "Serve nothing")
        self.environment.refresh()
        wait_until(lambda: not self.environment.pods(), _START_SECONDS, f"no pod of {self.model} is left")

    def _commit(self, files: Mapping[str, str | None], message: str) -> None:
        with TemporaryDirectory(dir=self.folder) as folder:
            git = Git(self.environment, Path(folder))
            for path, text in files.items():
                file = git.folder / path
                if text is None:
                    file.unlink()
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            commit_and_push(git, message)


@contextmanager
def tracking(url: str) -> Iterator[None]:
    """Point MLflow's module at a server until the block ends."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(url)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def clients(url: str, bodies: Sequence[Any], per_second: float = 8.0) -> Iterator[Counter[int]]:
    """Send requests in turn until the block ends, and count the statuses of the answers; 0 counts what got none."""
    statuses, stop = Counter[int](), threading.Event()

    def send() -> None:
        at = 0
        while not stop.wait(1 / per_second):
            statuses[_post(url, bodies[at % len(bodies)])] += 1
            at += 1

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield statuses
    finally:
        stop.set()
        sending.join()


def _post(url: str, body: Any) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
