"""The dispatcher's configuration: one small YAML file, in which most fields have a default."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestration.promotion.duration_fields import Seconds
from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.yaml_mapping import read_yaml_mapping

LOG_ANALYSIS = {
    "cluster": "cluster",
    "alert_name": "labels.alertname",
    "alert_severity": "labels.severity",
    "pod_name": "labels.pod",
    "namespace": "labels.namespace",
}
POLICY_ANALYSIS = {**LOG_ANALYSIS, "policy": "labels.policy", "summary": "annotations.summary"}
"""For an alert that names no pod: its policy, and its own words, tell what it is about."""
DRIFT_DETECTION = {
    "model_name": "labels.model",
    "current_accuracy": "annotations.current_accuracy",
    "baseline_accuracy": "annotations.baseline_accuracy",
    "policy": "labels.policy",
    "version": "labels.version",
}
_SOURCE = re.compile(r"cluster|not_dispatched|(?:labels|annotations)\.[A-Za-z_][A-Za-z0-9_]*")
_MOST_INPUTS = 25
"""Of a workflow's `workflow_dispatch`, as GitHub documents it."""
_DAY = 24 * 3600.0


def _is_source(value: str) -> str:
    if not _SOURCE.fullmatch(value):
        raise ValueError(
            f"expected cluster, not_dispatched, labels.NAME or annotations.NAME, found {value!r}: an input is filled "
            "from the alert"
        )
    return value


def _is_repository(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", value) or value.endswith(("/.", "/..")):
        raise ValueError(f"expected owner/name, found {value!r}")
    return value


def _is_absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError(f"expected an absolute path, found {str(value)!r}")
    return value


def _is_long(value: float) -> float:
    if value < _DAY:
        raise ValueError("expected 24h at least: Alertmanager repeats an alert, which is then not recognised")
    return value


AbsolutePath = Annotated[Path, AfterValidator(_is_absolute)]
Source = Annotated[str, AfterValidator(_is_source)]
Count = Annotated[int, Field(ge=1, le=10_000, strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Route(_Part):
    """What an alert starts."""

    workflow: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+\.ya?ml$")]
    """The file below `.github/workflows`."""
    inputs: Annotated[Mapping[str, Source], Field(max_length=_MOST_INPUTS)]
    """The workflow's inputs, each with where its value comes from."""


class App(_Part):
    """A GitHub App, which needs the permission `actions: write` on the repository."""

    id: Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]
    installation: Annotated[int, Field(ge=1, strict=True)]
    key_file: AbsolutePath


class Limits(_Part):
    """How many runs may be started in an hour; alerts beyond them are kept and counted, and start none."""

    per_alert: Count = 6
    """Of alerts of one name."""
    per_hour: Count = 60
    """Of all alerts together."""


class Configuration(_Part):
    """What the dispatcher does with which alert."""

    repository: Annotated[str, AfterValidator(_is_repository)]
    token_file: AbsolutePath | None = None
    """With a fine-grained token that has the permission `actions: write`; or else `app`."""
    app: App | None = None
    webhook_token_file: AbsolutePath
    """With the token that callers must send."""
    outbox: AbsolutePath
    """The folder in which accepted alerts are kept."""
    api: str = "https://api.github.com"
    ref: Annotated[str, Field(min_length=1)] = "main"
    """The branch or tag whose workflow files run."""
    clusters: Mapping[str, str] = {"edge": "k3d"}
    """What the workflows call a cluster, by the alerts' label `cluster`; others keep their name."""
    routes: Mapping[str, Route] = {
        "ModelAccuracy*": Route(workflow="ai-drift-detection.yml", inputs=DRIFT_DETECTION),
        "ModelErrorBudget*": Route(workflow="ai-log-analysis.yml", inputs=POLICY_ANALYSIS),
        "ModelMissesSLO": Route(workflow="ai-log-analysis.yml", inputs=POLICY_ANALYSIS),
        "ModelUnavailable": Route(workflow="ai-log-analysis.yml", inputs=POLICY_ANALYSIS),
        "ModelEvaluation*": Route(workflow="ai-log-analysis.yml", inputs=POLICY_ANALYSIS),
        "ModelService*": Route(workflow="ai-log-analysis.yml", inputs=POLICY_ANALYSIS),
        "Model*": Route(workflow="ai-log-analysis.yml", inputs=LOG_ANALYSIS),
    }
    """By a pattern of alert names, in which `*` stands for any characters; the first that matches counts."""
    limits: Limits = Limits()
    keep: Annotated[Seconds, AfterValidator(_is_long)] = 14 * _DAY
    """How long alerts are kept after they were dispatched or given up, and how long one may wait."""

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if (self.token_file is None) == (self.app is None):
            raise ValueError("expected token_file or app, and not both")
        return self


def parse_configuration(name: str, text: str) -> Configuration:
    """Read a configuration.

    Args:
        name: The file's path, by which errors name it.
        text: Its content.

    Raises:
        InvalidInputError: it cannot be used as it stands; the problem names every wrong field.
    """
    try:
        return Configuration.model_validate(read_yaml_mapping(text))
    except ValidationError as error:  # a ValueError, too
        found = "; ".join(field_faults(error, "the file"))
    except ValueError as error:
        found = str(error)
    expected = "a dispatcher's configuration as docs/alerts.md describes it"
    raise InvalidInputError(Problem(f"configuration {name}", expected, found, f"Correct {name}."))
