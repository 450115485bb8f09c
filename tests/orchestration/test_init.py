"""`incumbent init` on a platform of fakes: what a draft takes from what runs, and what it leaves open."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.commands.drafting import IN_CLUSTER, draft_policy
from orchestration.promotion.cluster_status import (
    ApplicationSource,
    ClusterService,
    ContainerSpec,
    Node,
    ServicePort,
)
from orchestration.promotion.model_version import TrainingRun
from orchestration.promotion.policy import GitTarget, Policy, parse_policy
from orchestration.promotion.policy_draft import PolicyDraft, propose_quality, request_counters, scalar
from orchestration.promotion.ports import Answer, QueryResult, Sample
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from tests.fakes.git import FakeGitRepository
from tests.fakes.world import World, WorldPlatform

SERVICE = b"kind: Service\nspec:\n  type: NodePort\n  ports:\n    - port: 80\n      nodePort: 30808\n"
COUNTER = "model_predictions_total"
BUCKETS = "model_inference_duration_seconds_bucket"


def series(name: str, **labels: str) -> Sample:
    return Sample({"__name__": name, "namespace": "ml-apps", "pod": "iris-1", **labels}, 1.0, 0.0)


def script(*names: str, counted: tuple[Sample, ...] = (), p95: float | None = None) -> dict[str, QueryResult]:
    """What Prometheus answers about pods that have metrics of these names."""
    buckets = tuple(series(BUCKETS, le=le, source="real") for le in ("0.1", "0.25", "1", "+Inf"))
    measured = () if p95 is None else (Sample({}, p95, 0.0),)
    return {
        "count by (__name__)": QueryResult(tuple(Sample({"__name__": name}, 1.0, 0.0) for name in names)),
        "histogram_quantile": QueryResult(measured),
        BUCKETS: QueryResult(buckets),
        COUNTER: QueryResult(counted),
    }


OUTCOMES = tuple(
    series(COUNTER, source=source, outcome=outcome)
    for source in ("real", "replayed")
    for outcome in ("ok", "error", "invalid")
)


def leads(*addresses: str, port: int = 80, node_port: int | None = None, app: str = "iris") -> ClusterService:
    """A Service that selects an application's pods."""
    return ClusterService(app, {"app": app}, (ServicePort(port, "http", node_port),), addresses)


@pytest.fixture
def running() -> World:
    """A model that was deployed by hand: an application, its workload and metrics, and a version in the registry."""
    world = World()
    world.register()
    world.git.commit("Add the service", {"apps/service.yaml": SERVICE})
    assert world.argocd.status is not None
    world.argocd.status = replace(
        world.argocd.status,
        source=ApplicationSource("https://git.example/acme/gitops.git", "main", "apps"),
        destination="edge",
        resources=(("Service", "ml-apps", "iris"), ("Deployment", "ml-apps", "iris")),
    )
    world.cluster.node_list = (Node("edge-0", "amd64", True, "10.0.0.7"),)
    assert world.cluster.status is not None
    world.cluster.status = replace(world.cluster.status, pod_labels={"app": "iris"})
    world.cluster.service_list = (leads(node_port=30808),)
    world.service.pages = {"http://10.0.0.7:30808/version"}
    world.metrics.script = dict(script(COUNTER, BUCKETS, "process_cpu_seconds_total", counted=OUTCOMES, p95=0.09))
    return world


def draft(world: World, name: str = "iris-edge", model: str = "iris", own: GitTarget | None = None) -> PolicyDraft:
    return draft_policy(WorldPlatform(world), model, "argocd", "iris", name, own)


def test_all_that_runs_is_found(running: World) -> None:
    """With everything in its place nothing is left open, and the draft is a policy about what runs."""
    found = draft(running)
    assert found.open == {}
    policy = parse_policy("iris-edge", found.text)
    assert policy.images.repository == "ghcr.io/acme/iris"
    assert policy.manifest.model_dump() == {
        "path": "apps/iris.yaml",
        "kind": "Deployment",
        "namespace": "ml-apps",
        "name": "iris",
        "container": "model-server",
        "yaml_path": None,
        "variable": None,
        "argument": None,
        "storage_uri": False,
    }
    assert (policy.cluster, policy.service.url) == ("edge", "http://10.0.0.7:30808")
    assert 'service: {url: "http://10.0.0.7:30808", protocol: mlflow}\n' in found.text
    assert [(bound.metric, bound.at_least) for bound in policy.quality] == [("accuracy", 0.9)]
    assert [slo.name for slo in policy.gate.slos] == ["restarts", "success_ratio", "p95_latency_seconds"]
    assert 'outcome=~"ok|error"' in policy.gate.requests
    assert policy.gate.slos[2].at_most == 0.25, "the boundary of a bucket above twice what was measured"


def test_a_policy_with_a_repository_of_its_own_is_drafted_from_there(running: World) -> None:
    """Its file and its node port are looked for in that repository, which the policy then names."""
    elsewhere = {"apps/iris.yaml": b"hello: there\n"}
    running.own_git, running.git = running.git, FakeGitRepository(running.clock, elsewhere)
    own = GitTarget(url="https://git.example/acme/gitops.git", branch="production", token_file="/run/secrets/git")
    found = draft(running, own=own)
    assert found.open == {}
    policy = parse_policy("iris-edge", found.text)
    assert policy.git == own
    assert (policy.manifest.path, policy.service.url) == ("apps/iris.yaml", "http://10.0.0.7:30808")
    branch_alone = draft(running, own=GitTarget(branch="production"))
    assert "git: {branch: production}\n" in branch_alone.text
    assert "manifest.path" in draft(running).open, "the settings' repository has no such file"


def test_a_workload_of_another_kind_is_found(running: World) -> None:
    """Of several workloads it is the one with the application's name, whatever its kind; the file has the same kind."""
    manifest = running.git.commits[running.git.head].files["apps/iris.yaml"]
    running.git.commit("Keep state", {"apps/iris.yaml": manifest.replace(b"Deployment", b"StatefulSet")})
    resources = (("Deployment", "ml-apps", "cache"), ("StatefulSet", "ml-apps", "iris"))
    _change_application(running, resources=resources)
    assert running.cluster.status is not None
    running.cluster.status = replace(running.cluster.status, kind="StatefulSet")
    found = draft(running)
    assert found.open == {}
    policy = parse_policy("iris-edge", found.text)
    assert (policy.manifest.kind, policy.manifest.path) == ("StatefulSet", "apps/iris.yaml")


@pytest.mark.parametrize(
    ("field", "lines", "spec"),
    [
        (
            "variable: MODEL_URI",
            "env: [{name: MODEL_URI, value: 'models:/iris/3'}]",
            ContainerSpec("model-server", {"MODEL_URI": "models:/iris/3", "OTHER": "models:/wine/1"}),
        ),
        (
            'argument: "--model"',
            "args: [serve, --model, 'models:/iris/3']",
            ContainerSpec("model-server", arguments=("serve", "--model", "models:/iris/3")),
        ),
        (
            'argument: "--uri"',
            "args: [--uri=models:/iris/3]",
            ContainerSpec("model-server", arguments=("--uri=models:/iris/3",)),
        ),
    ],
)
def test_where_a_workload_has_the_address_of_the_model_that_is_deployed(
    running: World, field: str, lines: str, spec: ContainerSpec
) -> None:
    """A container that names a version of the model is drafted as one that serves all versions, in each place."""
    manifest = running.git.commits[running.git.head].files["apps/iris.yaml"].decode()
    running.git.commit("Name the version", {"apps/iris.yaml": f"{manifest}          {lines}\n".encode()})
    assert running.cluster.status is not None
    running.cluster.status = replace(running.cluster.status, specs=(spec,))
    found = draft(running)
    assert found.open == {}
    policy = parse_policy("iris-edge", found.text)
    assert (policy.deploys, policy.image, policy.manifest.path) == ("model_uri", None, "apps/iris.yaml")
    assert f"container: model-server, {field}}}" in found.text


def _split(world: World) -> None:
    manifest = world.git.commits[world.git.head].files["apps/iris.yaml"]
    world.git.commit("Copy", {"apps/copy.yaml": manifest})


def _change_application(world: World, **changes: object) -> None:
    assert world.argocd.status is not None
    world.argocd.status = replace(world.argocd.status, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remove", "left"),
    [
        (lambda w: _change_application(w, destination="https://10.0.0.1:6443"), "cluster"),
        (lambda w: _change_application(w, resources=()), "manifest.name"),
        (lambda w: _change_application(w, source=None), "manifest.path"),
        (_split, "manifest.path"),
        (lambda w: setattr(w.git, "down", "no route"), "manifest.path"),
        (lambda w: setattr(w.cluster, "node_list", ()), "service"),
        (lambda w: setattr(w.service, "reached", replace(w.service.reached, status=0)), "service"),
        (lambda w: w.service.pages.clear(), "service"),
        (lambda w: setattr(w.cluster, "status", None), "manifest.container"),
        (lambda w: setattr(w.registry, "down", True), "quality"),
        (lambda w: w.registry.versions.clear(), "quality"),
        (lambda w: w.registry.add_run(TrainingRun("run1", "FINISHED", {"rows": 5.0})), "quality"),
        (lambda w: setattr(w.metrics, "down", Problem("Prometheus", "it", "none", "Start it.")), "gate.requests"),
        (lambda w: w.metrics.script.update(script("up")), "gate.requests"),
        (lambda w: w.metrics.script.update(script(COUNTER, counted=(series(COUNTER, source="real"),))), "gate.slos"),
    ],
)
def test_what_cannot_be_found_is_left_open(running: World, remove: Callable[[World], object], left: str) -> None:
    """The file says what must be filled in and where; nothing is made up in its place."""
    remove(running)
    found = draft(running)
    assert left in found.open
    assert f"# TODO: {left}: {found.open[left]}" in found.text
    if left != "gate.slos":  # there is an SLO without it
        with pytest.raises(InvalidInputError):
            parse_policy("iris-edge", found.text)


@pytest.mark.parametrize(
    ("page", "protocol"), [("/version", "mlflow"), ("/v1/models/iris", "v1"), ("/v2/health/live", "v2")]
)
def test_a_server_shows_its_protocol(running: World, page: str, protocol: str) -> None:
    """Each kind of server has a page that no other has."""
    running.service.pages = {f"http://10.0.0.7:30808{page}"}
    assert parse_policy("iris-edge", draft(running).text).service.protocol == protocol


@pytest.mark.parametrize(
    ("services", "urls", "address"),
    [
        ((leads(),), ("https://iris.example.org/",), "https://iris.example.org"),
        ((leads(),), ("https://example.org/iris(/|$)(.*)",), "https://example.org/iris"),
        ((leads("203.0.113.5"),), (), "http://203.0.113.5"),
        ((leads("lb.example.org", port=443),), (), "https://lb.example.org"),
        ((leads("2001:db8::5", port=8080),), (), "http://[2001:db8::5]:8080"),
        ((leads(node_port=30900),), (), "http://10.0.0.7:30900"),
        ((leads(),), (), "http://iris.ml-apps.svc"),
        ((leads(port=8080), leads("203.0.113.9", app="other")), (), "http://iris.ml-apps.svc:8080"),
        (None, (), "http://10.0.0.7:30808"),
    ],
)
def test_each_way_to_a_model_is_found(
    running: World, services: tuple[ClusterService, ...] | None, urls: tuple[str, ...], address: str
) -> None:
    """Ingress, load balancer, node port, and a Service inside the cluster; without the right, as the files have it."""
    running.cluster.service_list = services
    _change_application(running, external_urls=urls)
    running.service.reached = Answer(0, b"connection refused", 0.0)
    running.service.pages = {address, f"{address}/version"}
    found = draft(running)
    assert found.open == {}
    assert parse_policy("iris-edge", found.text).service.url == address


def test_what_clients_outside_the_cluster_use_comes_first(running: World) -> None:
    """Of several addresses that answer; one that shows no protocol is passed over."""
    running.cluster.service_list = (leads("203.0.113.5", node_port=30808),)
    _change_application(running, external_urls=("https://grafana.example.org/d/iris",))
    running.service.pages |= {"http://203.0.113.5/version"}
    assert draft(running).service == "http://203.0.113.5"
    running.service.pages.clear()
    left = draft(running).open["service"]
    assert left.startswith("{url: https://grafana.example.org/d/iris, protocol: ...}, one of ")
    assert "http://203.0.113.5 (Service iris)" in left


def _forbid_nodes(world: World) -> None:
    def nodes() -> tuple[Node, ...]:
        raise DependencyError(Problem("Kubernetes API of context edge", "nodes", "HTTP 403", "Grant it."))

    world.cluster.nodes = nodes  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda w: setattr(w.cluster, "service_list", (leads(node_port=30808),)),
            "http://10.0.0.7:30808 (a node port of Service iris) does not answer from here; "
            "http://iris.ml-apps.svc (Service iris, for clients inside the cluster) does not answer from here",
        ),
        (
            lambda w: setattr(w.cluster, "service_list", None),
            "the Services of ml-apps are not known: the account: no right to list them",
        ),
        (lambda w: setattr(w.cluster, "service_list", (leads(app="other"),)), "no Service selects its pods"),
        (lambda w: setattr(w.cluster, "status", None), "the workload is not known, and so neither are its Services"),
        (
            lambda w: setattr(w.cluster, "node_list", (Node("edge-0", "amd64", True),)),
            "no node that is ready has an address",
        ),
        (_forbid_nodes, "the nodes are not known: Kubernetes API of context edge: HTTP 403"),
        (
            lambda w: _change_application(
                w, resources=(("Deployment", "ml-apps", "iris"), ("HTTPRoute", "ml-apps", "iris"))
            ),
            "the address of HTTPRoute ml-apps/iris is not known",
        ),
        (
            lambda w: setattr(w.cluster, "service_list", (leads(*(f"203.0.113.{number}" for number in range(9))),)),
            "http://203.0.113.8 (Service iris) was not asked",
        ),
    ],
)
def test_what_is_not_known_of_the_ways_to_a_model_is_said(
    running: World, change: Callable[[World], object], said: str
) -> None:
    """Each address that does not answer is named, and each place where another one may be."""
    change(running)
    running.service.reached = Answer(0, b"connection refused", 0.0)
    running.service.pages.clear()
    left = draft(running).open["service"]
    assert left.startswith("where clients reach the model")
    assert said in left


def test_filling_in_what_is_open_gives_a_policy(running: World) -> None:
    """A person replaces the TODO, and nothing else."""
    running.cluster.node_list = ()
    lines = draft(running).text.splitlines()
    filled = [
        "service: {url: http://edge:30808, protocol: mlflow}" if "TODO: service" in line else line for line in lines
    ]
    assert isinstance(parse_policy("iris-edge", "\n".join(filled)), Policy)


def test_argo_cds_own_cluster_and_one_by_its_address(running: World) -> None:
    """`kubernetes.default.svc` is the cluster of Argo CD's own context, and an address that of the kubeconfig."""
    _change_application(running, destination=IN_CLUSTER)
    assert draft(running).cluster == "gcp"
    _change_application(running, destination="https://edge:6443")
    assert draft(running).cluster == "edge"


def test_a_kustomization_is_edited_by_its_path(running: World) -> None:
    """Where Kustomize sets the image, a promotion must edit the kustomization, not the base."""
    text = "images:\n  - name: ghcr.io/acme/iris\n    newTag: before\n"
    running.git.commit("Use Kustomize", {"apps/kustomization.yaml": text.encode()})
    found = draft(running)
    assert (found.path, found.yaml_path) == ("apps/kustomization.yaml", "images[name=ghcr.io/acme/iris].newTag")
    assert parse_policy("iris-edge", found.text).manifest.yaml_path == found.yaml_path


OURS = "https://git.example/acme/gitops.git"
CHART = ApplicationSource("https://charts.example", "1.2.3", "", chart="model")


def _read_values(world: World, text: str, path: str = "models/iris.yaml") -> None:
    """The application is a chart from elsewhere with a value file from our repository."""
    world.git.commit("Use a chart", {path: text.encode()})
    values = ApplicationSource(OURS, "main", "", ref="values")
    chart = replace(CHART, value_files=(f"$values/{path}",))
    _change_application(world, source=None, sources=(chart, values))


@pytest.mark.parametrize(
    ("text", "yaml_path"),
    [
        ("image: {repository: ghcr.io/acme/iris, tag: before}\nother: {tag: before2}\n", "image.tag"),
        ("image: {registry: ghcr.io, repository: acme/iris, tag: before, digest: ''}\n", "image.tag"),
        ("imageTag: before\n", "imageTag"),
        ("servers:\n  - name: iris\n    image: ghcr.io/acme/iris:before\n", "servers[name=iris].image"),
    ],
)
def test_a_chart_with_values_from_our_repository_is_edited_there(running: World, text: str, yaml_path: str) -> None:
    """Of several sources, ours counts; the field in its value file is the one that has the image that is live."""
    _read_values(running, text)
    found = draft(running)
    assert "manifest.path" not in found.open
    assert (found.path, found.yaml_path) == ("models/iris.yaml", yaml_path)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("image: {repository: ghcr.io/acme/iris, tag: other}\n", "no single one under ."),
        ("a: {tag: before}\nb: {tag: before}\n", "models/iris.yaml a.tag, models/iris.yaml b.tag"),
        ("image: [broken", "no single one"),
    ],
)
def test_values_that_do_not_tell_are_left_open(running: World, text: str, left: str) -> None:
    """A value file without the image that is live, or with it twice, is a person's to decide."""
    _read_values(running, text)
    assert left in draft(running).open["manifest.path"]


def test_of_several_sources_the_one_in_our_repository_has_the_manifest(running: World) -> None:
    """Plain manifests in one source beside another one's chart are found, and sources elsewhere are said to be."""
    _change_application(running, source=None, sources=(CHART, ApplicationSource(OURS, "main", "apps")))
    found = draft(running)
    assert (found.path, found.service) == ("apps/iris.yaml", "http://10.0.0.7:30808")
    _change_application(running, sources=(CHART, CHART))
    assert f"none of its 2 sources is {OURS}" in draft(running).open["manifest.path"]


def test_http_codes_tell_failures(running: World) -> None:
    """A counter by HTTP status gives a success ratio of answers other than 5xx."""
    counted = tuple(series(COUNTER, source="real", code=code) for code in ("200", "500"))
    running.metrics.script = dict(script(COUNTER, counted=counted))
    found = draft(running)
    assert 'code!~"5.*"' in found.text
    assert parse_policy("iris-edge", found.text).gate.slos[1].name == "success_ratio"


def test_a_counter_that_does_not_tell_recorded_requests_is_counted_from_the_start_of_its_series(running: World) -> None:
    """No server but our own has the label `source`; their counters begin with the first event."""
    running.metrics.script = dict(script(COUNTER, counted=tuple(series(COUNTER, code=code) for code in ("200", "500"))))
    found = draft(running)
    assert found.open == {}
    gate = parse_policy("iris-edge", found.text).gate
    assert not gate.tells_replayed
    for query in (gate.requests, gate.slos[1].query or ""):
        assert query.count("last_over_time(") == query.count("increase(") > 0


def test_an_unknown_application_is_refused(running: World) -> None:
    """There is nothing to draft from; the error says how to list what there is."""
    running.argocd.status = None
    with pytest.raises(InvalidInputError, match="get applications"):
        draft(running)


def test_bounds_follow_the_metrics_names() -> None:
    """Losses are bounded from above and scores from below; training metrics and unknown names are not bounded."""
    metrics = {"accuracy": 0.957, "log_loss": 0.231, "training_accuracy": 1.0, "rows": 54.0, "f1": float("nan")}
    assert [line.partition(" #")[0] for line in propose_quality(metrics)] == [
        "  - {metric: accuracy, at_least: 0.95, no_worse_than_champion_by: 0.0}",
        "  - {metric: log_loss, at_most: 0.24, no_worse_than_champion_by: 0.0}",
    ]


def test_counters_of_the_runtime_are_not_requests() -> None:
    """The likeliest counter comes first, and what every Python process counts is left out."""
    names = ["process_requests_total", "http_requests_total", "model_predictions_total", "requests", "gc_total"]
    assert request_counters(names) == ["model_predictions_total", "http_requests_total"]


@pytest.mark.parametrize("text", ["yes", "7", "a: b", "it's", 'say "x"', "# no", "naïve", "null", "1e3", "plain-name"])
def test_names_are_read_back_as_they_are(text: str) -> None:
    """Whatever a model or metric is called, YAML reads the same text from the draft."""
    from ruamel.yaml import YAML

    assert YAML(typ="safe", pure=True).load(f"{{name: {scalar(text)}}}") == {"name": text}
