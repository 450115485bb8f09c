"""How MLflow lets us in: its client's own settings, and which of them an error is about."""

from __future__ import annotations

import configparser
import os
from typing import TYPE_CHECKING

from orchestration.adapters.paths import path_of
from orchestration.adapters.tls_files import TlsFile, TlsFiles
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.texts import one_line

if TYPE_CHECKING:
    from mlflow.utils.rest_utils import MlflowHostCreds

AUTHORITIES, CERTIFICATE = "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"
LOGIN = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to the pipeline's account, or MLFLOW_TRACKING_TOKEN to "
    "its token."
)
_PACKAGES = {"requests_auth_aws_sigv4": "requests-auth-aws-sigv4, with which MLFLOW_TRACKING_AWS_SIGV4 signs requests"}
"""What MLflow's client imports when a setting asks for it, and does not bring."""


def expand_paths() -> None:
    """Put home folders into those of the client's settings that are paths, which it opens as they are.

    Raises:
        InvalidInputError: one stands for no folder.
    """
    for name in (AUTHORITIES, CERTIFICATE):
        if (value := os.environ.get(name, "")).startswith("~"):
            os.environ[name] = str(path_of(value, name))


def require_certificates() -> None:
    """Read the certificates that the settings name; the client's own errors name no setting.

    Raises:
        DependencyError: one of them cannot be read, or is not what it should be.
    """
    authorities, certificate = (
        TlsFile(path_of(os.environ[name], name), name) if os.environ.get(name) else None
        for name in (AUTHORITIES, CERTIFICATE)
    )
    if authorities or certificate:
        TlsFiles(authorities, certificate).context()


def credentials_for(url: str) -> MlflowHostCreds:
    """Return the login that the client uses for a server.

    Raises:
        InvalidInputError: its settings contradict each other, or cannot be read.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds

    try:
        found: MlflowHostCreds = get_default_host_creds(url)  # type: ignore[no-untyped-call]
    except configparser.Error:  # its text quotes the file
        raise _refused("a file ~/.mlflow/credentials that cannot be read") from None
    except (MlflowException, ValueError, OSError) as error:
        raise _refused(one_line(str(error))) from None
    if bool(found.username) != bool(found.password):
        raise _refused("only one of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
    if found.username and found.token:
        raise _refused("both MLFLOW_TRACKING_TOKEN and MLFLOW_TRACKING_USERNAME, of which the token would be left out")
    if found.token and not (found.token.isascii() and found.token.isprintable()):
        raise _refused("an MLFLOW_TRACKING_TOKEN with a line end, or other characters that no header can have")
    return found


def _refused(found: str) -> InvalidInputError:
    subject, expected = "the login of MLflow's client (MLFLOW_TRACKING_...)", "one login that can be sent"
    next_step = "Correct what it names, or unset it; a login may also be in ~/.mlflow/credentials."
    return InvalidInputError(Problem(subject, expected, found, next_step))


def step_of(message: str) -> str | None:
    """Return the next step for an error that only its message tells; None when it tells nothing."""
    if "workspace" in message.lower():
        return "Set MLFLOW_WORKSPACE to the workspace of the models, or unset it for a server without workspaces."
    if "failed with error code 3" in message or "not in a valid JSON format" in message:
        page = "What answers is not MLflow's API, but perhaps a proxy where people log in."
        return f"{page} Correct MLFLOW_TRACKING_URI (https in place of http?), or log in: {LOGIN}"
    if message.startswith("Invalid url"):  # ours was looked at before
        return "Correct HTTP_PROXY and HTTPS_PROXY."
    return None


def how_to_install(package: str | None) -> str:
    """Return the next step where a package is missing that MLflow does not bring."""
    if package in _PACKAGES:
        return f"Install {_PACKAGES[package]}."
    return "Install what reads it: 'incumbent[aws]', google-cloud-storage, or azure-storage-blob."
