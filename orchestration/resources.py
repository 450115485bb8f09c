"""What the environment describes, as resources of Dagster, which keep the values out of what Dagster shows."""

import os
from typing import Any

import dagster as dg
from pydantic import create_model

from orchestration.environment import DEFAULTS, SETTINGS, EnvironmentPlatform
from orchestration.promotion.ports import Destination, Notifier


class _PlatformResource(dg.ConfigurableResource[EnvironmentPlatform]):
    """Gives assets and sensors the platform of the environment, as it is when they run."""

    def create_resource(self, context: dg.InitResourceContext) -> EnvironmentPlatform:
        """Return the platform; nothing is contacted yet."""
        return EnvironmentPlatform(**{field: getattr(self, field) for field in SETTINGS})


_FIELDS: dict[str, Any] = dict.fromkeys(SETTINGS, (str, ...))
PlatformResource = create_model("PlatformResource", __base__=_PlatformResource, **_FIELDS)
"""A `_PlatformResource` with a field for each setting."""


class EnvironmentNotifications(dg.ConfigurableResource):  # type: ignore[type-arg] # generic only for resources that are other values
    """Implements `Notifications` with the addresses that the environment names.

    INCUMBENT_NOTIFY_URLS is read only when it is used, because it holds secrets and no configuration may show them.
    """

    notify_file: str
    dagster_url: str

    def destinations(self) -> tuple[Destination, ...]:
        """Read where notifications go now.

        Raises:
            InvalidInputError: the file that INCUMBENT_NOTIFY_FILE names cannot be read.
        """
        from orchestration.adapters.notifier import read_destinations

        return read_destinations(self.notify_file, os.environ.get("INCUMBENT_NOTIFY_URLS", ""))

    def notifier(self) -> Notifier:
        """Return what sends notifications; nothing is contacted yet."""
        from orchestration.adapters.notifier import AppriseNotifier

        return AppriseNotifier()

    def run_url(self, run_id: str) -> str:
        """Return the address of a run's page in Dagster; empty when INCUMBENT_DAGSTER_URL is not set."""
        return f"{self.dagster_url.rstrip('/')}/runs/{run_id}" if self.dagster_url else ""


def _setting(name: str) -> str:
    # EnvVar keeps the value out of the configuration that Dagster stores and shows, but refuses an unset variable.
    return dg.EnvVar(name) if os.environ.get(name) else DEFAULTS.get(name, "")


def platform_from_environment() -> _PlatformResource:
    """Return the resource of the platform that the environment describes."""
    return PlatformResource(**{field: _setting(name) for field, name in SETTINGS.items()})


def notifications_from_environment() -> EnvironmentNotifications:
    """Return where notifications go as the environment describes it; nothing is read or contacted yet."""
    return EnvironmentNotifications(
        notify_file=_setting("INCUMBENT_NOTIFY_FILE"), dagster_url=_setting("INCUMBENT_DAGSTER_URL")
    )
