"""A second model on the same platform: an Application, a policy and a registered model beside iris-classifier's."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from orchestration.promotion.policy import parse_policy
from testbeds.homelab.settings import SERVICE_PORTS
from testbeds.sandbox.processes import wait_until
from testbeds.sandbox.services import answers
from tests.homelab.lab import SETTLE_SECONDS, Lab
from tests.scenarios.look import Git
from tests.scenarios.on_homelab import HomelabEnvironment
from tests.scenarios.people import commit_and_push

NAME = "iris-twin"


@contextmanager
def another_model(lab: Lab) -> Iterator[Lab]:
    """iris-classifier under another name and NodePort, unpromoted, with a client of its own; gone afterwards."""
    first = lab.homelab.policy.model
    policies = Path(lab.environment.settings()["INCUMBENT_POLICIES"])
    text = _renamed((policies / f"{lab.environment.policy}.yaml").read_text(encoding="utf-8"), first)
    policy = parse_policy(f"{NAME}-edge", text)
    environment = HomelabEnvironment(
        replace(lab.homelab, policy=policy), lab.environment.processes, lab.environment.dagster
    )
    other = Lab(environment, lab.client)
    _deploy(lab, first)
    file = policies / f"{policy.name}.yaml"
    try:
        wait_until(lambda: answers(f"{policy.service_url}/health"), SETTLE_SECONDS, f"{NAME} serves")
        lab.client.create_registered_model(NAME)
        file.write_text(text, encoding="utf-8")
        environment.start_client()
        yield other
    finally:
        environment.stop_client()
        file.unlink(missing_ok=True)
        _withdraw(lab)


def _renamed(text: str, first: str) -> str:
    """A file of the first model as the second one's: only its name and its NodePort differ."""
    return text.replace(first, NAME).replace(str(SERVICE_PORTS[0]), str(SERVICE_PORTS[1]))


def _deploy(lab: Lab, first: str) -> None:
    """Commit the second model's manifests and its Application, and have root bring them."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(lab.environment, Path(folder))
        apps = git.folder / "argocd-apps"
        _copy(apps / f"{first}-app.yaml", apps / f"{NAME}-app.yaml", first)
        for source in sorted((git.folder / "manifests/applications" / first).iterdir()):
            _copy(source, git.folder / "manifests/applications" / NAME / source.name, first)
        listed = apps / "kustomization.yaml"
        line = f"  - {first}-app.yaml\n"
        before = listed.read_text(encoding="utf-8")
        assert before.count(line) == 1, f"{listed.name} lists {first} once"
        listed.write_text(before.replace(line, f"{line}  - {NAME}-app.yaml\n"), encoding="utf-8")
        commit_and_push(git, f"Serve {NAME} beside {first}")
    _await_application(lab, there=True)


def _copy(source: Path, target: Path, first: str) -> None:
    target.parent.mkdir(exist_ok=True)
    target.write_text(_renamed(source.read_text(encoding="utf-8"), first), encoding="utf-8")


def _withdraw(lab: Lab) -> None:
    """Take the second model out of Git; Argo CD forgets it, and what it deployed is deleted by hand."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(lab.environment, Path(folder))
        listed = git.folder / "argocd-apps/kustomization.yaml"
        lines = listed.read_text(encoding="utf-8").replace(f"  - {NAME}-app.yaml\n", "")
        listed.write_text(lines, encoding="utf-8")
        (git.folder / "argocd-apps" / f"{NAME}-app.yaml").unlink()
        shutil.rmtree(git.folder / "manifests/applications" / NAME)
        commit_and_push(git, f"Serve {NAME} no more")
    _await_application(lab, there=False)
    namespace = lab.homelab.policy.manifest.namespace
    kinds = "deployment,service,poddisruptionbudget"
    lab.homelab.edge.run("delete", kinds, f"--namespace={namespace}", f"--selector=app={NAME}", "--wait=true")


def _await_application(lab: Lab, *, there: bool) -> None:
    def as_wanted() -> bool:
        found = lab.homelab.gcp.read("application", NAME, "argocd") is not None
        if found != there:
            lab.refresh("root")
        return found == there

    wait_until(as_wanted, SETTLE_SECONDS, f"Application {NAME} is {'there' if there else 'gone'}")
