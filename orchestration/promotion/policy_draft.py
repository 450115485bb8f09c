"""The text of a new policy, from what could be found out; what could not is a comment `# TODO:`."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.promotion.deployed import IMAGE, Slot
from orchestration.promotion.metrics_presets import PODS, gained
from orchestration.promotion.policy import GitTarget
from orchestration.promotion.ports import Sample

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_NOT_TEXT = frozenset(("true", "false", "null", "yes", "no", "on", "off", "y", "n"))
_HIGHER = re.compile(r"accuracy|f1|auc|precision|recall|r2|score", re.IGNORECASE)
_LOWER = re.compile(r"loss|error|mae|mse|mape|brier", re.IGNORECASE)
_OF_TRAINING = re.compile(r"^(training_|train_|system/)")
_REQUESTS = re.compile(r"predict|request|infer", re.IGNORECASE)
_DURATIONS = re.compile(r"duration|latency|seconds", re.IGNORECASE)
_OF_THE_RUNTIME = re.compile(r"^(process_|python_|go_|jvm_|promhttp_|scrape_)")
_GOOD_OUTCOMES = ("ok", "success", "succeeded")
_BAD_OUTCOMES = ("error", "failure", "failed", "exception")
_STATUS_LABELS = ("code", "status", "status_code", "http_status")
_ACCEPTABLE_SECONDS = 0.5
"""A first guess at what 95 % of answers may take, where none were measured."""


@dataclass
class PolicyDraft:
    """What was found out for a policy; an empty text is still to be filled in, and `open` says how."""

    name: str
    model: str
    application: str
    application_namespace: str
    git: GitTarget | None = None
    """The policy's own GitOps repository; None for the settings'."""
    repository: str = ""
    slot: Slot = IMAGE
    """What promotions would edit: the image, or one of the places of an address."""
    path: str = ""
    yaml_path: str = ""
    kind: str = "Deployment"
    namespace: str = ""
    workload: str = ""
    container: str = ""
    cluster: str = ""
    service: str = ""
    """Where clients reach the model."""
    protocol: str = ""
    quality: list[str] = field(default_factory=list)
    requests: str = ""
    slos: list[str] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)
    """What could not be found out, by the policy's field."""

    def leave_open(self, name: str, why: str) -> None:
        """Say that a field is for a person to fill in, and what belongs there."""
        self.open[name] = why

    @property
    def text(self) -> str:
        """The policy's file."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# What a version of {' '.join(self.model.split())} must prove before it becomes the champion here."
        yield "# Drafted by `incumbent init` from what runs now: every bound is a proposal, to be checked by a person."
        if self.open:
            yield "# It cannot be used before each TODO is filled in; then ask `incumbent doctor " + self.name + "`."
        yield f"model: {scalar(self.model)}"
        if self.slot.holds_address:
            yield f"deploys: model_uri # {self.slot} has the address of the model, so one image serves all versions"
        else:
            image = f"image: {{repository: {scalar(self.repository)}}}"
            yield from self._field("image.repository", image, self.repository)
        if self.git is not None:
            stated = self.git.model_dump(exclude_none=True)
            yield "git: {" + ", ".join(f"{name}: {scalar(value)}" for name, value in stated.items()) + "}"
        yield from self._manifest()
        yield f"argocd: {{application: {self.application}, namespace: {self.application_namespace}}}"
        yield from self._field("cluster", f"cluster: {scalar(self.cluster)}", self.cluster)
        protocol = f", protocol: {self.protocol}" if self.protocol else ""
        yield from self._field("service", f"service: {{url: {scalar(self.service)}{protocol}}}", self.service)
        if self.quality:
            yield "quality:"
            yield from self.quality
        yield from self._todo("quality")
        yield "gate:"
        if self.requests:
            yield "  # Counts the requests that the new pods answered."
            yield "  requests: |-"
            yield f"    {self.requests}"
        yield from self._todo("gate.requests", "  ")
        yield "  slos:"
        yield from self.slos
        yield from self._todo("gate.slos", "    ")

    def _manifest(self) -> Iterator[str]:
        parts = {
            "path": self.path,
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.workload,
            "container": self.container,
        } | ({"yaml_path": self.yaml_path} if self.yaml_path else {})
        known = [f"{name}: {scalar(value)}" for name, value in parts.items() if value]
        known += ["storage_uri: true"] if self.slot.kind == "storageUri" else []
        known += [f"{self.slot.kind}: {scalar(self.slot.name)}"] if self.slot.name else []
        yield "manifest: {" + ", ".join(known) + "}"
        for name in parts:
            yield from self._todo(f"manifest.{name}")

    def _field(self, name: str, line: str, value: str) -> Iterator[str]:
        if value:
            yield line
        yield from self._todo(name)

    def _todo(self, name: str, indent: str = "") -> Iterator[str]:
        if name in self.open:
            yield f"{indent}# TODO: {name}: {self.open[name]}"


def scalar(text: str) -> str:
    """Write a text as a YAML scalar, in quotes unless it can only be read as this text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())  # YAML knows no pairs of surrogates


def propose_quality(metrics: Mapping[str, float]) -> list[str]:
    """Propose a bound for each metric whose name says which direction is better: what the newest version reached."""
    lines = []
    for name in sorted(metrics):
        value = metrics[name]
        if _OF_TRAINING.search(name) or not math.isfinite(value):
            continue
        if _LOWER.search(name):
            bound = f"at_most: {math.ceil(value * 100) / 100:g}"
        elif _HIGHER.search(name):
            bound = f"at_least: {math.floor(value * 100) / 100:g}"
        else:
            continue
        lines.append(f"  - {{metric: {scalar(name)}, {bound}, no_worse_than_champion_by: 0.0}} # now {value:.4g}")
    return lines


def request_counters(names: Iterable[str]) -> list[str]:
    """Choose the names that look like counters of requests, the likeliest first."""
    counters = [name for name in names if name.endswith("_total") and not _OF_THE_RUNTIME.search(name)]
    return sorted((name for name in counters if _REQUESTS.search(name)), key=lambda name: ("predict" not in name, name))


def latency_histograms(names: Iterable[str]) -> list[str]:
    """Choose the names that look like histograms of how long answers take, the likeliest first."""
    buckets = [name for name in names if name.endswith("_bucket") and not _OF_THE_RUNTIME.search(name)]
    durations = (name for name in buckets if _DURATIONS.search(name))
    return sorted(durations, key=lambda name: (not _REQUESTS.search(name), name))


@dataclass(frozen=True)
class Traffic:
    """How a counter of requests tells recorded requests from others, and answers that are well from those that fail."""

    counter: str
    labels: tuple[str, ...]
    good: str
    """The selector of answers that are well, such as `outcome="ok"`; empty when no label tells."""
    judged: str
    """The selector of answers that are the model's own: not those to wrong requests; empty for all."""

    @property
    def tells_replayed(self) -> bool:
        """Whether it has the label that tells recorded requests from others."""
        return "source" in self.labels

    def requests(self) -> str:
        """The query that counts requests."""
        return self._gained(self.judged)

    def success_ratio(self) -> list[str]:
        """The lines of an SLO for the share of answers that are well."""
        return [
            "    - name: success_ratio",
            "      query: |-",
            f"        ({self._gained(self.good)} or vector(0))",
            "        /",
            f"        {self.requests()}",
            "      at_least: 0.99",
            "      min_requests: 20",
        ]

    def _gained(self, selector: str) -> str:
        """Count with `increase()` alone where each series exists from the start, as those with a `source` must."""
        if not self.tells_replayed:
            return gained(self.counter, selector)
        series = f"{self.counter}{{{','.join(filter(None, (PODS, _source(self.labels), selector)))}}}"
        return f"sum(increase({series}[$window]))"


def read_traffic(counter: str, series: Sequence[Sample]) -> Traffic:
    """Find out from a counter's series which labels tell what."""
    values: dict[str, set[str]] = {}
    for sample in series:
        for label, value in sample.labels.items():
            values.setdefault(label, set()).add(value)
    labels = tuple(sorted(values))
    for label, found in sorted(values.items()):
        good = next((outcome for outcome in _GOOD_OUTCOMES if outcome in found), None)
        if good is not None:
            bad = [outcome for outcome in _BAD_OUTCOMES if outcome in found]
            judged = f'{label}=~"{"|".join([good, *bad])}"' if bad else ""
            return Traffic(counter, labels, f'{label}="{good}"', judged)
    for label in _STATUS_LABELS:
        if label in values and all(re.fullmatch(r"[1-5][0-9x]{2}", value) for value in values[label]):
            return Traffic(counter, labels, f'{label}!~"5.*"', "")
    return Traffic(counter, labels, "", "")


def propose_latency(histogram: str, series: Sequence[Sample], p95: float | None) -> list[str]:
    """The lines of an SLO for the time of answers, bounded at a boundary of the histogram's buckets.

    Args:
        histogram: the name of its buckets.
        series: the buckets of the pods.
        p95: what it is now, in the histogram's unit; None when no requests were measured.
    """
    labels = {label for sample in series for label in sample.labels}
    bounds = sorted({float(sample.labels["le"]) for sample in series if _is_bound(sample.labels.get("le", ""))})
    wanted = _ACCEPTABLE_SECONDS if p95 is None else 2 * p95
    bound = next((bound for bound in bounds if bound >= wanted), wanted)
    why = "a guess, because no requests were measured" if p95 is None else f"now {p95:.3g}"
    selector = ",".join(filter(None, (PODS, _source(labels))))
    return [
        f"    - name: p95_{'latency_seconds' if 'seconds' in histogram else 'latency'} # {why}",
        "      query: |-",
        f"        histogram_quantile(0.95, sum by (le) (rate({histogram}{{{selector}}}[$window])))",
        f"      at_most: {bound:g}",
        "      min_requests: 20",
    ]


def _source(labels: Iterable[str]) -> str:
    return 'source=~"$source"' if "source" in labels else ""


def _is_bound(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
