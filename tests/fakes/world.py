"""A whole platform in memory: what is pushed is rolled out as soon as Argo CD is asked to look."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import dagster as dg

from orchestration.promotion.cluster_status import ApplicationSource, ContainerSpec, PodStatus
from orchestration.promotion.manifest import CurrentImage, read_image
from orchestration.promotion.model_version import ModelVersion, Signature, TensorInput, TrainingRun
from orchestration.promotion.policy import GitTarget, Policy, parse_policy
from orchestration.promotion.ports import Answer, Clients, Headers
from orchestration.promotion.recorded_requests import (
    RECORDING_PATH,
    RecordedAnswer,
    RecordedRequest,
    Recording,
    dump_recording,
)
from orchestration.promotion.state import State
from tests.fakes.clock import FakeBell, FakeClock
from tests.fakes.cluster import FakeArgoCD, FakeCluster, FakeService, a_deployment, a_pod, an_application
from tests.fakes.git import FakeGitRepository
from tests.fakes.images import FakeImages
from tests.fakes.metrics import FakeMetrics
from tests.fakes.pull_requests import FakePullRequests
from tests.fakes.registry import FakeRegistry

POLICY_NAME = "iris-edge"
REPOSITORY = "ghcr.io/acme/iris"
POLICY_TEXT = f"""
model: iris
image: {{repository: {REPOSITORY}, deadline: 30s}}
manifest: {{path: apps/iris.yaml, namespace: ml-apps, name: iris, container: model-server}}
argocd: {{application: iris}}
cluster: edge
service: {{url: http://edge:30808, protocol: features}}
quality: [{{metric: accuracy, at_least: 0.8, no_worse_than_champion_by: 0.0}}]
rollout: {{deadline: 60s}}
gate:
  soak: 60s
  every: 10s
  judge_within: 120s
  requests: requests_of{{pod=~"$pods",source=~"$source"}}[$window]
  slos:
    - {{name: success_ratio, query: 'ratio_of{{pod=~"$pods",source=~"$source"}}', at_least: 0.99, min_requests: 20}}
    - {{name: restarts, from: pods, at_most: 0}}
"""
MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: iris, namespace: ml-apps}}
spec:
  template:
    spec:
      containers:
        - name: model-server # the model
          image: {image}
"""
SIGNATURE = Signature((TensorInput(None, "float64", (-1, 1)),))
RECORDING = Recording(
    requests=tuple(
        RecordedRequest(request={"features": [n]}, response=RecordedAnswer(body={"prediction": n})) for n in range(2)
    )
)


class World:
    """The ports, and the platform behind them. Break what a test is about; the rest works."""

    def __init__(self, policy: str = POLICY_TEXT) -> None:
        self.policies: dict[str, str] = {POLICY_NAME: policy}
        self.ignored: tuple[str, ...] = ()
        """What is beside the policies and is none."""
        self.clock = FakeClock()
        self.bell = FakeBell(self.clock)
        self.registry, self.images = FakeRegistry(), FakeImages()
        self.images.publish(REPOSITORY, "before")
        manifest = MANIFEST.format(image=f"{REPOSITORY}:before")
        self.git = FakeGitRepository(self.clock, {"apps/iris.yaml": manifest.encode(), "README": b"hello\n"})
        self.requests = FakePullRequests(self.git, self.clock)
        self.own_git: FakeGitRepository | None = None
        """The repository of a policy that does not exist yet; None for the one that all share."""
        self.argocd, self.cluster = FakeArgoCD(), FakeCluster()
        self.service, self.metrics = FakeService(_right), FakeMetrics(self.clock)
        self.cluster.respond = _right
        self.argocd.on_refresh = lambda _: self.reconcile()
        self.bad_images: set[str] = set()
        """Images whose metrics violate the SLO."""
        self.crashing_images: set[str] = set()
        self.unmeasured_images: set[str] = set()
        """Images of which Prometheus has no data."""
        self.said: list[str] = []
        self.reconcile()

    # What a test asks for

    def register(self, accuracy: float = 0.9, *, dataset: str = "d1", publish: bool = True) -> ModelVersion:
        """Train, register and publish the next version, and make it the challenger."""
        from orchestration.promotion.model_version import Dataset

        number = 1 + len(self.registry.versions)
        run_id = f"run{number}"
        datasets = (Dataset("test", dataset, "test"),)
        self.registry.add_run(TrainingRun(run_id, "FINISHED", {"accuracy": accuracy}, datasets))
        self.registry.artifacts[run_id, RECORDING_PATH] = dump_recording(RECORDING)
        version = self.registry.add_version("iris", run_id, {"image_tag": f"v{number}"}, signature=SIGNATURE)
        if publish:
            self.images.publish(REPOSITORY, f"v{number}", {"MODEL_URI": f"models:/iris/{number}"})
        self.registry.set_alias(version, "challenger")
        return version

    def image(self, number: int) -> str:
        """The reference that a promotion of that version commits."""
        return f"{REPOSITORY}:v{number}@{self.images.tags[REPOSITORY, f'v{number}']}"

    def state(self, number: int) -> State | None:
        return self.registry.versions["iris", number].state(POLICY_NAME)

    def reason(self, number: int) -> str:
        return self.registry.versions["iris", number].tag(POLICY_NAME, "reason") or ""

    @property
    def champion(self) -> int | None:
        return self.registry.aliases.get(("iris", "champion"))

    @property
    def live_image(self) -> str:
        """The image that HEAD's manifest has."""
        current = read_image(self.git.read_file(self._head(), "apps/iris.yaml") or b"", self.policy(POLICY_NAME))
        assert isinstance(current, CurrentImage)
        return current.value

    def _head(self) -> str:
        """Return the branch's head; a fake tells it without a fetch, because tests count those of the pipeline."""
        return self.git.head if isinstance(self.git, FakeGitRepository) else self.git.fetch()

    @property
    def subjects(self) -> list[str]:
        """Subjects of the branch's commits, oldest first, without the first."""
        return [commit.subject for commit in self.git.log][::-1][1:]

    def reconcile(self) -> None:
        """Do what Argo CD and a Deployment do, all at once: HEAD's image is live."""
        image = self.live_image
        reference = image if "@" in image else f"{image}@{self.images.tags[REPOSITORY, image.rpartition(':')[2]]}"
        template = reference[-8:]
        pods: tuple[PodStatus, ...] = tuple(
            self._pod(f"iris-{template}-{number}", reference, template) for number in (1, 2)
        )
        ready = sum(pod.ready for pod in pods)
        workload = a_deployment(image, pods, namespace="ml-apps", name="iris")
        self.cluster.status = replace(workload, template_hash=template, ready=ready, available=ready)
        self.report(image, pods)

    def report(self, image: str, pods: tuple[PodStatus, ...], kind: str = "Deployment") -> None:
        """Let Argo CD and Prometheus say what they see when these pods serve that image."""
        source = ApplicationSource(self.git.address().url, self.git.address().branch, "apps")
        resources = ((kind, "ml-apps", "iris"),)
        application = an_application(self._head(), name="iris")
        self.argocd.status = replace(application, source=source, resources=resources)
        now = self.clock
        bad = image in self.bad_images
        self.metrics.script = {
            "max_over_time(count_over_time(up": {pod.name: 9.0 for pod in pods},
            "sum_over_time(up": {pod.name: 9.0 for pod in pods},
            "timestamp(up": lambda _: {pod.name: now.now() for pod in pods},
            'source=~"real"}[': 0.0,
            'source=~"replayed"}[': 100.0,
            "ratio_of": 0.8 if bad else 1.0,
        }
        if image in self.unmeasured_images:
            self.metrics.script = {}

    def _pod(self, name: str, image: str, template: str) -> PodStatus:
        if image not in self.crashing_images:
            return a_pod(name, image, template_hash=template)
        self.cluster.logs[name, "model-server", True] = "Traceback\nKeyError: 'model'\n"
        return a_pod(
            name,
            image,
            template_hash=template,
            ready=False,
            restarts=3,
            waiting_reason="CrashLoopBackOff",
            last_terminated_reason="Error",
            last_exit_code=1,
        )

    def scale(self, *ready: bool) -> None:
        """Have one pod per argument, as an autoscaler may; those that are not ready refuse to answer."""
        status = self.cluster.status
        assert status is not None
        (image,), template = set(status.images.values()), status.template_hash or ""
        reference = image if "@" in image else f"{image}@{self.images.tags[REPOSITORY, image.rpartition(':')[2]]}"
        names = {f"iris-{template}-{number}": is_ready for number, is_ready in enumerate(ready, start=1)}
        pods = tuple(a_pod(name, reference, template_hash=template, ready=is_ready) for name, is_ready in names.items())
        workload = a_deployment(image, pods, namespace="ml-apps", name="iris")
        self.cluster.status = replace(workload, template_hash=template, ready=sum(ready), available=sum(ready))
        self.cluster.respond = lambda pod, *asked: (
            _right(pod, *asked) if names.get(pod) else Answer(503, b"the model is being loaded", 0.01)
        )

    # The platform, as assets and sensor see it

    def clients(self, policy: Policy | None = None) -> Clients:
        return Clients(
            self.clock,
            self.registry,
            self.git,
            self.argocd,
            self.cluster,
            self.service,
            self.metrics,
            self.images,
            self.pull_requests(policy),
        )

    def pull_requests(self, policy: Policy | None) -> FakePullRequests | None:
        delivers = policy is not None and policy.delivery.pull_request is not None
        return self.requests if delivers else None

    def policy_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.policies))

    def policy(self, name: str) -> Policy:
        return parse_policy(name, self.policies[name])


class WorldPlatform:
    """Implements `Platform` on a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.policy_names, self.policy, self.clients = world.policy_names, world.policy, world.clients
        self.argocd_context = "gcp"

    def ignored_files(self) -> tuple[str, ...]:
        return self.world.ignored

    def clock(self) -> FakeClock:
        return self.world.clock

    def bell(self) -> AbstractContextManager[FakeBell]:
        return nullcontext(self.world.bell)

    def registry(self) -> FakeRegistry:
        return self.world.registry

    def git(self, policy: Policy | None = None) -> FakeGitRepository:
        return self.world.git

    def git_of(self, policy: str, own: GitTarget) -> FakeGitRepository:
        return self.world.own_git or self.world.git

    def images(self) -> FakeImages:
        return self.world.images

    def pull_requests(self, policy: Policy) -> FakePullRequests | None:
        return self.world.pull_requests(policy)

    def cluster(self, context: str) -> FakeCluster:
        return self.world.cluster

    def argocd(self) -> FakeArgoCD:
        return self.world.argocd

    def metrics(self) -> FakeMetrics:
        return self.world.metrics

    def service(self) -> FakeService:
        return self.world.service

    def contexts(self) -> dict[str, str]:
        return {"edge": "https://edge:6443", "gcp": "https://gcp"}


def make_pods_serve_another(world: World) -> None:
    """Let the pods' spec name version 9, as a webhook might make it; image and manifest do not say so."""
    status = world.cluster.status
    assert status is not None
    specs = (ContainerSpec("model-server", {"MODEL_URI": "models:/iris/9"}),)
    world.cluster.status = replace(status, pods=tuple(replace(pod, specs=specs) for pod in status.pods))


def materialize(
    world: World, number: int, instance: dg.DagsterInstance, selection: list[str] | None = None
) -> dg.ExecuteInProcessResult:
    """Materialize a version's partition in Dagster, as the job or a person does."""
    from orchestration.assets import registered_model, stage_assets
    from orchestration.partitions import model_versions

    key = f"{POLICY_NAME}@{number}"
    instance.add_dynamic_partitions(model_versions.name or "", [key])
    return dg.materialize(
        [registered_model, *stage_assets],
        selection=selection,
        partition_key=key,
        instance=instance,
        resources={"platform": WorldPlatform(world)},
        raise_on_error=False,
    )


def _right(target: str, path: str, body: bytes, headers: Headers) -> Answer:
    (number,) = json.loads(body)["features"]
    return Answer(200, json.dumps({"prediction": number}).encode(), 0.01)
