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

from orchestration.promotion.policy import Policy, parse_duration, parse_policy
from orchestration.promotion.problems import InvalidInputError

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
service_url: http://100.85.38.128:30808
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
    - {name: success_ratio, query: 'a / b', at_least: 0.99, min_requests: 20}
    - {name: p95_latency_seconds, query: 'c', at_most: 0.25, min_requests: 20}
    - {name: restarts, from: pods, at_most: 0}
"""


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
    assert (policy.image.deadline, policy.rollout.deadline) == (600.0, 300.0)
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
        ("http://100.85.38.128:30808", "http://user:hunter2@host", "service_url"),
        ("http://100.85.38.128:30808", "ftp://host", "service_url: expected an address such as http://host:8080"),
        ("http://100.85.38.128:30808", "'http://[host'", "service_url"),
        ("http://100.85.38.128:30808", "http://host:99999", "service_url"),
        ("http://100.85.38.128:30808", "http://:8080", "service_url"),
        ("http://100.85.38.128:30808", '"http://host\\n"', "service_url"),
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
        ('source=~"$source"', 'a="b"', "requests must select"),
        ("query: 'c'", "query: ''", "gate.slos.1.query"),
        ("query: 'c'", "query: c, from: pods", "exactly one of query and from"),
        ("query: 'c', ", "", "exactly one of query and from"),
        (
            "name: restarts",
            "name: latency",
            "gate.slos.2: SLO 'latency': only restarts can be read from pods",
        ),
        ("from: pods", "from: nodes", "SLO 'restarts': from must be one of pods, found 'nodes'"),
        ("from: pods", "from: [pods]", "gate.slos.2.from"),
        ("name: p95_latency_seconds", "name: success_ratio", "a name of its own"),
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


def test_a_list_with_a_wrong_entry_is_not_called_too_short() -> None:
    """Only the entry is to be corrected, so only the entry is named."""
    assert "quality: " not in refusal(changed("at_least: 0.85", "at_least: .nan"))
