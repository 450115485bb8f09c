"""What the warm process imports before it forks: all that a promotion uses, and that may be there in one thread."""

import importlib
import os
import pkgutil
from pathlib import Path

DEFINITIONS = "orchestration.definitions"
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""By which libraries of numbers start no threads when they are imported: a process with threads cannot be forked."""
_USED = (
    "alembic.command",
    "dagster._cli.api",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.instance.runs.run_domain",
    "dagster._core.storage.event_log.sqlite",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.migration.utils",
    "dagster._core.storage.root",
    "dagster._core.storage.runs.sqlite",
    "dagster._core.storage.schedules.sqlite",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.storage.upath_io_manager",
    "dagster._core.system_config.composite_descent",
    "dagster._core.utility_ops",
    "dagster._core.workspace.autodiscovery",
    "dagster._daemon.daemon",
    "dagster._utils.test.definitions",
    "sqlalchemy.dialects.sqlite",
    "upath.implementations.local",
    "google.protobuf.json_format",
    "mlflow.models",
    "mlflow.store.artifact.artifact_repository_registry",
    "mlflow.store.artifact.mlflow_artifacts_repo",
    "kubernetes.client",
    "kubernetes.config",
    "git.cmd",
    "httpx2",
    "stamina",
    "ruamel.yaml",
    "yaml",
)
"""What Dagster and the clients import when they are first used; a test says when a run imports anything more."""


def preload() -> None:
    """Import the definitions, the adapters and the libraries that a run needs.

    Raises:
        Exception: whatever importing them raises.
    """
    from orchestration import adapters
    from orchestration.adapters.mlflow_registry import import_client

    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        import_client()
        for name in (DEFINITIONS, *_USED):
            importlib.import_module(name)
        for found in pkgutil.walk_packages(adapters.__path__, f"{adapters.__name__}."):
            importlib.import_module(found.name)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def threads() -> int:
    """Count this process's threads, those of libraries included."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208  names are what is counted


def code_version() -> tuple[tuple[str, int], ...]:
    """Return when each file of this package was changed, and when packages were installed or removed beside it."""
    package = Path(importlib.import_module("orchestration").__path__[0]).resolve()
    files = [(str(file), file.stat().st_mtime_ns) for file in sorted(package.rglob("*.py"))]
    installed = Path(importlib.import_module("dagster").__path__[0]).parent
    return (*files, (str(installed), installed.stat().st_mtime_ns))
