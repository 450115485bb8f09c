"""A policy file is read strictly: every wrong field is named, and nothing is guessed."""

import json
import re
import typing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from orchestration.promotion.deployed import Slot
from orchestration.promotion.duration_fields import parse_duration
from orchestration.promotion.metrics_presets import PRESETS
from orchestration.promotion.policy import Policy, parse_policy
from orchestration.promotion.problems import InvalidInputError

SERVICE = "service: http://100.85.38.128:30808"
DESIGN = """
model: iris-classifier
challenger_alias: challenger
champion_alias: champion
image: {repository: ghcr.io/dycouzt/mlops-ai-platform-model-source, deadline: 10m}
manifest:
  path: manifests/applications/iris-classifier/deployment.yaml
  kind: Deployment
  namespace: ml-apps
  name: iris-classifier
  container: model-server
argocd: {application: iris-classifier, namespace: argocd}
cluster: edge
service: http://100.85.38.128:30808
quality:
  - {metric: accuracy, at_least: 0.85, no_worse_than_champion_by: 0.0}
rollout: {deadline: 5m}
gate:
  soak: 2m
  every: 15s
  judge_within: 10m
  when_unjudged: hold
  traffic: replayed_ok
  min_samples: 3
  requests: 'sum(increase(model_predictions_total{pod=~"$pods",source=~"$source"}[$window]))'
  slos:
    - {name: success_ratio, query: 'a{source=~"$source"}', at_least: 0.99, min_requests: 20}
    - {name: p95_latency_seconds, query: 'c{source=~"$source"}', at_most: 0.25, min_requests: 20}
    - {name: restarts, from: pods, at_most: 0}
"""


LATENCY_QUERY = "query: 'c{source=~\"$source\"}'"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk0VvbJvXTlHDlwlnYpEwWVu8hYnyNnGZZzGFpsRW6y"


def changed(old: str, new: str) -> str:
    assert old in DESIGN
    return DESIGN.replace(old, new, 1)


def refusal(text: str, name: str = "edge") -> str:
    with pytest.raises(InvalidInputError) as caught:
        parse_policy(name, text)
    assert caught.value.problem.subject == f"policy {name}"
    return caught.value.problem.found


def test_the_documented_policy_is_read() -> None:
    """The documented example is a policy; durations become seconds, and the file's name is the policy's name."""
    policy = parse_policy("iris-classifier-edge", DESIGN)
    assert policy.name == "iris-classifier-edge"
    assert (policy.images.deadline, policy.rollout.deadline) == (600.0, 300.0)
    assert (policy.gate.soak, policy.gate.every, policy.gate.judge_within) == (120.0, 15.0, 600.0)
    assert policy.quality[0].no_worse_than_champion_by == 0.0
    assert [slo.from_ for slo in policy.gate.slos] == [None, None, "pods"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h0m1s", 3601), ("0h5s", 5), ("720h", 2_592_000)],
)
def test_durations_are_seconds(text: str, seconds: int) -> None:
    """Hours, minutes and seconds are read in that order."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "10", "s", "1.5m", "-5s", "5m1h", "1d", " 5s", "5s\n", "٣m", "9" * 5000 + "h"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    """Zero, bare numbers, other units and digits of other scripts are refused, and never cause a crash."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("model: iris-classifier\n", "", "model: this field is missing"),
        ("model: iris-classifier\n", "model: a/b\n", "model"),
        ("model: iris-classifier\n", 'model: "a\\nb"\n', "model"),
        ("cluster: edge", "cluster: edge\ntypo: 1", "typo: there is no such field"),
        ("cluster: edge", "cluster: edge\nname: other", "'name': the file's name"),
        ("cluster: edge", "cluster: edge\ncluster: edge", "duplicate key"),
        ("cluster: edge", "cluster: ''", "cluster"),
        ("cluster: edge", "cluster: 5", "cluster: expected a text (a number needs quotes)"),
        ("rollout: {deadline: 5m}", "rollout: soon", "rollout: expected a mapping"),
        ("  - {metric: accuracy, at_least: 0.85, no_worse_than_champion_by: 0.0}", "  7", "quality: expected a list"),
        ("cluster: edge", "cluster: 2001-99-99", "YAML that cannot be read"),
        ("challenger_alias: challenger", "challenger_alias: champion", "must differ"),
        ("challenger_alias: challenger", "challenger_alias: ''", "challenger_alias"),
        ("challenger_alias: challenger", "challenger_alias: a/b", "challenger_alias"),
        ("challenger_alias: challenger", "challenger_alias: latest", "reserved by MLflow"),
        ("challenger_alias: challenger", "challenger_alias: v2", "reserved by MLflow"),
        ("ghcr.io/dycouzt/mlops-ai-platform-model-source", "ghcr.io/x:latest", "image.repository"),
        ("ghcr.io/dycouzt/mlops-ai-platform-model-source", "nginx", "image.repository"),
        ("ghcr.io/dycouzt/mlops-ai-platform-model-source", ".../a", "image.repository"),
        ("ghcr.io/dycouzt/mlops-ai-platform-model-source", "GHCR.io/A", "image.repository"),
        ("deadline: 10m", "deadline: soon", "image.deadline"),
        ("deadline: 10m", "deadline: true", "image.deadline"),
        ("deadline: 10m", "deadline: .inf", "image.deadline"),
        ("deadline: 10m", "deadline: .nan", "image.deadline"),
        ("deadline: 10m", "deadline: -1", "image.deadline"),
        ("deadline: 10m", "deadline: 9999h", "image.deadline"),
        ("deadline: 10m", f"deadline: {'9' * 400}h", "image.deadline"),
        ("manifests/applications", "/manifests", "stay in the repository"),
        ("manifests/applications", "../manifests", "stay in the repository"),
        ("manifests/applications", "a//b", "stay in the repository"),
        ("manifests/applications", ".git/hooks", "stay in the repository"),
        ("manifests/applications", "a\\b", "stay in the repository"),
        ("path: manifests/applications/iris-classifier/deployment.yaml", 'path: "a\\nb"', "stay in the repository"),
        ("kind: Deployment", "kind: deployment", "manifest.kind"),
        ("namespace: ml-apps", "namespace: ML", "manifest.namespace"),
        ("namespace: ml-apps", "namespace: ml/apps", "manifest.namespace"),
        ("container: model-server", "container: ''", "manifest.container"),
        ("container: model-server", "container: c\n  yaml_path: ''", "manifest.yaml_path"),
        ("http://100.85.38.128:30808", "http://user:hunter2@host", "service"),
        ("http://100.85.38.128:30808", "ftp://host", "service.url: expected an address such as http://host:8080"),
        ("http://100.85.38.128:30808", "'http://[host'", "service"),
        ("http://100.85.38.128:30808", "http://host:99999", "service"),
        ("http://100.85.38.128:30808", "http://:8080", "service"),
        ("http://100.85.38.128:30808", '"http://host\\n"', "service"),
        (SERVICE, "service: {url: 'http://host/#x'}", "service.url: expected an address"),
        (SERVICE, "service: {url: 'http://host/a/../b'}", "expected a path without . and .."),
        (SERVICE, "service: {url: http://host, path: predict}", "service.path: expected a path such as /predict"),
        (SERVICE, "service: {url: http://host, path: '/a/%2e%2E/b'}", "service.path: expected a path without"),
        (SERVICE, "service: {url: http://host, path: '/a b'}", "service.path"),
        (SERVICE, "service: {url: 'http://host/a%2Fb'}", "expected a path without an escaped slash"),
        (SERVICE, "service_url: http://host", "a field 'service_url', which is now service: {url: ..., protocol: fe"),
        (
            SERVICE,
            "service: {url: http://host, port: 0}",
            "service.port: expected a number from 1 to 65535",
        ),
        (SERVICE, "service: {url: http://host, port: '8080'}", "service.port: expected a number"),
        (
            SERVICE,
            "service: {url: http://host, headers: {A: 1}}",
            "expected a text in quotes or {file: PATH}",
        ),
        (SERVICE, "service: {url: http://host, headers: {A: {path: x}}}", "as the value of header A"),
        (SERVICE, "service: {url: http://host, port: true}", "service.port"),
        (SERVICE, "service: {url: http://host, port: Http}", "service.port"),
        (SERVICE, "service: {url: http://host, timeout: 31s}", "service.timeout"),
        (SERVICE, "service: {url: http://host, protocol: grpc}", "service.protocol"),
        (SERVICE, "service: {url: http://host, protocol: json}", "protocol json has no path of its own"),
        (SERVICE, "service: {url: http://host, headers: {A B: c}}", "service.headers: expected names of headers"),
        (SERVICE, "service: {url: http://host, headers: {1: c}}", "found 1"),
        (SERVICE, "service: {url: http://host, headers: {Content-Length: '1'}}", "found 'Content-Length'"),
        (SERVICE, "service: {url: http://host, headers: {X-Incumbent-Replay: '1'}}", "found 'X-Incumbent-Replay'"),
        (SERVICE, 'service: {url: http://host, headers: {A: "b\\nc"}}', "a printable ASCII value of header A"),
        (SERVICE, "service: {url: http://host, headers: {authorization: x}}", "keep it in a file, {file: PATH}"),
        (SERVICE, "service: {url: http://host, headers: {A: {file: ''}}}", "service.headers"),
        ("min_samples: 3", "wrong_answers: 0", "gate.wrong_answers"),
        ("at_least: 0.85", "at_least: .nan", "quality.0.at_least"),
        ("at_least: 0.85", "at_least: .inf", "quality.0.at_least"),
        ("at_least: 0.85", "at_least: true", "quality.0.at_least"),
        ("at_least: 0.85", "at_least: '0.85'", "quality.0.at_least"),
        ("at_least: 0.85", "at_least: 0.85, at_most: 1", "metric 'accuracy' needs exactly one of at_least and at_most"),
        ("at_least: 0.85, ", "", "metric 'accuracy' needs exactly one of at_least and at_most"),
        (
            "at_least: 0.99",
            "at_least: 0.99, at_most: 1",
            "SLO 'success_ratio' needs exactly one of at_least and at_most",
        ),
        ("at_most: 0.25, ", "", "SLO 'p95_latency_seconds' needs exactly one of at_least and at_most"),
        ("champion_by: 0.0", "champion_by: -0.1", "no_worse_than_champion_by"),
        ("  - {metric: accuracy, at_least: 0.85, no_worse_than_champion_by: 0.0}", "  []", "quality"),
        ("soak: 2m", "soak: 20m", "shorter than soak"),
        ("every: 15s", "every: 3m", "longer than soak"),
        ("when_unjudged: hold", "when_unjudged: ignore", "when_unjudged"),
        ("traffic: replayed_ok", "traffic: any", "traffic"),
        ("min_samples: 3", "min_samples: 0", "min_samples"),
        ("min_samples: 3", "min_samples: true", "min_samples"),
        (LATENCY_QUERY, "query: ''", "gate.slos.1.query"),
        (LATENCY_QUERY, "query: c, from: pods", "exactly one of query and from"),
        (f"{LATENCY_QUERY}, ", "", "exactly one of query and from; gate.metrics has queries for success_ratio and"),
        (LATENCY_QUERY, "query: 'a{pod=~\"$pod\"}'", "gate.slos.1.query: expected the placeholders $pods, $window,"),
        ('pod=~"$pods"', 'pod=~"${pods}"', "gate.requests: expected the placeholders"),
        ("at_least: 0.99", "at_most: 0.99", "SLO 'success_ratio' needs at_least, because of its name"),
        ("at_least: 0.99", "at_least: 99", "SLO 'success_ratio' is at most 1, found at_least 99; 99 % is 0.99"),
        ("name: p95_latency_seconds", "name: latency_p95_seconds, at_least: 1", "needs exactly one of at_least and"),
        ("namespace: ml-apps", "namespace: ML", "expected a name of lower-case letters, digits, - and ., found 'ML'"),
        ("when_unjudged: hold", "when_unjudged: rollback", "expected 'hold' or 'roll_back', found 'rollback'"),
        ("min_samples: 3", "min_samples: 0", "gate.min_samples: expected 1 or more, found 0"),
        (
            "name: restarts",
            "name: latency",
            "gate.slos.2: SLO 'latency': only restarts can be read from pods",
        ),
        ("from: pods", "from: nodes", "SLO 'restarts': from must be one of pods, found 'nodes'"),
        ("from: pods", "from: [pods]", "gate.slos.2.from"),
        ("name: success_ratio", "name: p95_latency_seconds", "a name of its own"),
        ("at_most: 0.25", "no_worse_than_live: 10%", "only of success_ratio and latency_p95_seconds the name says"),
        ("at_most: 0.25", "at_most: 0.25, no_worse_than_live: 10 %", "expected a percentage such as 10%"),
        ("at_most: 0.25", "at_most: 0.25, no_worse_than_live: -1%", "expected a percentage such as 10%"),
        ("at_most: 0.25", "at_most: 0.25, no_worse_than_live: -1", "no_worse_than_live"),
        ("at_most: 0.25", "at_most: 0.25, no_worse_than_live: true", "no_worse_than_live"),
        ("at_most: 0}", "at_most: 0, no_worse_than_live: 1}", "no_worse_than_live needs a query"),
        ("name: success_ratio", "name: Success Ratio", "gate.slos.0.name"),
        ("at_least: 0.99", "at_least: .nan", "gate.slos.0.at_least"),
        ("min_requests: 20}", "min_requests: -1}", "min_requests"),
        ("min_requests: 20}", "min_requests: 1.5}", "min_requests"),
        ("cluster: edge", "cluster: edge\nfreeze: [{cron: '0 18 * *', for: 1h, reason: a}]", "freeze.0.cron: expected"),
        ("cluster: edge", "cluster: edge\nfreeze: [{cron: '0 18 * * 5', reason: a}]", "freeze.0.for: this field"),
        ("cluster: edge", "cluster: edge\nfreeze: [{cron: '0 18 * * 5', for: 2d, reason: a}]", "freeze.0.for"),
        ("cluster: edge", "cluster: edge\nfreeze: [{cron: '0 18 * * 5', for: 1h}]", "freeze.0.reason: this field"),
        (
            "cluster: edge",
            "cluster: edge\nfreeze: [{cron: '0 18 * * 5', for: 1h, reason: a, timezone: Zurich}]",
            "freeze.0.timezone: expected a time zone such as Europe/Zurich, found 'Zurich'",
        ),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {}}", "expected either key, or identity and issuer"),
        (
            "cluster: edge",
            "cluster: edge\nsignature: {cosign: {key: a, identity: b, issuer: c}}",
            "signature.cosign: expected either key, or identity and issuer",
        ),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {identity: b}}", "identity and issuer need each other"),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {issuer: c}}", "identity and issuer need each other"),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {key: ''}}", "signature.cosign.key"),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {key: ' '}}", "key: expected a text without white space"),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {key: 'awskms:///alias/a'}}", "cosign public-key --key"),
        ("cluster: edge", "cluster: edge\nsignature: {cosign: {key: 'k8s://ns/name'}}", "the address 'k8s://ns/name'"),
        (
            "cluster: edge",
            "cluster: edge\nsignature: {cosign: {key: '-----BEGIN EC PRIVATE KEY-----'}}",
            "key: expected a public key, found a private one",
        ),
        (
            "cluster: edge",
            "cluster: edge\nsignature: {cosign: {identity: ' ', issuer: 'https://i '}}",
            "identity: expected a text without white space around it, found ' '; "
            "signature.cosign.issuer: expected a text without white space around it, found 'https://i '",
        ),
        (
            "cluster: edge",
            "cluster: edge\nsignature: {cosign: {key: a, trusted_root: b}}",
            "trusted_root is for an identity",
        ),
        ("cluster: edge", "cluster: edge\napproval: {by: []}", "approval.by"),
        ("cluster: edge", "cluster: edge\napproval: {by: ['']}", "approval.by.0.name"),
        ("cluster: edge", "cluster: edge\napproval: {by: [ana], count: 0}", "approval.count"),
        ("cluster: edge", "cluster: edge\napproval: {by: [ana], count: 2}", "more than the approvers in by (1)"),
        ("cluster: edge", "cluster: edge\napproval: {by: [ana, Ana]}", "each approver counts once"),
        ("cluster: edge", "cluster: edge\napproval: {by: [ana], signed: 1}", "approval.signed"),
        ("cluster: edge", "cluster: edge\napproval: {by: [ana], signed: true}", "approver ana: a key is needed"),
        ("cluster: edge", f"cluster: edge\napproval: {{by: [{{name: ana, key: {KEY}}}]}}", "is no use without"),
        (
            "cluster: edge",
            f"cluster: edge\napproval: {{signed: true, by: [{{name: a, key: {KEY}}}, {{name: b, key: {KEY} b@b}}]}}",
            "found the same key twice",
        ),
        ("cluster: edge", "cluster: edge\napproval: {signed: true, by: [{name: a, key: AAAA}]}", "by.0.key: expected"),
        (
            "cluster: edge",
            f"cluster: edge\napproval: {{signed: true, by: [{{name: a, key: {KEY.replace('ssh-', 'sk-ssh-', 1)}}}]}}",
            "by.0.key: expected",
        ),
    ],
)
def test_each_wrong_field_is_named(old: str, new: str, field: str) -> None:
    """A mistake in any field refuses the policy, and the problem names the field."""
    faults = refusal(changed(old, new))
    assert field in faults
    assert "hunter2" not in faults


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "text",
        "a: [",
        "[" * 10_000,
        "a: " * 3,
        "\0",
        "? [a]\n: b",
        "1: 2",
        "&a [*a]",
        "!!python/name:os.x a: b",
    ],
)
def test_what_is_not_a_mapping_is_refused(text: str) -> None:
    """Empty, malformed, deep, recursive and hostile YAML is refused, and never causes a crash."""
    assert refusal(text)


def test_an_approver_is_a_name_or_a_name_with_a_key() -> None:
    """Both forms are read; windows without a zone are in UTC, and durations are seconds."""
    named = parse_policy("edge", f"{DESIGN}approval: {{by: [ana, {{name: ben}}], count: 2}}\n").approval
    assert named is not None
    assert [approver.name for approver in named.by] == ["ana", "ben"]
    pgp = "-----BEGIN PGP PUBLIC KEY BLOCK-----\\n\\naGVsbG8=\\n-----END PGP PUBLIC KEY BLOCK-----\\n"
    text = f'{DESIGN}approval: {{signed: true, by: [{{name: ana, key: {KEY} ana@home}}, {{name: b, key: "{pgp}"}}]}}\n'
    signed = parse_policy("edge", f"{text}freeze: [{{cron: '0 18 * * 5', for: 62h, reason: weekend}}]\n")
    assert signed.approval is not None
    assert (signed.freeze[0].timezone, signed.freeze[0].for_) == ("UTC", 62 * 3600)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a/b", "../a", "a\n", "a" * 64, "a.yaml"])
def test_a_file_name_that_is_not_a_policy_name_is_refused(name: str) -> None:
    """The name becomes part of tags, refs and partitions, so it has only lower-case letters, digits and dashes."""
    assert "file name" in refusal(DESIGN, name)


def test_several_faults_are_reported_at_once() -> None:
    """A person who corrects a policy sees all of its faults."""
    faults = refusal(changed("cluster: edge", "cluster: ''").replace("soak: 2m", "soak: x"))
    assert "cluster" in faults
    assert "gate.soak" in faults


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.text(max_size=80) | st.text(alphabet="{}[]&*!|>'\"%@:-? \n\tab019.~<", max_size=40))
def test_reading_never_crashes(text: str) -> None:
    """Whatever the file holds, it is a policy or raises InvalidInputError, so one bad policy stops no other."""
    refusal(text)


@given(
    st.sampled_from(sorted(Policy.model_fields)), st.none() | st.sampled_from(["repository", "slos", "soak"]), VALUES
)
def test_a_field_of_any_value_is_read_or_refused(field: str, inner: str | None, value: Any) -> None:
    """No value in any field crashes the parser, and an accepted policy is the same after writing and reading it."""
    raw = YAML(typ="safe", pure=True).load(DESIGN)
    if inner is not None and isinstance(raw.get(field), dict):
        raw[field][inner] = value
    else:
        raw[field] = value
    with suppress(InvalidInputError):
        policy = parse_policy("edge", json.dumps(raw))
        assert Policy.model_validate_json(policy.model_dump_json(by_alias=True)) == policy


@pytest.mark.parametrize(
    ("service", "address", "path"),
    [
        ("http://edge:1", "http://edge:1/invocations", "/invocations"),
        ("http://edge:1/", "http://edge:1/invocations", "/invocations"),
        ("http://edge:1/predict?explain=false", "http://edge:1/predict?explain=false", "/predict?explain=false"),
        ("http://edge:1/m/%C3%A9t%C3%A9", "http://edge:1/m/%C3%A9t%C3%A9", "/m/%C3%A9t%C3%A9"),
        ("{url: http://edge:1, protocol: v1}", "http://edge:1/v1/models/iris-classifier:predict", None),
        ("{url: http://edge:1, protocol: v2}", "http://edge:1/v2/models/iris-classifier/infer", None),
        ("{url: http://edge:1, protocol: features}", "http://edge:1/predict", "/predict"),
        ("{url: http://edge:1, path: /été}", "http://edge:1/%C3%A9t%C3%A9", "/%C3%A9t%C3%A9"),
        ("{url: http://edge:1/team/iris, path: /predict}", "http://edge:1/team/iris", "/predict"),
        ("{url: http://edge:1, path: '/p?a=1', protocol: json}", "http://edge:1/p?a=1", "/p?a=1"),
    ],
)
def test_where_the_service_and_the_pods_are_asked(service: str, address: str, path: str | None) -> None:
    """An address with a path is all that clients use; pods are asked at its path, or at one of their own."""
    policy = parse_policy("iris", changed(SERVICE, f"service: {service}"))
    assert policy.service.address(policy.model) == address
    assert policy.service.pod_path(policy.model) == (path or address.removeprefix("http://edge:1"))


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The fields of a policy as `docs/policies.md` writes them: `gate.slos[].name`."""
    for name, field in model.model_fields.items():
        shown = f"{prefix}{field.alias or name}"
        annotation = field.annotation
        if typing.get_origin(annotation) is UnionType:  # a part that may be left out
            annotation = typing.get_args(annotation)[0]
        many = typing.get_origin(annotation) is tuple
        inner = typing.get_args(annotation)[0] if many else annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields_of(inner, f"{shown}[]." if many else f"{shown}.")
        else:
            yield shown


def test_every_field_is_documented() -> None:
    """The page that every policy error points to has all fields, and none that no longer exists."""
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `") and not row.startswith("| `$")]
    documented = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert documented == set(fields_of(Policy)) - {"name"}  # the file's name is the policy's


def test_the_documented_policy_of_addresses_is_read() -> None:
    """The example of a policy that deploys addresses is one, and edits the variable that it names."""
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    section = page.partition("\n## Addresses in place of images\n")[2]
    policy = parse_policy("iris-prod", section.partition("```yaml\n")[2].partition("```")[0])
    assert (policy.deploys, policy.image, policy.model_address) == ("model_uri", None, "name")
    assert policy.slot == Slot("variable", "MODEL_URI")


IMAGE_LINE = "image: {repository: ghcr.io/dycouzt/mlops-ai-platform-model-source, deadline: 10m}"


@pytest.mark.parametrize(
    ("fields", "slot"),
    [
        ("", Slot("variable", "MODEL_URI")),
        ("variable: MODEL", Slot("variable", "MODEL")),
        ("argument: --model-uri", Slot("argument", "--model-uri")),
        ("storage_uri: true", Slot("storageUri")),
    ],
)
def test_an_address_stands_in_one_place(fields: str, slot: Slot) -> None:
    """A policy that deploys addresses edits `MODEL_URI` unless it names another place."""
    assert parse_policy("edge", of_addresses(fields)).slot == slot


def of_addresses(place: str = "", *more: str) -> str:
    """A policy that deploys addresses in that place."""
    kind = "InferenceService" if "storage_uri" in place else "Deployment"
    text = DESIGN.replace(IMAGE_LINE, "\n".join(("deploys: model_uri", *more))).replace("Deployment", kind)
    return text.replace("  container: model-server\n", f"  container: model-server\n  {place}\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (DESIGN.replace(IMAGE_LINE, ""), "image is missing"),
        (DESIGN + "artifacts_below: s3://acme/\n", "artifacts_below would be of no use: they need deploys: model_uri"),
        (DESIGN.replace("  container:", "  variable: X\n  container:"), "manifest.variable would be of no use"),
        (DESIGN + "deploys: model_uri\n", "image is for a policy that deploys images"),
        (DESIGN + "deploys: binary\n", "deploys: "),
        (of_addresses("yaml_path: env"), "manifest.yaml_path is for images alone"),
        (of_addresses("variable: A\n  argument: --b"), "in one place, found variable and argument"),
        (
            of_addresses("storage_uri: true").replace("InferenceService", "Deployment"),
            "a field of kind InferenceService",
        ),
        (of_addresses("variable: A-B"), "manifest.variable: "),
        (of_addresses("argument: model"), "manifest.argument: "),
        (of_addresses("argument: '--a b'"), "manifest.argument: "),
        (of_addresses("", "model_address: artifacts"), "model_address: artifacts needs artifacts_below"),
        (of_addresses("", "artifacts_below: s3://acme"), "artifacts_below: expected the beginning of an address"),
        (of_addresses("", "artifacts_below: /srv/"), "artifacts_below: expected the beginning of an address"),
        (of_addresses("", "artifacts_below: 's3://me:secret@acme/'"), "found one with credentials"),
        (of_addresses().replace("model: iris-classifier", "model: 'iris #1'"), "characters that no address may have"),
    ],
)
def test_a_policy_deploys_either_images_or_addresses(text: str, found: str) -> None:
    """Fields of the one kind are refused with the other, and an address needs one place and a prefix that is one."""
    assert found in refusal(text)
    assert "secret" not in refusal(text)


def preset(name: str = "kserve", *, gate: str = "", slo: str = "{name: success_ratio, at_least: 0.99}") -> str:
    """A policy whose gate states next to nothing."""
    return DESIGN[: DESIGN.index("\ngate:")] + f"\ngate:\n  metrics: {name}\n  slos: [{slo}]\n{gate}"


def test_a_preset_stands_for_all_queries() -> None:
    """The SLOs have its queries and a minimum of requests; what the policy states itself takes precedence."""
    gate = parse_policy("edge", preset()).gate
    assert gate.requests == PRESETS["kserve"].requests
    assert (gate.slos[0].query, gate.slos[0].min_requests) == (PRESETS["kserve"].slos["success_ratio"], 20)
    own = "{name: success_ratio, query: a, at_least: 0.99}, {name: latency_p95_seconds, at_most: 1, min_requests: 5}"
    gate = parse_policy("edge", preset(gate="  requests: b\n", slo=own)).gate
    assert (gate.requests, gate.slos[0].query, gate.slos[0].min_requests) == ("b", "a", 0)
    assert (gate.slos[1].query, gate.slos[1].min_requests) == (PRESETS["kserve"].slos["latency_p95_seconds"], 5)


@pytest.mark.parametrize("name", ["[a]", "{a: b}", "1", "null"])
def test_an_slo_of_a_preset_whose_name_is_no_text_is_refused(name: str) -> None:
    """It is a fault of its policy, and stops no other one."""
    assert "gate.slos.0.name" in refusal(preset(slo=f"{{name: {name}, at_least: 1}}"))


def test_a_job_holds_no_placeholder() -> None:
    """It goes into the preset's queries before they are filled in."""
    assert "gate.job" in refusal(preset(gate="  job: $pods\n"))


def test_a_bound_relative_to_what_serves_needs_no_number_of_its_own() -> None:
    """For people who know none: the names of a preset's SLOs say which direction is better."""
    slos = "{name: success_ratio, no_worse_than_live: 0.01}, {name: latency_p95_seconds, no_worse_than_live: 12.5%}"
    ratio, latency = parse_policy("edge", preset(slo=slos)).gate.slos
    assert (ratio.no_worse_than_live, ratio.sign, ratio.bound) == (0.01, ">=", "at most 0.01 worse than before")
    assert (latency.no_worse_than_live, latency.sign) == ("12.5%", "<=")


def test_a_presets_queries_are_about_the_named_job() -> None:
    """Where several jobs scrape a pod, the same metric may be there twice."""
    gate = parse_policy("edge", preset("istio", gate="  job: mesh\n")).gate
    for query in (gate.requests, gate.slos[0].query or ""):
        assert query.count('pod=~"$pods",job="mesh"') == query.count('pod=~"$pods"') > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_a_whole_gate(name: str) -> None:
    """Only our own server tells recorded requests from others; each query is about the new pods alone."""
    both = "{name: success_ratio, at_least: 0.99}, {name: latency_p95_seconds, at_most: 1}"
    gate = parse_policy("edge", preset(name, slo=both)).gate
    assert gate.tells_replayed is (name == "incumbent")
    for query in (gate.requests, *(slo.query or "" for slo in gate.slos)):
        assert query.count("{") == query.count('namespace="$namespace",pod=~"$pods"') > 0
        assert ("$source" in query) is gate.tells_replayed
    policy = parse_policy("edge", preset(name, slo=both))
    assert Policy.model_validate_json(policy.model_dump_json(by_alias=True)) == policy
    assert f"| {name} |" in (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (preset("tensorflow"), "gate.metrics: expected one of mlflow-fastapi, fastapi, kserve"),
        (preset("ingress-nginx"), "a Service and no pod, so they cannot tell"),
        (preset("[kserve]"), "gate.metrics"),
        (preset(slo="{name: accuracy, at_least: 0.9}"), "SLO 'accuracy' needs exactly one of query and from"),
        (preset(slo="success_ratio"), "gate.slos.0"),
        (preset(gate="  job: 'a\"b'\n"), "gate.job"),
        (preset(gate="  requests: ''\n"), "gate.requests"),
    ],
)
def test_a_preset_that_cannot_be_used_is_refused(text: str, found: str) -> None:
    """The field is named, and what would do."""
    assert found in refusal(text)


def test_counters_without_a_source_need_time_before_the_soak() -> None:
    """The recorded requests are scraped before the window of real traffic begins."""
    unaware = DESIGN.replace(',source=~"$source"', "").replace('{source=~"$source"}', "")
    assert not parse_policy("edge", unaware).gate.tells_replayed
    assert parse_policy("edge", DESIGN).gate.tells_replayed
    assert "leaves no time for the recorded requests" in refusal(
        unaware.replace("judge_within: 10m", "judge_within: 2m")
    )


def test_the_source_is_told_in_all_queries_or_in_none() -> None:
    """An SLO that selects by a label that the count of requests ignores would be believed on other requests.

    One that ignores the label by which requests are counted would count recorded requests with real ones.
    """
    text = changed(',source=~"$source"', "")
    assert "requests must select by $source as well, because of success_ratio, p95_latency_seconds" in refusal(text)
    diluted = "p95_latency_seconds must select by $source as well, because requests does"
    assert diluted in refusal(changed(LATENCY_QUERY, "query: c"))
    assert parse_policy("edge", changed(f"{LATENCY_QUERY}, at_most: 0.25, min_requests: 20", "query: c, at_most: 9"))
    of_preset = preset("fastapi", gate="  requests: 'sum(x{source=~\"$source\"})'\n")
    assert "success_ratio must select by $source as well" in refusal(of_preset)


def test_a_preset_that_does_not_exist_is_the_only_fault() -> None:
    """What it would have filled in is not called missing."""
    assert refusal(preset("mlflow")).startswith("gate.metrics: expected one of mlflow-fastapi")
    assert ";" not in refusal(preset("mlflow"))


@pytest.mark.parametrize("headers", ["{X-A: a, x-a: b}", "{X-A: {file: ''}}", "{X-A: {file: 1}}"])
def test_a_header_that_has_no_one_value_is_refused(headers: str) -> None:
    """Names of headers are the same in any case, and a file has a path."""
    found = refusal(changed(SERVICE, f"service: {{url: http://edge:1, headers: {headers}}}"))
    assert re.match(r"service.headers: (each header once|expected a text in quotes or \{file: PATH\})", found)


def test_a_list_with_a_wrong_entry_is_not_called_too_short() -> None:
    """Only the entry is to be corrected, so only the entry is named."""
    assert "quality: " not in refusal(changed("at_least: 0.85", "at_least: .nan"))
