"""Which workflow an alert starts and with which inputs; the configuration's defaults and its errors."""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestration.dispatcher.configuration import parse_configuration
from orchestration.dispatcher.notification import Alert, Status
from orchestration.dispatcher.routing import inputs_of, route_of
from orchestration.promotion.problems import InvalidInputError
from testbeds.common.tools import CHECKOUT
from tests.fakes.dispatching import alert, configuration, drift

SHORT = """\
repository: acme/platform
token_file: /etc/dispatcher/github-token
webhook_token_file: /etc/dispatcher/webhook-token
outbox: /var/lib/dispatcher
"""
RULES = (
    "ModelPodNotRunning",
    "ModelPodFrequentRestarts",
    "ModelPodOOMKilled",
    "ModelHighCPUUsage",
    "ModelHighMemoryUsage",
)


def started(sent: Alert, **fields: Any) -> tuple[str, dict[str, str]] | None:
    """Return the workflow that an alert starts, and its inputs."""
    settings = configuration(**fields)
    route = route_of(sent, settings.routes)
    return None if route is None else (route.workflow, inputs_of(sent, route, settings, not_dispatched=3))


@pytest.mark.parametrize("name", RULES)
def test_alerts_on_pods_start_the_log_analysis(name: str) -> None:
    """By default, each of the rules on models starts it with its five inputs, and `edge` is `k3d` there."""
    assert started(alert(name)) == (
        "ai-log-analysis.yml",
        {
            "cluster": "k3d",
            "alert_name": name,
            "alert_severity": "critical",
            "pod_name": "iris-1",
            "namespace": "ml-apps",
        },
    )


@pytest.mark.parametrize("name", ["ModelErrorBudgetBurnsFast", "ModelMissesSLO", "ModelUnavailable"])
def test_alerts_on_a_policys_pods_say_which_policy_it_is(name: str) -> None:
    """They name no pod, and several models share a namespace; the summary has the number for which they fire."""
    labels = {"alertname": name, "severity": "critical", "cluster": "edge", "namespace": "ml-apps"}
    said = {"summary": "63 % of the requests to iris failed in the last 1h"}
    sent = Alert("f", "2026-01-31T12:00:00Z", Status.FIRING, {**labels, "policy": "iris-edge", "model": "iris"}, said)
    assert started(sent) == (
        "ai-log-analysis.yml",
        {
            "cluster": "k3d",
            "alert_name": name,
            "alert_severity": "critical",
            "pod_name": "none",
            "namespace": "ml-apps",
            "policy": "iris-edge",
            **said,
        },
    )


def test_alerts_on_accuracy_start_the_drift_detection() -> None:
    """By default, its inputs come from the labels, which name the champion that was measured, and two annotations."""
    inputs = {"model_name": "iris", "current_accuracy": "0.81", "baseline_accuracy": "0.95"}
    which = {"policy": "iris-edge", "version": "7"}
    assert started(drift()) == ("ai-drift-detection.yml", {**inputs, **which})


def test_an_alert_without_a_pod_brings_its_own_words() -> None:
    """Otherwise its issue would not say which Service or policy it is about: each rule that names no pod is covered."""
    found = 0
    for file in (CHECKOUT / "manifests/platform/monitoring/rules").glob("*.yml"):
        rules = [rule for group in YAML(typ="safe").load(file)["groups"] for rule in group["rules"]]
        for rule in [each for each in rules if "alert" in each]:
            route = route_of(alert(rule["alert"]), configuration().routes)
            if route is None or route.workflow != "ai-log-analysis.yml":
                continue
            found += 1
            assert "summary" in route.inputs or "$labels.pod " in str(rule["annotations"]), rule["alert"]
    assert found > 10


def test_what_an_alert_does_not_have_is_none() -> None:
    """GitHub refuses an empty required input, so a missing or blank value is the word `none`."""
    found = started(Alert("f", "2026-01-31T12:00:00Z", Status.FIRING, {"alertname": "ModelX", "pod": "  "}, {}))
    assert found is not None
    assert found[1] == {
        "cluster": "none",
        "alert_name": "ModelX",
        "alert_severity": "none",
        "pod_name": "none",
        "namespace": "none",
    }


def test_no_secret_becomes_an_input() -> None:
    """A run's inputs are shown at GitHub to all who may see its runs."""
    said = {"summary": "login failed: https://admin:hunter2@db.example.org, token=abcdefgh"}
    labels = {"alertname": "ModelUnavailable", "policy": "password=hunter2"}
    found = started(Alert("f", "2026-01-31T12:00:00Z", Status.FIRING, labels, said))
    assert found is not None
    assert found[1]["summary"] == "login failed: https://db.example.org, token=***"
    assert found[1]["policy"] == "password=***"


@pytest.mark.parametrize("sent", [alert("ScrapeFailing"), alert(""), alert("modelX"), alert(status=Status.RESOLVED)])
def test_other_alerts_start_nothing(sent: Alert) -> None:
    """An alert that no route matches starts nothing, and neither does one that is over."""
    assert started(sent) is None


def test_routes_of_ones_own_replace_the_defaults() -> None:
    """The first pattern that matches counts; an input may be the number of alerts that were kept back."""
    inputs = {"which": "labels.alertname", "where": "cluster", "why": "annotations.summary", "more": "not_dispatched"}
    routes = {"Disk*": {"workflow": "disk.yaml", "inputs": inputs}, "*": {"workflow": "any.yml", "inputs": {}}}
    expected = {"which": "DiskFull", "where": "gcp", "why": "none", "more": "3"}
    assert started(alert("DiskFull", cluster="gcp"), routes=routes) == ("disk.yaml", expected)
    assert started(alert("Else"), routes=routes) == ("any.yml", {})


def test_a_short_file_is_enough() -> None:
    """Four lines make a configuration; everything else has a default."""
    settings = parse_configuration("d.yaml", SHORT)
    assert (settings.api, settings.ref, settings.limits.per_alert) == ("https://api.github.com", "main", 6)
    assert settings.keep == 14 * 24 * 3600


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "a file that is not a YAML mapping"),
        ("a: [", "YAML that cannot be read"),
        (SHORT + "tokn_file: x\n", "tokn_file: there is no such field"),
        (SHORT.replace("acme/platform", "platform"), "repository: expected owner/name, found 'platform'"),
        (SHORT.replace("acme/platform", "acme/.."), "repository: expected owner/name"),
        (SHORT.replace("acme/platform", "a/b?x"), "repository: expected owner/name"),
        (SHORT.replace("/var/lib/dispatcher", "dispatcher"), "outbox: expected an absolute path, found 'dispatcher'"),
        (SHORT.replace("token_file: /etc/dispatcher/github-token\n", ""), "the file: expected token_file or app"),
        (SHORT + "app: {id: 7, installation: 8, key_file: /k}\n", "the file: expected token_file or app, and not both"),
        (SHORT + "limits: {per_alert: 0}\n", "limits.per_alert: expected 1 or more, found 0"),
        (SHORT + "keep: 14\n", "keep: expected 24h at least"),
        (SHORT + "keep: fortnight\n", "keep: expected a duration such as 90s"),
        (SHORT + "routes: {A: {workflow: ../x.yml, inputs: {}}}\n", "routes.A.workflow: "),
        (SHORT + "routes: {A: {workflow: x.yml, inputs: {a: pod}}}\n", "routes.A.inputs.a: expected cluster, not_disp"),
        (SHORT + "routes: {A: {workflow: x.yml}}\n", "routes.A.inputs: this field is missing"),
    ],
)
def test_each_wrong_field_is_named(text: str, found: str) -> None:
    """The error names the file, the field, what was expected and what was found."""
    with pytest.raises(InvalidInputError) as caught:
        parse_configuration("d.yaml", text)
    assert found in caught.value.problem.found
    assert str(caught.value).startswith("configuration d.yaml: expected a dispatcher's configuration")


def test_an_app_instead_of_a_token() -> None:
    """An App's id may be written as the number that GitHub shows."""
    text = SHORT.replace("token_file: /etc/dispatcher/github-token", "app: {id: 7, installation: 8, key_file: /k}", 1)
    app = parse_configuration("d.yaml", text).app
    assert app is not None
    assert app.id == "7"


def test_the_page_shows_what_holds() -> None:
    """The example in docs/alerts.md is a configuration, and the routes there are the defaults."""
    page = (CHECKOUT / "docs/alerts.md").read_text(encoding="utf-8")
    example, routes = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    defaults = parse_configuration("example", example)
    assert parse_configuration("both", example + routes) == defaults
    assert f"`{defaults.keep / 3600:g}h`" in page
    assert f"`{{per_alert: {defaults.limits.per_alert}, per_hour: {defaults.limits.per_hour}}}`" in page


def test_the_manifests_configuration_is_one() -> None:
    """What the pod mounts can be read, and keeps the defaults' routes and limits."""
    file = CHECKOUT / "manifests/platform/dispatcher/config/dispatcher.yml"
    deployed, defaults = (
        parse_configuration(file.name, file.read_text(encoding="utf-8")),
        parse_configuration("", SHORT),
    )
    assert (deployed.routes, deployed.limits, deployed.clusters) == (
        defaults.routes,
        defaults.limits,
        defaults.clusters,
    )
