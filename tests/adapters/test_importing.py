"""The clients' libraries, whose first import takes seconds, are imported by one thread at a time."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from orchestration.adapters.clock import SystemClock
from orchestration.adapters.clusters import KubernetesCluster
from orchestration.adapters.git.login import Login
from orchestration.adapters.git.repository import GitRepository
from orchestration.adapters.importing import importing
from orchestration.adapters.mlflow_registry import MlflowRegistry
from orchestration.adapters.notifier import AppriseNotifier
from orchestration.adapters.service import HttpService
from orchestration.promotion.notifying import Message, Tone
from orchestration.promotion.ports import Destination
from orchestration.promotion.problems import ProblemError
from tests.adapters.kubeconfigs import write_kubeconfig

NOWHERE = "http://127.0.0.1:1"


class StoppedError(Exception):
    """The library is not imported after all."""


class Watcher:
    """Stands before all other finders, and notes whether a library is looked for while imports are one at a time."""

    def __init__(self, library: str) -> None:
        self.library, self.alone = library, list[bool]()

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name == self.library:
            self.alone.append(not _others_may_import())
            raise StoppedError
        return None


def _others_may_import() -> bool:
    got: list[bool] = []

    def try_to() -> None:
        got.append(importing.acquire(blocking=False))
        if got[0]:
            importing.release()

    other = threading.Thread(target=try_to)
    other.start()
    other.join()
    return got[0]


@contextlib.contextmanager
def watched(library: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    """Let a library be unknown to this process, and stop its import."""
    watcher = Watcher(library)
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
            patch.delitem(sys.modules, name)
        patch.setattr(sys, "meta_path", [watcher, *sys.meta_path])
        yield watcher


ASKING: dict[str, Callable[[Path], object]] = {
    "mlflow": lambda _: MlflowRegistry(NOWHERE).ping(),
    "kubernetes": lambda folder: KubernetesCluster(write_kubeconfig(folder, NOWHERE), "edge").ready(),
    "httpx2": lambda _: HttpService().reach(NOWHERE, {}, 1.0),
    "stamina": lambda _: HttpService().reach(NOWHERE, {}, 1.0),
    "git": lambda folder: GitRepository(
        f"{NOWHERE}/gitops.git", "main", login=Login(), state=folder, clock=SystemClock()
    ).fetch(),
    "apprise": lambda _: AppriseNotifier().send(Destination("a", "json://127.0.0.1:1"), Message("t", "b", Tone.INFO)),
}


@pytest.mark.parametrize("library", ASKING)
def test_a_library_is_imported_by_one_thread_at_a_time(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sensors and commands ask all services at once; side by side, packages were handed out half imported."""
    assert _others_may_import()
    with watched(library, monkeypatch) as watcher, contextlib.suppress(StoppedError, ProblemError):
        ASKING[library](tmp_path)
    assert watcher.alone == [True]
    assert _others_may_import()
