"""Examining everything that promotions will need: settings, logins, rights, versions and labels; nothing is changed."""

from collections.abc import Callable, Iterator

from orchestration.commands.clocks import clock_of
from orchestration.commands.doctor_policy import branch_of, policy_probes, push_to, reach_of, signing_for
from orchestration.commands.probes import Finding, Probe, failed, ok, unknown
from orchestration.promotion.mlflow_versions import HOW_TO_UPGRADE, OLDEST, is_too_old
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.ports import Metrics, QueryResult
from orchestration.promotion.problems import InvalidInputError, Problem, ProblemError


def probes(platform: PlatformInParts, name: str | None) -> list[Probe]:
    """List everything to ask for one policy, or for all of them, in the order in which a person reads it.

    Raises:
        InvalidInputError: there are policies, and none of that name.
    """
    names, policies = _policies(platform, name)
    git = any(_shares_repository(platform, one) for one in names) or not names
    return [
        *_settings(platform, policies, with_git=git),
        *_platform(platform, with_git=git),
        *(probe for one in names for probe in policy_probes(platform, one)),
    ]


def _policies(platform: PlatformInParts, name: str | None) -> tuple[tuple[str, ...], Finding]:
    """Return the policies to examine, and what was found where they should be: without any, the rest is asked."""
    try:
        names = platform.policy_names()
    except InvalidInputError as error:
        return (), failed(error.problem)
    subject, expected = f"policy {name}" if name is not None else "the policies folder", "a policy to examine"
    next_step = "Correct the name, or write one: incumbent init MODEL --application NAMESPACE/NAME."
    if not names:
        return (), failed(Problem(subject, expected, "no policies at all", next_step))
    if name is not None and name not in names:
        raise InvalidInputError(Problem(subject, expected, f"only {', '.join(names)}", next_step))
    return names if name is None else (name,), ok(f"policies {', '.join(names)}")


def _shares_repository(platform: PlatformInParts, name: str) -> bool:
    """Whether a policy uses the settings' GitOps repository; one that cannot be read may."""
    try:
        own = platform.policy(name).git
    except ProblemError:
        return True
    return own is None or own.url is None


def _settings(platform: PlatformInParts, policies: Finding, *, with_git: bool) -> Iterator[Probe]:
    """Whether each setting is there and has a form that can be used; nobody is asked yet."""

    def usable(make: Callable[[], object]) -> Callable[[], Finding]:
        def ask() -> Finding:
            make()
            return ok("usable")

        return ask

    yield Probe("settings", "INCUMBENT_POLICIES", lambda: policies)
    yield Probe("settings", "MLFLOW_TRACKING_URI", usable(platform.registry))
    if with_git:
        yield Probe("settings", "INCUMBENT_GIT_URL", usable(platform.git))
    yield Probe("settings", "INCUMBENT_KUBECONFIG", lambda: _contexts(platform))
    # One that is missing is told beside a missing kubeconfig; one that is there names a context of the kubeconfig.
    needs = ("settings: INCUMBENT_KUBECONFIG",) if platform.argocd_context else ()
    yield Probe("settings", "INCUMBENT_ARGOCD_CONTEXT", usable(platform.argocd), needs)
    yield Probe("settings", "PROMETHEUS_URL", usable(platform.metrics))
    yield Probe("settings", "INCUMBENT_OCI_MIRRORS", usable(platform.images))


def _contexts(platform: PlatformInParts) -> Finding:
    contexts = platform.contexts()
    return ok(f"contexts {', '.join(contexts) or 'none'}")


def _platform(platform: PlatformInParts, *, with_git: bool) -> Iterator[Probe]:
    def mlflow() -> Finding:
        platform.registry().ping()
        return ok("answers, and accepts the login if it asks for one")

    def argocd() -> Finding:
        platform.argocd().ready()
        return ok("the API server that holds the Applications is ready")

    def prometheus() -> Finding:
        platform.metrics().ready()
        return ok("ready")

    clock = platform.clock()
    yield Probe("MLflow", "answers", mlflow, needs=("settings: MLFLOW_TRACKING_URI",))
    yield Probe("MLflow", "version", lambda: _mlflow_version(platform), needs=("MLflow: answers",))
    registry_time = clock_of(clock, "MLflow", lambda: platform.registry().server_time())
    yield Probe("MLflow", "clock", registry_time, needs=("MLflow: answers",))
    if with_git:
        needs = ("settings: INCUMBENT_GIT_URL",)
        yield Probe("Git", "branch", lambda: branch_of(platform.git()), needs)
        yield Probe("Git", "push", lambda: push_to(platform.git()), needs=("Git: branch",))
        reach_needs = ("Git: branch", "settings: INCUMBENT_POLICIES")
        yield Probe("Git", "reach", lambda: reach_of(platform.git(), _manifests(platform)), reach_needs)
        yield Probe("Git", "signing", lambda: signing_for(platform.git()), needs)
    yield Probe("Argo CD", "answers", argocd, needs=("settings: INCUMBENT_ARGOCD_CONTEXT",))
    argocd_time = clock_of(clock, "Argo CD's API server", lambda: platform.argocd().server_time())
    yield Probe("Argo CD", "clock", argocd_time, needs=("Argo CD: answers",))
    yield Probe("Prometheus", "answers", prometheus, needs=("settings: PROMETHEUS_URL",))
    metrics_time = clock_of(clock, "Prometheus", lambda: _time_of(platform.metrics()), resolution=0.0)
    yield Probe("Prometheus", "clock", metrics_time, needs=("Prometheus: answers",))


def _manifests(platform: PlatformInParts) -> Iterator[str]:
    """List the paths of the manifests on the settings' branch; a policy that cannot be read has a line of its own."""
    for name in platform.policy_names():
        try:
            policy = platform.policy(name)
        except ProblemError:
            continue
        if policy.git is None:
            yield policy.manifest.path


def _mlflow_version(platform: PlatformInParts) -> Finding:
    version = platform.registry().server_version()
    if version is None:
        return unknown(
            f"the server has no page /version at MLFLOW_TRACKING_URI. It is MLflow 3, because it has logged models; "
            f"whether it is {OLDEST} or newer, as the pipeline needs, was not found out",
            "Look at the foot of its web page, or at its image. Before 3.12, --static-prefix moves the page: "
            "curl ADDRESS/PREFIX/version.",
        )
    if not is_too_old(version):
        return ok(f"{version}, which is {OLDEST} or newer")
    return failed(Problem("MLflow's server", f"version {OLDEST} or newer", f"version {version}", HOW_TO_UPGRADE))


def _time_of(metrics: Metrics) -> float | None:
    answer = metrics.query("time()")
    return answer.samples[0].at if isinstance(answer, QueryResult) and len(answer.samples) == 1 else None
