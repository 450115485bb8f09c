"""`incumbent doctor` on a platform of fakes: each fault is found, named and given its fix, and nothing is changed."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from orchestration.commands.doctor import probes
from orchestration.commands.probes import Finding, Outcome, Probe, examine, ok
from orchestration.environment import SETTINGS, EnvironmentPlatform
from orchestration.promotion.cluster_status import ApplicationSource
from orchestration.promotion.github import NotPermittedError, RefusedError
from orchestration.promotion.ports import Answer, QueryRejected, QueryResult, Sample
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from tests.fakes.clock import FakeClock
from tests.fakes.metrics import FakeMetrics
from tests.fakes.runs import Saboteur, promote
from tests.fakes.world import POLICY_NAME, POLICY_TEXT, World, WorldPlatform

DEPLOYMENTS_WITH_ANYTHING = {
    "Deployment": {
        "type": "object",
        "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}],
    }
}
DOWN = Problem("the fake", "an answer", "that it is down", "Start it again.")


@pytest.fixture
def healthy() -> World:
    """A world in which a version is champion, another one is challenger, and nothing is wrong."""
    world = World()
    world.register()
    assert promote(world, 1, "run")
    world.register()
    assert world.argocd.status is not None
    source = ApplicationSource("git@GIT.example:acme/gitops", "main", "apps")
    world.argocd.status = replace(world.argocd.status, source=source)
    pods = {pod.name: 1.0 for pod in world.cluster.status.pods} if world.cluster.status else {}
    world.metrics.script |= {"up{": pods, "time()": world.clock.now()}
    world.registry.time = world.argocd.time = world.cluster.time = float(int(world.clock.now()))
    return world


def look(world: World, platform: WorldPlatform | None = None) -> Mapping[str, Finding]:
    """What each probe found, by its name; those of the platform by area and name."""
    asked = probes(platform or WorldPlatform(world), POLICY_NAME)
    found = examine(asked, lambda done, of: None)
    return {probe.key.removeprefix(f"{POLICY_NAME}: "): finding for probe, finding in found}


def wrong(found: Mapping[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.outcome is Outcome.FAILED}


def test_nothing_is_wrong_and_nothing_is_changed(healthy: World) -> None:
    """Everything is green, except what a server does not tell, and no probe writes anything."""
    saboteur = Saboteur(healthy, 0, after=False)
    before = (dict(healthy.git.tags), dict(healthy.git.leases), healthy.git.head)
    found = look(healthy)
    others = {name: finding for name, finding in found.items() if finding.outcome is not Outcome.OK}
    assert list(others) == ["right to edit"]
    assert others["right to edit"].outcome is Outcome.UNKNOWN
    assert saboteur.count == 0
    assert before == (healthy.git.tags, healthy.git.leases, healthy.git.head)


def _stop(world: World) -> None:
    assert world.argocd.status is not None
    world.argocd.status = replace(world.argocd.status, auto_sync=False)


def _read_elsewhere(world: World, **changes: Any) -> None:
    status = world.argocd.status
    assert status is not None
    assert status.source is not None
    world.argocd.status = replace(status, source=replace(status.source, **changes), sync_revision="f" * 40)


def _rename(world: World) -> None:
    """What Kustomize's namePrefix does: the workload has another name than its file says."""
    assert world.argocd.status is not None
    world.argocd.status = replace(world.argocd.status, resources=(("Deployment", "ml-apps", "prod-iris"),))
    _change_workload(world, name="prod-iris")


def _unscrape(world: World) -> None:
    pods = list(world.metrics.script["up{"])  # type: ignore[arg-type]
    world.metrics.script["max_over_time(count_over_time(up"] = world.metrics.script["up{"] = {pods[0]: 9.0}


def _scrape_by_jobs(world: World, *jobs: float) -> None:
    """Have one series `up` of each pod for each of these values."""
    now, names = world.clock.now(), _pods(world)
    series = [({"pod": pod, "job": f"job-{number}"}, value) for pod in names for number, value in enumerate(jobs)]
    counts = tuple(Sample(labels, 9.0, now) for labels, value in series if value)
    world.metrics.script["max_over_time(count_over_time(up"] = QueryResult(counts)
    world.metrics.script["up{"] = QueryResult(tuple(Sample(labels, value, now) for labels, value in series))


def _change_workload(world: World, **changes: object) -> None:
    assert world.cluster.status is not None
    world.cluster.status = replace(world.cluster.status, **changes)  # type: ignore[arg-type]


def _describe_other_deployments(world: World) -> None:
    """Have the schema require what the manifest lacks, and Argo CD not know yet whether it applies."""
    assert world.argocd.status is not None
    world.argocd.status = replace(world.argocd.status, sync_status="OutOfSync")
    deployment = DEPLOYMENTS_WITH_ANYTHING["Deployment"]
    world.cluster.published = {"apps/v1": {"Deployment": {**deployment, "required": ["more"]}}}


def _scrape_rarely(world: World) -> None:
    pods = list(world.metrics.script["up{"])  # type: ignore[arg-type]
    world.metrics.script["max_over_time(count_over_time(up"] = dict.fromkeys(pods, 2.0)


def test_a_branch_that_holds_more_than_models_is_told(healthy: World) -> None:
    """Files from which something may be deployed are told with the way out; other files, and models, are not."""
    assert look(healthy)["Git: reach"].text == "branch main holds the policies' models alone"
    more = {"argocd-apps/root.yaml": b"", "argocd-apps/more.json": b"", "apps/service.yaml": b"", "docs/read.md": b""}
    healthy.git.commit("Keep everything here", more)
    found = look(healthy)["Git: reach"]
    assert (found.outcome, found.text.partition(";")[0]) == (
        Outcome.UNKNOWN,
        "branch main also has argocd-apps/more.json and 1 more",
    )
    assert "docs/blast-radius.md" in found.fix


FAULTS: Mapping[str, tuple[Callable[[World], object], set[str], str]] = {
    "an old MLflow": (lambda w: setattr(w.registry, "version_of_server", "2.22.0"), {"MLflow: version"}, "Upgrade"),
    "pushes forbidden": (lambda w: setattr(w.git, "push_forbidden", "a 403"), {"Git: push"}, "Allow it"),
    "no right to edit": (lambda w: setattr(w.registry, "editable", False), {"right to edit"}, "mlflow-accounts"),
    "artifacts elsewhere": (
        lambda w: w.registry.roots.update(run2="s3://bucket/2"),
        {"artifacts", "challenger"},
        "--serve-artifacts",
    ),
    "no recorded requests": (
        lambda w: w.registry.artifacts.pop(("run2", "incumbent/recorded_requests.json")),
        {"challenger"},
        "incumbent record iris 2 --url URL",
    ),
    "broken recorded requests": (
        lambda w: w.registry.artifacts.update({("run1", "incumbent/recorded_requests.json"): b"{}"}),
        {"champion"},
        "incumbent record iris 1 --url URL",
    ),
    "no manifest": (lambda w: w.git.commit("Move", {"apps/iris.yaml": b"kind: List\n"}), {"manifest"}, "correct"),
    "no image": (lambda w: w.images.images.clear(), {"image registry"}, "Push it again"),
    "no application": (lambda w: setattr(w.argocd, "status", None), {"application"}, "get applications"),
    "another repository": (
        lambda w: _read_elsewhere(w, repository="https://git.example/acme/other.git"),
        {"its source"},
        "INCUMBENT_GIT_URL",
    ),
    "another branch": (lambda w: _read_elsewhere(w, revision="prod"), {"its source"}, "INCUMBENT_GIT_BRANCH"),
    "another folder": (lambda w: _read_elsewhere(w, path="apps/other"), {"its source"}, "manifest.path"),
    "an image that Argo CD sets": (
        lambda w: _read_elsewhere(w, kustomize_images=("ghcr.io/acme/iris:v0",)),
        {"its source"},
        "Remove spec.source.kustomize.images[0]",
    ),
    "a workload by another name": (_rename, {"workload"}, "set manifest.name: prod-iris"),
    "no automated sync": (_stop, {"automated sync"}, "argocd app set iris --sync-policy automated"),
    "a right in Argo CD": (
        lambda w: setattr(w.argocd, "denied", {"patch applications.argoproj.io iris in namespace argocd"}),
        {"rights in Argo CD"},
        "control-plane",
    ),
    "a right in the cluster": (
        lambda w: setattr(w.cluster, "denied", {"create pods/proxy in namespace ml-apps"}),
        {"rights in cluster"},
        "manifests/platform/access/edge",
    ),
    "pods that only a person replaces": (
        lambda w: _change_workload(w, never_rolls_out="updateStrategy: OnDelete"),
        {"workload"},
        "Correct it in apps/iris.yaml",
    ),
    "no node ready": (
        lambda w: setattr(w.cluster, "node_list", (replace(w.cluster.node_list[0], ready=False),)),
        {"nodes"},
        "kubectl --context edge get nodes",
    ),
    "no workload": (lambda w: setattr(w.cluster, "status", None), {"workload"}, "get deployments,pods"),
    "another container": (lambda w: _change_workload(w, images={"server": "x"}), {"container"}, "manifest.container"),
    "a manifest that is not valid": (
        _describe_other_deployments,
        {"manifest applies"},
        "Correct apps/iris.yaml",
    ),
    "no port": (lambda w: _change_workload(w, ports={}), {"container"}, "service: {url: ..., port: NUMBER}"),
    "no service": (
        lambda w: setattr(w.service, "reached", Answer(0, b"connection refused", 0.0)),
        {"service"},
        "Correct service.url",
    ),
    "routes that lead nowhere": (
        lambda w: setattr(w.service, "reached", Answer(503, b"", 0.0)),
        {"service"},
        "endpoints",
    ),
    "a pod without scrapes": (_unscrape, {"scrapes"}, "docs/policies.md"),
    "rare scrapes": (_scrape_rarely, {"scrapes"}, "gate.soak to 90s"),
    "scrapes that fail": (
        lambda w: w.metrics.script.update(
            {"max_over_time(count_over_time(up": QueryResult(()), "up{": dict.fromkeys(_pods(w), 0.0)}
        ),
        {"scrapes"},
        "docs/policies.md",
    ),
    "two jobs without success": (lambda w: _scrape_by_jobs(w, 0.0, 0.0), {"scrapes"}, "gate.job"),
    "a query with a typing error": (
        lambda w: w.metrics.script.update({"ratio_of": QueryRejected("parse error")}),
        {"query success_ratio"},
        "Correct SLO success_ratio in iris-edge.yaml",
    ),
    "a query without data": (
        lambda w: w.metrics.script.update({"ratio_of": QueryResult(())}),
        {"query success_ratio"},
        "count by (__name__)",
    ),
    "clocks that differ": (
        lambda w: setattr(w.metrics, "clock", FakeClock(w.clock.now() + 60)),
        {"Prometheus: clock"},
        "timedatectl set-ntp true",
    ),
    "a registry whose clock is ahead": (
        lambda w: setattr(w.registry, "time", w.clock.now() + 6),
        {"MLflow: clock"},
        "timedatectl set-ntp true",
    ),
    "a cluster whose clock is behind": (
        lambda w: setattr(w.cluster, "time", w.clock.now() - 7),
        {"clock"},
        "timedatectl set-ntp true",
    ),
    "an Argo CD whose clock is behind": (
        lambda w: setattr(w.argocd, "time", w.clock.now() - 7),
        {"Argo CD: clock"},
        "timedatectl set-ntp true",
    ),
    "a broken policy": (
        lambda w: w.policies.update({POLICY_NAME: "model: [1"}),
        {"policy"},
        "Correct iris-edge.yaml",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_alone_and_has_a_fix(healthy: World, fault: str) -> None:
    """A fault makes exactly its own line red, with the fix; what needs it is not asked, all else stays green."""
    put_wrong, expected, fix = FAULTS[fault]
    put_wrong(healthy)
    found = look(healthy)
    assert wrong(found) == expected
    assert all(fix in found[name].fix for name in expected)
    for finding in found.values():
        if finding.outcome is Outcome.NOT_ASKED:
            needed = finding.text.removeprefix("needs ").removeprefix(f"{POLICY_NAME}: ")
            assert found[needed].outcome in (Outcome.FAILED, Outcome.NOT_ASKED)


def test_a_second_job_whose_scrapes_fail_is_nothing_wrong(healthy: World) -> None:
    """A port without metrics is scraped beside the right one; the gate leaves it out, too."""
    _scrape_by_jobs(healthy, 1.0, 0.0)
    assert wrong(look(healthy)) == set()


def _pods(world: World) -> list[str]:
    return [pod.name for pod in world.cluster.status.pods] if world.cluster.status else []


@pytest.mark.parametrize(
    ("take_down", "first"),
    [
        (lambda w: setattr(w.registry, "down", True), "MLflow: answers"),
        (lambda w: setattr(w.git, "down", "no route"), "Git: branch"),
        (lambda w: setattr(w.argocd, "down", DOWN), "Argo CD: answers"),
        (lambda w: setattr(w.cluster, "down", DOWN), "cluster"),
        (lambda w: setattr(w.metrics, "down", DOWN), "Prometheus: answers"),
        (lambda w: setattr(w.images, "down", True), "image registry"),
    ],
)
def test_a_silent_dependency_is_one_red_line(healthy: World, take_down: Callable[[World], object], first: str) -> None:
    """What needs a dependency that does not answer is not asked, and says what it needs; the rest is asked."""
    take_down(healthy)
    found = look(healthy)
    assert wrong(found) == {first}
    assert found[first].unanswered
    assert found[first].fix
    assert sum(finding.outcome is Outcome.OK for finding in found.values()) >= 14


def test_a_version_that_is_not_told_is_no_fault(healthy: World) -> None:
    """The line says what is known all the same, what is not, and where a person finds it."""
    healthy.registry.version_of_server = None
    found = look(healthy)
    line = found["MLflow: version"]
    assert (wrong(found), line.outcome) == (set(), Outcome.UNKNOWN)
    assert "It is MLflow 3" in line.text
    assert "whether it is 3.3 or newer" in line.text
    assert "--static-prefix" in line.fix


def test_a_missing_setting_leaves_the_others(healthy: World) -> None:
    """Without one setting, its line is red, and only what needs it is not asked."""

    class Unset(WorldPlatform):
        def metrics(self) -> FakeMetrics:
            raise InvalidInputError(Problem("setting PROMETHEUS_URL", "a value", "no value", "Set it."))

    found = look(healthy, Unset(healthy))
    assert wrong(found) == {"settings: PROMETHEUS_URL"}
    assert found["scrapes"].outcome is Outcome.NOT_ASKED
    assert found["workload"].outcome is Outcome.OK


def test_each_setting_that_is_missing_is_listed_with_its_fix() -> None:
    """Without any setting, a person learns of all of them at once, whatever needs which."""
    nothing = EnvironmentPlatform(**{**dict.fromkeys(SETTINGS, ""), "policies_folder": "no-such-folder"})
    found = {probe.name: finding for probe, finding in examine(probes(nothing, None), lambda done, of: None)}
    missing = {name for name, finding in found.items() if finding.outcome is Outcome.FAILED}
    needed = {"MLFLOW_TRACKING_URI", "INCUMBENT_GIT_URL", "INCUMBENT_KUBECONFIG", "PROMETHEUS_URL"}
    assert missing == needed | {"INCUMBENT_POLICIES", "INCUMBENT_ARGOCD_CONTEXT"}
    assert all(f"setting {name}: expected a value" in found[name].text for name in missing - {"INCUMBENT_POLICIES"})
    assert all(found[name].fix for name in missing)


def test_what_does_not_tell_its_time_is_not_known(healthy: World) -> None:
    """A proxy may leave the header out; a time that is rounded down to whole seconds is no difference."""
    healthy.registry.time = None
    assert look(healthy)["MLflow: clock"].outcome is Outcome.UNKNOWN
    healthy.registry.time = healthy.clock.now() - 5.9
    assert look(healthy)["MLflow: clock"].outcome is Outcome.OK


def test_the_same_repository_by_another_name_is_accepted(healthy: World) -> None:
    """Argo CD may know the repository by another address, if what it compared is a commit of our branch."""
    _read_elsewhere(healthy, repository="http://gitea.internal:3000/gitops")
    assert healthy.argocd.status is not None
    healthy.argocd.status = replace(healthy.argocd.status, sync_revision=healthy.git.head)
    finding = look(healthy)["its source"]
    assert finding.outcome is Outcome.OK
    assert "another address" in finding.text


def test_how_a_manifest_is_tried_is_told(healthy: World) -> None:
    """By a dry run where the account may patch, else by the schema, and not at all where there is none."""
    assert look(healthy)["manifest applies"].text == "a dry run of the API server of edge applies it"
    healthy.cluster.denied = {"patch deployments.apps in namespace ml-apps"}
    found = look(healthy)
    assert found["manifest applies"].outcome is Outcome.UNKNOWN
    assert "the API server publishes no schema of it" in found["manifest applies"].text
    assert found["rights in cluster"].outcome is Outcome.OK, "no promotion needs that right"
    healthy.cluster.published = {"apps/v1": DEPLOYMENTS_WITH_ANYTHING}
    assert look(healthy)["manifest applies"].text == (
        "valid by the schema of apps/v1; the account may not patch deployments.apps in namespace ml-apps"
    )


def test_a_dry_run_that_refuses_what_runs_is_told(healthy: World) -> None:
    """It says nothing about a version, so that the line is no fault, and has the API server's words."""
    healthy.cluster.deny("only Argo CD may change this")
    healthy.cluster.published = {"apps/v1": DEPLOYMENTS_WITH_ANYTHING}
    assert look(healthy)["manifest applies"].text == (
        "valid by the schema of apps/v1; a dry run refuses what Argo CD has applied: only Argo CD may change this"
    )


def test_what_an_api_server_does_not_tell_is_not_known(healthy: World) -> None:
    """Rights that cannot be asked for are neither green nor red."""
    healthy.cluster.denied = None
    assert look(healthy)["rights in cluster"].outcome is Outcome.UNKNOWN


def test_nan_is_what_no_traffic_gives(healthy: World) -> None:
    """A ratio of nothing proves that its series exist, so the query works."""
    healthy.metrics.script["ratio_of"] = float("nan")
    assert look(healthy)["query success_ratio"].outcome is Outcome.OK


def test_the_present_image_may_be_from_elsewhere(healthy: World) -> None:
    """When the branch has an image of another repository, the login to the policy's own is tried too."""
    healthy.images.publish("ghcr.io/acme/other", "v1")
    text = healthy.git.commits[healthy.git.head].files["apps/iris.yaml"].decode()
    line = next(line for line in text.splitlines() if "image:" in line)
    healthy.git.commit(
        "Replace", {"apps/iris.yaml": text.replace(line, "          image: ghcr.io/acme/other:v1").encode()}
    )
    assert "lets us in" in look(healthy)["image registry"].text


def test_a_probe_that_hangs_is_given_up(healthy: World) -> None:
    """A probe without an answer in its time is red, and the others are there all the same."""
    never = threading.Event()

    def hang() -> Finding:
        never.wait()
        return ok("too late")

    asked = [
        Probe("a", "hangs", hang),
        Probe("a", "answers", lambda: ok("yes")),
        Probe("a", "needs it", hang, ("a: hangs",)),
    ]
    found = {probe.name: finding for probe, finding in examine(asked, lambda done, of: None, seconds=0.05)}
    never.set()
    assert found["hangs"].outcome is Outcome.FAILED
    assert found["hangs"].unanswered
    assert found["answers"].outcome is Outcome.OK
    assert found["needs it"].outcome is Outcome.NOT_ASKED


def test_all_policies_or_one(healthy: World) -> None:
    """Without a name all policies are examined; an unknown name is refused with the known ones."""
    platform = WorldPlatform(healthy)
    healthy.policies["wine-edge"] = healthy.policies[POLICY_NAME]
    areas = {probe.area for probe in probes(platform, None)}
    assert {POLICY_NAME, "wine-edge"} <= areas
    assert areas - {probe.area for probe in probes(platform, POLICY_NAME)} == {"wine-edge"}
    with pytest.raises(InvalidInputError, match=POLICY_NAME):
        probes(platform, "nope")


@pytest.mark.parametrize("name", [None, POLICY_NAME])
@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_without_policies_everything_else_is_examined(healthy: World, folder: str, name: str | None) -> None:
    """The folder of policies is one red line with its next step, and what needs no policy is asked all the same."""

    def policy_names() -> tuple[str, ...]:
        if folder == "empty":
            return ()
        raise InvalidInputError(Problem("policies folder policies", "a folder", "no such folder", "Set it."))

    platform = WorldPlatform(healthy)
    platform.policy_names = policy_names
    found = {probe.key: finding for probe, finding in examine(probes(platform, name), lambda done, of: None)}
    (red,) = (finding for finding in found.values() if finding.outcome is Outcome.FAILED)
    assert found["settings: INCUMBENT_POLICIES"] is red
    assert red.fix == "Set it." if folder == "missing" else "incumbent init" in red.fix
    for asked in ("MLflow: version", "Git: push", "Argo CD: answers", "Prometheus: clock"):
        assert found[asked].outcome is Outcome.OK


def test_a_policys_own_repository_is_examined_in_place_of_the_settings(healthy: World) -> None:
    """Where all policies name their own, the settings need not name one."""
    healthy.policies[POLICY_NAME] += "git: {url: 'https://git.example/acme/gitops.git'}\n"
    found = look(healthy)
    assert found["branch"].outcome is found["push"].outcome is Outcome.OK
    assert not {"settings: INCUMBENT_GIT_URL", "Git: branch", "Git: push"} & found.keys()
    healthy.git.push_forbidden = "no atomic pushes"
    assert wrong(look(healthy)) == {"push"}


BY_REQUEST = POLICY_TEXT + "delivery: {pull_request: {host: github}}\n"


@pytest.mark.parametrize(
    ("kind", "unanswered"), [(NotPermittedError, True), (RefusedError, False), (DependencyError, True)]
)
def test_a_git_host_that_takes_no_requests_is_found(
    healthy: World, kind: type[DependencyError], unanswered: bool
) -> None:
    """Its API is asked for each policy that delivers by pull requests, and for no other."""
    assert "pull requests" not in look(healthy)
    healthy.policies[POLICY_NAME] = BY_REQUEST
    assert look(healthy)["pull requests"].outcome is Outcome.OK
    healthy.requests.forbidden = kind(DOWN)
    found = look(healthy)["pull requests"]
    assert (found.outcome, found.unanswered, found.fix) == (Outcome.FAILED, unanswered, DOWN.next_step)


@pytest.mark.parametrize(
    ("own", "name"), [("", "Git: signing"), ("git: {url: 'https://git.example/o/r.git'}\n", "signing")]
)
def test_the_signing_key_is_tried(healthy: World, own: str, name: str) -> None:
    """Green without a key and with one that signs; one that cannot is a red line by itself, before the first commit."""
    healthy.policies[POLICY_NAME] += own
    assert "not signed" in look(healthy)[name].text
    healthy.git.signing = True
    assert "the key signs" in look(healthy)[name].text
    healthy.git.signing = DependencyError(DOWN)
    found = look(healthy)
    assert wrong(found) == {name}
    assert found[name].fix == DOWN.next_step
