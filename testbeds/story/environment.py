"""What a story needs from the testbed on which it plays: the sandbox or the homelab."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from testbeds.story.seen import Serving


class Environment(Protocol):
    """A platform with a healthy baseline, with the story's versions trained and none of them promoted."""

    policy: str
    model: str
    challenger_alias: str
    champion_alias: str
    manifest: str
    """The path of the file that a promotion edits."""
    image_repository: str
    judge_within: float
    """The policy's time for a verdict, in seconds."""
    mlflow_url: str
    service_url: str
    git_url: str
    git_branch: str
    git_token_file: Path
    client_log: Path
    """The log of the client that sends requests throughout."""
    logs: Path
    """The folder with every service's log, for finding out what went wrong."""

    def settings(self) -> Mapping[str, str]:
        """Return the environment variables from which the pipeline learns where everything is."""

    def publish(self, version_uri: str, tag: str, **faults: str) -> str:
        """Publish an image that serves the model at that URI (`models:/<name>/<version>`) and return its digest.

        `faults` are settings of `model_server/faults.py` that say what is wrong with the image.
        """

    def serving(self) -> tuple[Serving, ...]:
        """Ask every serving process what it serves, directly and not through the service."""

    def scale(self, replicas: int) -> None:
        """Set the model's number of pods as an autoscaler does: on the live Deployment, and not in Git."""

    def refresh(self) -> None:
        """Have Argo CD look at Git now, as a person does who does not want to wait for its next round."""

    def watch_services(self) -> "Watch":
        """Start watching the services that this testbed runs as processes."""

    def start_client(self) -> None:
        """Start sending requests to `service_url` and logging their outcomes."""

    def stop_client(self) -> None:
        """Stop sending requests; the log is complete afterwards."""

    def start_dagster(self) -> None:
        """Start the daemon and turn the registry's sensor on."""

    def stop_dagster(self) -> None:
        """Stop the daemon and the web server."""

    def lose_dagster(self) -> None:
        """Kill everything of Dagster, runs included, and forget all that it stored; it can be started again."""

    def ask_dagster(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Ask Dagster's GraphQL and return the answer's data; empty when the answer is an error."""

    def run_processes(self) -> set[int]:
        """Return the process ids of the runs that Dagster considers started."""


class Watch(Protocol):
    """What the services log while a story waits, from the start of the watch."""

    def has_failed(self) -> bool:
        """Check for services that have ended although they should be running; without them no promotion goes on."""

    def new_errors(self) -> Sequence[str]:
        """Return the errors that services have logged since the last call, each cause once."""

    def report(self) -> str:
        """Describe ended services and logged errors for finding out why nothing happens."""
