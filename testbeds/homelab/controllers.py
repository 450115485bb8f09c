"""Controllers of workloads that not every platform has, brought to edge when a test asks for them.

They stay until the homelab ends. `kustomize/` has what is changed in their projects' own manifests.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bootstrap.kubectl import Document
from bootstrap.objects import namespace, secret
from testbeds.common.certificates import self_signed
from testbeds.homelab import settings
from testbeds.homelab.homelab import Homelab
from testbeds.homelab.progress import Say, phase
from testbeds.homelab.waiting import await_all, not_rolled_out

_CHANGES = Path(__file__).with_name("kustomize")
_KSERVE = "kserve"
_WEBHOOKS = f"kserve-webhook-server-service.{_KSERVE}.svc"
_SECONDS = 180.0


def bring_argo_rollouts(homelab: Homelab, say: Say) -> None:
    """Install Argo Rollouts on edge, unless it is there; without Docker, its controller is built first.

    Raises:
        ProblemError: it cannot be built, or does not come up.
    """
    _bring(homelab, "argo-rollouts", settings.ARGO_ROLLOUTS_IMAGE, (namespace("argo-rollouts"),), say)


def bring_kserve(homelab: Homelab, say: Say) -> None:
    """Install KServe on edge for raw Deployments, unless it is there; without Docker, its controller is built first.

    Its webhooks get a certificate that is made here, so that no cert-manager is needed.

    Raises:
        ProblemError: it cannot be built, or does not come up.
    """
    certificate, key = self_signed(_WEBHOOKS)
    content = {"ca.crt": certificate, "tls.crt": certificate, "tls.key": key}
    login = secret("kserve-webhook-server-cert", _KSERVE, content, type_="kubernetes.io/tls")
    _bring(homelab, _KSERVE, settings.KSERVE_IMAGE, (login,), say)


def _bring(homelab: Homelab, program: str, image: str, beside: Sequence[Document], say: Say) -> None:
    if not not_rolled_out(homelab.edge, program):
        return
    homelab.supply.provide(image, homelab.registry_url, say)
    with phase(f"{program}'s manifests applied", say), tempfile.TemporaryDirectory() as folder:
        _write_kustomization(Path(folder), homelab.supply.manifest(program, say), program, beside)
        built = homelab.edge.run("kustomize", "--load-restrictor=LoadRestrictionsNone", folder, seconds=_SECONDS)
        homelab.edge.run("apply", "--server-side", "--filename=-", stdin=built, seconds=_SECONDS)
    await_all(f"{program} is up", lambda: not_rolled_out(homelab.edge, program), _SECONDS, say)


def _write_kustomization(folder: Path, upstream: str, program: str, beside: Sequence[Document]) -> None:
    """Write a kustomization of upstream's manifests, the homelab's changes to them, and more objects."""
    for number, document in enumerate(beside):
        (folder / f"beside-{number}.json").write_text(json.dumps(document), encoding="utf-8")

    def reached(place: str | Path) -> str:
        return os.path.relpath(place, folder.resolve())  # kustomize refuses absolute paths

    kustomization = {
        "resources": [
            upstream if "://" in upstream else reached(upstream),
            *(f"beside-{number}.json" for number in range(len(beside))),
        ],
        "components": [reached(_CHANGES / program)],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization), encoding="utf-8")  # JSON is YAML
