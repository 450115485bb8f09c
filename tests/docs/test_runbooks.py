"""Every alert leads to a section of the runbooks, and every section is of an alert."""

import re
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML

from tests.docs.pages import CHECKOUT

MONITORING = CHECKOUT / "manifests/platform/monitoring"
_BASE = "{{ $externalLabels.runbooks }}"


def load(path: str) -> Any:
    return YAML(typ="safe").load(CHECKOUT / path)


def alerts() -> Iterator[dict[str, Any]]:
    for path in sorted((MONITORING / "rules").glob("*.yml")):
        for group in load(str(path))["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    """A new alert needs its lines in the runbooks, and a section goes with its alert."""
    text = (CHECKOUT / "docs/runbooks.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert len(set(sections)) == len(sections)
    assert set(sections) == {alert["alert"] for alert in alerts()}


def test_every_alert_links_to_its_section() -> None:
    """The address is the page's, whose only place is Prometheus's configuration, and the heading's anchor."""
    for alert in alerts():
        assert alert["annotations"]["runbook_url"] == f"{_BASE}#{alert['alert'].lower()}", alert["alert"]


def test_the_page_is_in_the_repository_that_is_deployed() -> None:
    """The runbooks' address belongs to the repository that root names, and no alert is sent with it as a label."""
    configuration = load("manifests/platform/monitoring/config/prometheus.yml")
    repository = load("argocd-apps/root.yaml")["spec"]["source"]["repoURL"].removesuffix(".git")
    assert configuration["global"]["external_labels"] == {"runbooks": f"{repository}/blob/main/docs/runbooks.md"}
    assert configuration["alerting"]["alert_relabel_configs"] == [{"regex": "runbooks", "action": "labeldrop"}]
