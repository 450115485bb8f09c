"""Examining everything that promotions will need: settings, logins, rights, versions and labels; nothing is changed."""

from collections.abc import Callable, Iterator, Sequence

from orchestration.commands.doctor_policy import policy_probes
from orchestration.commands.probes import Finding, Probe, failed, ok, unknown
from orchestration.promotion.platform import PlatformInParts
from orchestration.promotion.ports import QueryResult
from orchestration.promotion.problems import InvalidInputError, Problem

_OLDEST_MLFLOW = 3
"""The first major version with logged models, which the pipeline reads."""
_SKEW_SECONDS = 5.0
"""How far two clocks may differ: less than the scrape intervals and lease times that depend on them."""


def probes(platform: PlatformInParts, policies: Sequence[str]) -> list[Probe]:
    """List everything to ask for these policies, in the order in which a person reads it."""
    found = [*_settings(platform), *_platform(platform)]
    for name in policies:
        found += policy_probes(platform, name)
    return found


def _settings(platform: PlatformInParts) -> Iterator[Probe]:
    """Whether each setting is there and has a form that can be used; nobody is asked yet."""

    def usable(make: Callable[[], object]) -> Callable[[], Finding]:
        def ask() -> Finding:
            make()
            return ok("usable")

        return ask

    yield Probe("settings", "MLFLOW_TRACKING_URI", usable(platform.registry))
    yield Probe("settings", "INCUMBENT_GIT_URL", usable(platform.git))
    yield Probe("settings", "INCUMBENT_KUBECONFIG", lambda: _contexts(platform))
    yield Probe(
        "settings", "INCUMBENT_ARGOCD_CONTEXT", usable(platform.argocd), needs=("settings: INCUMBENT_KUBECONFIG",)
    )
    yield Probe("settings", "PROMETHEUS_URL", usable(platform.metrics))
    yield Probe("settings", "INCUMBENT_OCI_MIRRORS", usable(platform.images))


def _contexts(platform: PlatformInParts) -> Finding:
    contexts = platform.contexts()
    return ok(f"contexts {', '.join(contexts) or 'none'}")


def _platform(platform: PlatformInParts) -> Iterator[Probe]:
    def mlflow() -> Finding:
        platform.registry().ping()
        return ok("answers, and accepts the login if it asks for one")

    def git() -> Finding:
        repository = platform.git()
        head = repository.fetch()
        address = repository.address()
        return ok(f"branch {address.branch} of {address.url} is at {head[:12]}")

    def push() -> Finding:
        platform.git().check_push()
        return ok(
            "a dry run gets as far as the refs: the login may push, and atomically. Not proved: protected branches "
            "and tags, and hooks, which decide when a push arrives"
        )

    def argocd() -> Finding:
        platform.argocd().ready()
        return ok("the API server that holds the Applications is ready")

    def prometheus() -> Finding:
        platform.metrics().ready()
        return ok("ready")

    yield Probe("MLflow", "answers", mlflow, needs=("settings: MLFLOW_TRACKING_URI",))
    yield Probe("MLflow", "version", lambda: _mlflow_version(platform), needs=("MLflow: answers",))
    yield Probe("Git", "branch", git, needs=("settings: INCUMBENT_GIT_URL",))
    yield Probe("Git", "push", push, needs=("Git: branch",))
    yield Probe("Argo CD", "answers", argocd, needs=("settings: INCUMBENT_ARGOCD_CONTEXT",))
    yield Probe("Prometheus", "answers", prometheus, needs=("settings: PROMETHEUS_URL",))
    yield Probe("Prometheus", "clock", lambda: _clock(platform), needs=("Prometheus: answers",))


def _mlflow_version(platform: PlatformInParts) -> Finding:
    version = platform.registry().server_version()
    if version is None:
        return unknown("the server does not tell its version", "Look at the foot of its web page, or at its image.")
    major = version.partition(".")[0]
    if major.isdigit() and int(major) >= _OLDEST_MLFLOW:
        return ok(f"{version}, which is {_OLDEST_MLFLOW} or newer")
    return failed(
        Problem(
            "MLflow's server",
            f"version {_OLDEST_MLFLOW} or newer",
            f"version {version}",
            "Upgrade the server (and its database: mlflow db upgrade URL).",
        )
    )


def _clock(platform: PlatformInParts) -> Finding:
    """Compare this machine's clock with Prometheus's, by which the age of every scrape is judged."""
    clock, metrics = platform.clock(), platform.metrics()
    before = clock.now()
    answer = metrics.query("time()")
    after = clock.now()
    if not isinstance(answer, QueryResult) or len(answer.samples) != 1:
        return unknown("Prometheus does not tell its time")
    at = answer.samples[0].at
    skew = max(0.0, before - at, at - after)
    if skew <= _SKEW_SECONDS:
        return ok(f"agrees with this machine's to {max(skew, 0.1):.1f} s")
    return failed(
        Problem(
            "the clocks",
            f"this machine's and Prometheus's to agree to {_SKEW_SECONDS:g} s",
            f"a difference of {skew:.0f} s",
            "Synchronise both by NTP; on each machine: timedatectl set-ntp true.",
        )
    )


def policies_to_examine(platform: PlatformInParts, name: str | None) -> tuple[str, ...]:
    """Return the given policy, or all of them.

    Raises:
        InvalidInputError: the folder of policies cannot be read, or has none, or not this one.
    """
    names = platform.policy_names()
    if name is None and names:
        return names
    if name in names:
        return (name,)
    found = f"only {', '.join(names)}" if names else "no policies at all"
    next_step = "Correct the name, or write one: incumbent init MODEL --application NAMESPACE/NAME."
    raise InvalidInputError(Problem(f"policy {name or ''}".strip(), "a policy to examine", found, next_step))
