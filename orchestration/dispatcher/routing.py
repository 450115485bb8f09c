"""Which workflow an alert starts, and with which inputs."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from orchestration.dispatcher.configuration import Configuration, Route
from orchestration.dispatcher.notification import Alert, Status
from orchestration.promotion.redact import redact

MISSING = "none"
"""The value of an input whose label or annotation the alert does not have: GitHub refuses an empty required input."""


def route_of(alert: Alert, routes: Mapping[str, Route]) -> Route | None:
    """Return the first route whose pattern matches; None for an alert that starts nothing.

    What is over needs no analysis, so a resolved alert starts nothing either.
    """
    if alert.status is Status.RESOLVED:
        return None
    return next((route for pattern, route in routes.items() if fnmatchcase(alert.name, pattern)), None)


def inputs_of(alert: Alert, route: Route, configuration: Configuration, not_dispatched: int) -> dict[str, str]:
    """Fill a workflow's inputs from an alert, without secrets: whoever may see a run at GitHub sees its inputs.

    Args:
        alert: The alert.
        route: Where it goes.
        configuration: Has the names of the clusters.
        not_dispatched: How many alerts of its name were kept back since the last run.
    """

    def value(source: str) -> str:
        kind, _, name = source.partition(".")
        match kind:
            case "cluster":
                label = alert.labels.get("cluster", "")
                return configuration.clusters.get(label, label)
            case "not_dispatched":
                return str(not_dispatched)
            case "labels":
                return alert.labels.get(name, "")
            case _:
                return alert.annotations.get(name, "")

    return {name: redact(value(source)).strip() or MISSING for name, source in route.inputs.items()}
