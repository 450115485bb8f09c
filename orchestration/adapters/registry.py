"""The model registry: MLflow, over its documented REST API.

Why not MLflow's own client: importing it costs 7 seconds of CPU and 170 MB in every run and in the sensor's process,
and stands between an alias and its commit. It also tries each request again, writes included, 7 times 120 seconds
long unless the process environment says otherwise, downloads artifacts without a limit, and follows whatever address
a version's `source` names. A promotion needs ten calls. The tests create what these calls read with MLflow's client,
against MLflow's server, so that both are held to the same words.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from orchestration.adapters.http import HttpClient, Reply, TooLargeError, require_plain_url, secrets_of
from orchestration.adapters.mlflow_json import parse_input_example, parse_run, parse_signature, parse_version
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.registered import ModelVersion, Signature, TrainingRun

ARTIFACT_CAP = 10 * 1024 * 1024
_MLMODEL_CAP = 1024 * 1024
_MAX_TAG_KEY = 250
_MAX_TAG_VALUE = 5000
"""Characters that each MLflow 3 server takes; newer ones take more."""
_MAX_VERSION = 2**31 - 1
"""What MLflow's database columns hold; a greater number is answered with a 500."""
_API = "/api/2.0/mlflow/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}")
_MODEL_ID = re.compile(r"models:/(m-[\w-]{1,255})/?")


class MlflowRegistry:
    """Plays the port `Registry` against an MLflow 3 server that proxies its artifacts (`--serve-artifacts`).

    Credentials and TLS come from MLflow's own settings (`MLFLOW_TRACKING_USERNAME` and `_PASSWORD` or `_TOKEN`,
    `_INSECURE_TLS`, `_SERVER_CERT_PATH`) in `environ`, the process environment by default.
    """

    def __init__(self, tracking_uri: str, environ: Mapping[str, str] | None = None) -> None:
        """Contact nothing yet.

        Raises:
            InvalidInputError: the URI is not http(s), or has a password in it.
        """
        environ = os.environ if environ is None else environ
        self._url = require_plain_url("setting MLFLOW_TRACKING_URI", tracking_uri)
        user, password = environ.get("MLFLOW_TRACKING_USERNAME"), environ.get("MLFLOW_TRACKING_PASSWORD")
        token = environ.get("MLFLOW_TRACKING_TOKEN")
        insecure = environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
        basic = (user, password) if user and password else None
        self._http = HttpClient(
            subject=f"MLflow at {self._url}",
            next_step="Look whether the server runs and whether MLFLOW_TRACKING_URI and its credentials are right.",
            auth=basic,
            headers={"Authorization": f"Bearer {token}"} if token and not basic else None,
            verify=False if insecure else environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True,
            secrets=(*(secrets_of(*basic) if basic else ()), *((token,) if token else ())),
        )

    def ping(self) -> None:
        # Not /health: that one answers without asking the database, and without credentials.
        reply = self._get("registered-models/search", max_results="1")
        if reply.status != 200 or not isinstance(reply.json(), dict):
            raise self._http.unexpected(reply, "a list of registered models")

    def version_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        reply = self._get("registered-models/alias", name=model, alias=alias)
        # Never from a search: its answers may leave the aliases out (mlflow#16734). Of a model that is there, a missing
        # alias is an INVALID_PARAMETER_VALUE, and so is an alias that can never be: the message tells them apart.
        if _error_code(reply) == "INVALID_PARAMETER_VALUE" and _message(reply).endswith("not found."):
            return None
        return self._version(reply, f"the version that alias {alias} of {model} names")

    def version(self, model: str, version: int) -> ModelVersion | None:
        if not 0 < version <= _MAX_VERSION:
            return None
        reply = self._get("model-versions/get", name=model, version=str(version))
        return self._version(reply, f"version {version} of {model}")

    def run(self, run_id: str) -> TrainingRun | None:
        found = self._run(run_id)
        return None if found is None else parse_run(found)

    def signature(self, version: ModelVersion) -> Signature | None:
        folder = self._model_folder(version)
        content = (
            None
            if folder is None
            else self._download(f"{folder}/MLmodel", f"the MLmodel file of {version}", _MLMODEL_CAP)
        )
        if content is None:
            return None
        try:
            return parse_signature(content)
        except ValueError as error:
            raise DependencyError(
                Problem(
                    f"the MLmodel file of {version}",
                    "a signature as MLflow writes it",
                    str(error),
                    "Log the model again with mlflow's log_model and a signature.",
                )
            ) from error

    def input_example(self, version: ModelVersion) -> tuple[tuple[object, ...], ...] | None:
        folder = self._model_folder(version)
        what = f"the input example of {version}"
        content = None if folder is None else self._download(f"{folder}/serving_input_example.json", what)
        return None if content is None else parse_input_example(content)

    def artifact(self, run_id: str, path: str) -> bytes | None:
        path = _safe_path(path)
        root = self._artifact_root(run_id)
        return None if root is None else self._download(f"{root}/{path}", f"artifact {path} of run {run_id}")

    def put_artifact(self, run_id: str, path: str, content: bytes) -> None:
        path = _safe_path(path)
        root = self._artifact_root(run_id)
        if root is None:
            raise self._http.failure("no such run", f"run {run_id}", "Look whether the run was deleted.")
        reply = self._http.send("PUT", f"{self._url}{_ARTIFACTS}{quote(f'{root}/{path}')}", content=content)
        if reply.status != 200:
            raise self._http.unexpected(reply, f"artifact {path} of run {run_id} to be stored")

    def write_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Write the tags one by one, in the mapping's order; values that are too long end in an ellipsis."""
        for key, value in tags.items():
            if len(key) > _MAX_TAG_KEY:
                raise InvalidInputError(
                    Problem(
                        f"tag {key}", f"{_MAX_TAG_KEY} characters at most", f"{len(key)}", "Shorten the policy's name."
                    )
                )
            cut = value if len(value) <= _MAX_TAG_VALUE else value[: _MAX_TAG_VALUE - 1] + "…"
            self._post(
                "model-versions/set-tag",
                {"name": version.model, "version": str(version.version), "key": key, "value": cut},
                f"tag {key} of {version} to be written",
            )

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        self._post(
            "registered-models/alias",
            {"name": version.model, "alias": alias, "version": str(version.version)},
            f"alias {alias} to be set to {version}",
        )

    def version_url(self, version: ModelVersion) -> str:
        return f"{self._url}/#/models/{quote(version.model, safe='')}/versions/{version.version}"

    def _get(self, call: str, **params: str) -> Reply:
        return self._http.get(f"{self._url}{_API}{call}", params=params)

    def _post(self, call: str, document: dict[str, str], expected: str) -> None:
        reply = self._http.send_json("POST", f"{self._url}{_API}{call}", document)
        if reply.status != 200:
            raise self._http.unexpected(reply, expected)

    def _version(self, reply: Reply, expected: str) -> ModelVersion | None:
        if _error_code(reply) == "RESOURCE_DOES_NOT_EXIST":
            return None
        parsed = parse_version(_part(reply, "model_version")) if reply.status == 200 else None
        if parsed is None:
            raise self._http.unexpected(reply, expected)
        return parsed

    def _run(self, run_id: str) -> dict[str, Any] | None:
        if not _RUN_ID.fullmatch(run_id):
            return None
        reply = self._get("runs/get", run_id=run_id)
        if _error_code(reply) == "RESOURCE_DOES_NOT_EXIST":
            return None
        found = _part(reply, "run")
        if reply.status != 200 or not isinstance(found.get("info"), dict):
            raise self._http.unexpected(reply, f"run {run_id}")
        return None if found["info"].get("lifecycle_stage") == "deleted" else found

    def _artifact_root(self, run_id: str) -> str | None:
        found = self._run(run_id)
        return None if found is None else self._proxied(str(found["info"].get("artifact_uri")), f"run {run_id}")

    def _model_folder(self, version: ModelVersion) -> str | None:
        reply = self._get("model-versions/get-download-uri", name=version.model, version=str(version.version))
        if _error_code(reply) == "RESOURCE_DOES_NOT_EXIST":
            return None
        document = reply.json()
        if reply.status != 200 or not isinstance(document, dict):
            raise self._http.unexpected(reply, f"the location of {version}")
        uri = str(document.get("artifact_uri"))
        model_id = _MODEL_ID.fullmatch(uri)
        if model_id is not None:
            reply = self._get(f"logged-models/{model_id[1]}")
            if _error_code(reply) == "RESOURCE_DOES_NOT_EXIST":
                return None
            if reply.status != 200:
                raise self._http.unexpected(reply, f"logged model {model_id[1]}")
            info = _part(reply, "model").get("info")
            uri = str(info.get("artifact_uri")) if isinstance(info, dict) else ""
        return self._proxied(uri, str(version))

    def _proxied(self, uri: str, subject: str) -> str:
        """The path under the server's artifact proxy; another place is refused, because anyone may write there."""
        parts = urlsplit(uri)
        own = parts.netloc in ("", urlsplit(self._url).netloc)
        path = parts.path.strip("/")
        if parts.scheme != "mlflow-artifacts" or not own or parts.query or not _is_safe(path):
            raise self._http.failure(
                uri,
                f"the artifacts of {subject} under mlflow-artifacts:/",
                "Start the MLflow server with --serve-artifacts and log the run in an experiment made since.",
            )
        return path

    def _download(self, path: str, what: str, cap: int = ARTIFACT_CAP) -> bytes | None:
        try:
            reply = self._http.get(f"{self._url}{_ARTIFACTS}{quote(path)}", cap=cap)
        except TooLargeError as error:
            raise self._http.failure(error.problem.found, f"{what} of {cap} bytes at most") from error
        if _error_code(reply) == "RESOURCE_DOES_NOT_EXIST":
            return None
        if reply.status != 200:
            raise self._http.unexpected(reply, what)
        return reply.body


def _part(reply: Reply, name: str) -> dict[str, Any]:
    document = reply.json()
    part = document.get(name) if isinstance(document, dict) else None
    return part if isinstance(part, dict) else {}


def _error_code(reply: Reply) -> str | None:
    """MLflow's own word for what is wrong; None for an answer that is no error of MLflow's."""
    document = reply.json() if reply.status >= 400 else None
    return document.get("error_code") if isinstance(document, dict) else None


def _message(reply: Reply) -> str:
    document = reply.json()
    return str(document.get("message", "")) if isinstance(document, dict) else ""


def _is_safe(path: str) -> bool:
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not any(part in ("", ".", "..") for part in parts)


def _safe_path(path: str) -> str:
    if not _is_safe(path):
        raise InvalidInputError(
            Problem("an artifact's path", "a relative path inside the run's artifacts", repr(path), "Correct the path.")
        )
    return path
