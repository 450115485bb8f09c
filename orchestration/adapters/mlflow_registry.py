"""The model registry: MLflow, through its own client.

This module translates and guards: MLflow's client follows whatever address a version names, downloads without a limit,
sends paths unquoted and waits for minutes. It is imported at the first call, because that takes 5 seconds.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urlsplit

from orchestration.adapters.exchange import excerpt, time_of_answer
from orchestration.adapters.http import require_plain_url
from orchestration.adapters.importing import importing
from orchestration.adapters.mlflow_access import (
    LOGIN,
    credentials_for,
    expand_paths,
    how_to_install,
    require_certificates,
    step_of,
)
from orchestration.adapters.mlflow_values import (
    EVALUATED,
    evaluation_entities,
    evaluation_of,
    metrics_of,
    read_example,
    read_signature,
    run_of,
    run_of_model,
    version_of,
)
from orchestration.promotion.input_drift import FeatureDrift
from orchestration.promotion.logged_model import with_model_metrics
from orchestration.promotion.mlflow_versions import HOW_TO_UPGRADE, OLDEST, SENDS_ANY_NAME, is_older, is_too_old
from orchestration.promotion.model_version import ModelVersion, Signature, TrainingRun
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.served_quality import ServedQuality
from orchestration.promotion.serving_protocols import Example
from orchestration.promotion.texts import read_json_object

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion as Entity
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from requests import Response

ARTIFACT_CAP = 10 * 1024 * 1024
_MLMODEL_CAP = 1024 * 1024
_MAX_TAG_KEY = 250
_MAX_TAG_VALUE = 5000
"""Characters that every MLflow 3 server accepts; newer ones accept more."""
_MAX_VERSION = 2**31 - 1
"""The largest number that MLflow's database columns hold; it answers a greater one with a 500."""
EVALUATIONS = "incumbent-evaluations"
"""The experiment whose runs keep what evaluations of served champions found."""
_PAGE = 1000
"""Versions per page of a search."""
_SEARCHED, _SEARCHED_CHARACTERS = 200, 4000
"""Models that are searched for at once, and how long their names may be together: they are part of the address."""
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404
_SHOWN = 500
"""Characters of MLflow's message that an error shows."""
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}")
_QUOTED = re.compile(r"%[0-9a-fA-F]{2}")
_OBJECT_STORAGE = ("s3", "gs", "wasbs", "abfss")
_STORAGE_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("boto3.exceptions", "Boto3Error"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)
_STORAGE = (
    "Check that the pipeline's environment has credentials for that bucket (AWS_..., GOOGLE_APPLICATION_CREDENTIALS or "
    "AZURE_...; MLFLOW_S3_ENDPOINT_URL for an S3 that is not Amazon's)."
)
_TLS = (
    "Set MLFLOW_TRACKING_SERVER_CERT_PATH to the authority that signed the server's certificate; where the server asks "
    "for ours, set MLFLOW_TRACKING_CLIENT_CERT_PATH."
)
_PREFIX = (
    "Correct MLFLOW_TRACKING_URI: the path prefix of a proxy belongs to it, and that of --static-prefix from MLflow "
    "3.12 on, but not before."
)
_WEBHOOK = (
    "Start incumbent companion --mlflow-webhook FILE with the same secret. A server sends to http:// only with "
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https, and to private addresses only with "
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true."
)
_PROXIED = "mlflow-artifacts"
"""The scheme of what goes through the server."""
_MODEL_ID = re.compile(r"models:/(m-[\w-]{1,255})/?")
_MODEL_FOLDER = re.compile(r"/models/(m-[\w-]{1,255})/artifacts/?$")
"""Where servers put the files of a logged model."""

CLIENT_DEFAULTS: Mapping[str, str] = {
    # MLflow's own defaults are 7 retries of 120 seconds; with these, a dead server is noticed within 16 seconds. The
    # client repeats writes too; those made here (tags, aliases, whole artifacts) can be repeated without harm.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "1",
    # Neither a server nor anything that answers in its place decides how long the pipeline sleeps, or whom it asks.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    # Through the proxy, not from a presigned address elsewhere; this also saves asking whether such addresses exist.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # Amazon's client would wait a minute for a connection, and try five times.
    "AWS_DEFAULTS_MODE": "standard",
    "AWS_MAX_ATTEMPTS": "2",
}
"""Settings of MLflow's client that the first call sets for this process, unless the environment has them already."""


class MlflowRegistry:
    """Implements the `Registry` port with an MLflow 3 server that proxies its artifacts (`--serve-artifacts`), or not.

    Credentials, TLS and the rest come from MLflow's own settings (`MLFLOW_TRACKING_USERNAME`, ...). The first call puts
    those of `CLIENT_DEFAULTS` that are missing into the process's environment.
    """

    def __init__(self, tracking_uri: str, artifact_roots: Sequence[str] = ()) -> None:
        """Contact and import nothing yet.

        Args:
            tracking_uri: the server's address, with its path prefix if it has one.
            artifact_roots: below which of these places artifacts may be read and written that are not behind the
                server's proxy; made by `parse_roots`.

        Raises:
            InvalidInputError: the address is not http(s), or has a password in it.
        """
        self._url = require_plain_url("setting MLFLOW_TRACKING_URI", tracking_uri)
        self._roots = tuple(artifact_roots)

    def __str__(self) -> str:
        return f"MLflow at {self._url}"

    @cached_property
    def _client(self) -> MlflowClient:
        expand_paths()
        require_certificates()
        return import_client()(self._url, self._url)

    def ping(self) -> None:
        """Raise `DependencyError` unless a server that is new enough answers, with these credentials and its database.

        A server that does not tell its version may be behind a proxy that shows the API alone, or before 3.12 with
        `--static-prefix`, which moves the page. It must know what came with MLflow 3.
        """
        # Not by /health, which answers without credentials and without asking the database.
        with self._asking("a list of registered models"):
            self._client.search_registered_models(max_results=1)
        version = self.server_version()
        found = "a server without logged models, which is older" if version is None and not self._is_mlflow_3() else ""
        if version is not None and is_too_old(version):
            found = f"version {version}"
        if found:
            raise self._failure(found, f"a server of version {OLDEST} or newer", HOW_TO_UPGRADE)

    def server_version(self) -> str | None:
        """Ask the server for its version; None when what answers has no such page."""
        status, body = self._page("/version")
        text = body.strip()
        return text if status == 200 and re.fullmatch(r"[0-9][0-9A-Za-z.+-]{0,63}", text) else None

    def server_time(self) -> float | None:
        """Ask the server for its time, in whole seconds since the epoch; None when its answer does not say so."""
        return time_of_answer(self._answer("/version").headers.get("Date"))

    def register_webhook(self, name: str, to: str, secret: str, events: Sequence[str]) -> None:
        """Let the server tell of events from now on; one of that name is changed, and the server tries it.

        Args:
            name: the webhook's name.
            to: the address that it sends to.
            secret: what it signs with.
            events: what it tells of, such as `model_version_alias.created`.

        Raises:
            DependencyError: the server does not answer, refuses, or did not get through to that address.
        """
        with self._asking(f"a webhook {name}"):
            from mlflow.entities.webhook import WebhookEvent, WebhookEventStr

            told_of: list[WebhookEventStr | WebhookEvent] = [WebhookEvent(*event.split(".")) for event in events]
            page = self._client.list_webhooks()
            known = list(page)
            while page.token:
                page = self._client.list_webhooks(page_token=page.token)
                known += page
            there = next((each.webhook_id for each in known if each.name == name), None)
            if there is None:
                there = self._client.create_webhook(name, to, told_of, secret=secret).webhook_id
            else:
                self._client.update_webhook(there, url=to, events=told_of, secret=secret, status="ACTIVE")
            tried = self._client.test_webhook(there)
        if not tried.success:
            found = tried.error_message or f"{tried.response_status} {tried.response_body}"
            raise self._failure(found, f"a delivery to {redact(to)}", _WEBHOOK)

    def _is_mlflow_3(self) -> bool:
        """Whether the server has logged models, by its answer for one that does not exist."""
        status, body = self._page(f"/api/2.0/mlflow/logged-models/m-{'0' * 32}")
        return status != _NOT_FOUND or read_json_object(body.encode()).get("error_code") == "RESOURCE_DOES_NOT_EXIST"

    def may_edit(self, model: str) -> bool | None:
        """Ask the server for our account's permission on a model; None for a server without logins, or an older one."""
        status, body = self._page("/api/2.0/mlflow/users/current")
        user = read_json_object(body).get("user") if status == 200 else None
        if not isinstance(user, dict):
            return None
        asked = {"username": str(user.get("username")), "resource_type": "registered_model", "resource_id": model}
        status, body = self._page("/api/3.0/mlflow/users/permissions/get", asked)
        permission = read_json_object(body).get("permission") if status == 200 else None
        return permission in ("EDIT", "MANAGE") if isinstance(permission, str) else None

    def artifact_root(self, run_id: str) -> str | None:
        """Read where the artifacts of a run or logged model are; `mlflow-artifacts:` is the server's own proxy."""
        if _MODEL_ID.fullmatch(f"models:/{run_id}"):
            model = self._model(run_id)
            return None if model is None else str(model.artifact_location)
        run = self._run(run_id)
        return None if run is None else str(run.info.artifact_uri)

    def latest_version(self, model: str) -> ModelVersion | None:
        """Read the version of a model with the highest number; None without a version."""
        if "'" in model:
            return None
        with self._asking(f"the versions of {model}"):
            found = self._client.search_model_versions(f"name='{model}'", 1, order_by=["version_number DESC"])
            return self._version(found[0]) if found else None
        return None

    def version_by_alias(self, model: str, alias: str) -> ModelVersion | None:
        """Read the version that an alias names, with one request; None without such a model or alias."""
        # Never from a search: its answers may leave the aliases out (mlflow#16734).
        with self._asking(f"the version that alias {alias} of {model} names", absent=_is_absent_alias):
            return self._version(self._client.get_model_version_by_alias(model, alias))
        return None

    def named_by(self, alias: str, models: Collection[str]) -> Mapping[str, int] | None:
        """Search for the models by their names, up to 200 with each request.

        None on servers that cannot search for a list of names. A registered model has its aliases in a search, unlike
        a version (mlflow#16734); where it has not, everything is left out.
        """
        found: dict[str, int] = {}
        for names in _search_lists(models):
            with self._asking(f"the models with alias {alias}", absent=_is_invalid):
                answer = self._client.search_registered_models(f"name IN ({names})", max_results=_SEARCHED)
                named = {model.name: str(model.aliases.get(alias, "")) for model in answer}
                found.update({model: int(number) for model, number in named.items() if number.isdecimal()})
                continue
            return None
        return found

    def version(self, model: str, version: int) -> ModelVersion | None:
        """Read a version; None when it does not exist."""
        if not 0 < version <= _MAX_VERSION:
            return None
        with self._asking(f"version {version} of {model}", absent=_is_absent):
            return self._version(self._client.get_model_version(model, str(version)))
        return None

    def tagged(self, key: str, start: str) -> tuple[ModelVersion, ...]:
        """List all versions, of any model and in no particular order, whose tag `key` begins with `start`.

        Raises:
            InvalidInputError: key or start has quotes or wildcards, which would change what is searched for.
        """
        # All pages are read: setting a tag does not change a version's last-updated time, so ordering would not help.
        if "`" in key or "'" in start or set(start) & set("%_\\"):
            raise InvalidInputError(
                Problem(f"a search for tag {key}", "a text without quotes and wildcards", repr(start), "Correct it.")
            )
        versions: list[ModelVersion] = []
        page: str | None = None
        while page != "":
            with self._asking(f"the versions whose tag {key} starts with {start!r}"):
                answer = self._client.search_model_versions(f"tags.`{key}` LIKE '{start}%'", _PAGE, page_token=page)
                versions += [self._version(entity) for entity in answer]
                page = answer.token or ""
        # On some databases LIKE ignores case.
        return tuple(version for version in versions if version.tags.get(key, "").startswith(start))

    def training(self, version: ModelVersion) -> TrainingRun | None:
        """Read a version's training run and logged model; None without either, or when the run was deleted."""
        model = self._logged_model(version)
        if model is not None and version.run_id == model.model_id:
            return with_model_metrics(run_of_model(model), model.model_id, metrics_of(model))
        run = self._run(version.run_id or "")
        if run is None or model is None:
            return None if run is None else run_of(run)
        return with_model_metrics(run_of(run), model.model_id, metrics_of(model))

    def model_location(self, version: ModelVersion) -> str | None:
        """Read where a version's model is; None without its MLmodel file, where we may look.

        The text is what whoever registered the version wrote, or what MLflow made of it.
        """
        uri = self._model_uri(version)
        if uri is None or not (self._is_proxied(uri) or self._is_below_a_root(uri)):
            return uri
        with self._asking(f"the files of {version}", absent=_is_absent):
            listed = self._folder(uri, str(version)).list_artifacts()
            return uri if any(entry.path == "MLmodel" for entry in listed) else None
        return None

    def signature(self, version: ModelVersion) -> Signature | None:
        """Read the signature in the model's MLmodel file, without loading the model; None when it has none."""
        what = f"the MLmodel file of {version}"
        folder = self._model_folder(version)
        with TemporaryDirectory() as scratch:
            file = None if folder is None else self._download(folder, "MLmodel", scratch, what, _MLMODEL_CAP)
            if file is None:
                return None
            try:
                return read_signature(file)
            except ValueError as error:
                raise DependencyError(
                    Problem(
                        what,
                        "a signature in the form that MLflow writes",
                        str(error),
                        "Log the model again, with MLflow's log_model and a signature.",
                    )
                ) from error

    def input_example(self, version: ModelVersion) -> Example | None:
        """Read the model's input example as MLflow wrote it for its scoring server; None when it has none."""
        folder = self._model_folder(version)
        what = f"the input example of {version}"
        content = None if folder is None else self._read(folder, "serving_input_example.json", what)
        return None if content is None else read_example(content)

    def artifact(self, run_id: str, path: str) -> bytes | None:
        """Read a run's artifact, of 10 MB at most; None when the run or the artifact does not exist."""
        path = _safe_path(path)
        root = self._run_folder(run_id)
        return None if root is None else self._read(root, path, f"artifact {path} of run {run_id}")

    def put_artifact(self, run_id: str, path: str, content: bytes) -> None:
        """Store an artifact of a run, in place of one that is already stored at that path."""
        path = _safe_path(path)
        root = self._run_folder(run_id)
        if root is None:
            raise self._failure("no such run", f"run {run_id}", "Check whether the run was deleted.")
        folder, _, name = path.rpartition("/")
        with self._asking(f"artifact {path} of run {run_id} to be stored"), TemporaryDirectory() as scratch:
            file = Path(scratch, name)
            file.write_bytes(content)
            root.log_artifact(str(file), folder or None)  # type: ignore[no-untyped-call]

    def last_evaluation(self, policy: str) -> ServedQuality | None:
        """Read what the last evaluation of a policy's champion found, with two requests; None before the first one."""
        with self._asking(f"the evaluations of {policy}"):
            experiment = self._client.get_experiment_by_name(EVALUATIONS)
            if experiment is None or experiment.lifecycle_stage == "deleted":
                return None
            found = self._client.search_runs(
                [experiment.experiment_id],
                f"tags.`{EVALUATED}` = '{policy}' AND attributes.status = 'FINISHED'",
                max_results=1,
                order_by=["attributes.start_time DESC"],
            )
            return evaluation_of(found[0]) if found else None
        return None

    def record_evaluation(self, found: ServedQuality, drift: Sequence[FeatureDrift]) -> str:
        """Keep what an evaluation found in a run of its own, which counts once it is finished."""
        with self._asking("an evaluation to be stored"):
            experiment = self._client.get_experiment_by_name(EVALUATIONS)
            number = experiment.experiment_id if experiment else self._client.create_experiment(EVALUATIONS)
            run = self._client.create_run(
                number, int(found.at * 1000), run_name=f"{found.policy} version {found.version}"
            )
            metrics, tags = evaluation_entities(found, drift)
            self._client.log_batch(run.info.run_id, metrics=metrics, tags=tags)
            self._client.set_terminated(run.info.run_id, "FINISHED")
            return self._page_url(f"experiments/{number}/runs/{run.info.run_id}")
        raise AssertionError("either it is stored, or an exception")

    def write_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Write the tags one by one, in the mapping's order; a value that is too long is cut, with an ellipsis."""
        for key, value in tags.items():
            if len(key) > _MAX_TAG_KEY:
                raise InvalidInputError(
                    Problem(
                        f"tag {key}",
                        f"{_MAX_TAG_KEY} characters at most",
                        f"{len(key)} characters",
                        "Shorten the policy's name.",
                    )
                )
            cut = value if len(value) <= _MAX_TAG_VALUE else value[: _MAX_TAG_VALUE - 1] + "…"
            with self._asking(f"tag {key} of {version} to be written"):
                self._client.set_model_version_tag(version.model, str(version.version), key, cut)

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Set an alias to a version, which takes it from the version that had it."""
        with self._asking(f"alias {alias} to be set to {version}"):
            self._client.set_registered_model_alias(version.model, alias, str(version.version))

    def version_url(self, version: ModelVersion) -> str:
        """Return the address of the version's page in MLflow's UI."""
        return self._page_url(f"models/{quote(version.model, safe='')}/versions/{version.version}")

    def _page_url(self, page: str) -> str:
        # As MLflow's client writes it: the page asks for another workspace than the default one by a parameter.
        workspace = os.environ.get("MLFLOW_WORKSPACE", "").strip()
        chosen = f"?workspace={quote(workspace, safe='')}" if workspace not in ("", "default") else ""
        return f"{self._url}/#/{page}{chosen}"

    def _page(self, path: str, params: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Read a page that MLflow's client has no method for; return its status and the beginning of its text."""
        reply = self._answer(path, params)
        return int(reply.status_code), str(reply.text[:_MLMODEL_CAP])

    def _answer(self, path: str, params: Mapping[str, str] | None = None) -> Response:
        """Ask for a page by MLflow's own function for that, with the client's credentials and limits."""
        with self._asking(f"an answer from {path}"):
            from mlflow.utils.rest_utils import http_request

            host = credentials_for(self._url)
            reply: Response = http_request(host, path, "GET", raise_on_status=False, params=params)  # type: ignore[no-untyped-call]
            return reply
        raise AssertionError("either there is an answer, or an exception")

    def _run(self, run_id: str) -> Run | None:
        if not _RUN_ID.fullmatch(run_id):
            return None
        with self._asking(f"run {run_id}", absent=_is_absent):
            run = self._client.get_run(run_id)
            return None if run.info.lifecycle_stage == "deleted" else run
        return None

    def _run_folder(self, run_id: str) -> ArtifactRepository | None:
        root = self.artifact_root(run_id)
        return None if root is None else self._folder(root, f"run {run_id}")

    def _version(self, entity: Entity) -> ModelVersion:
        """Translate a version. One that names no run is looked up by its logged model, which may know it."""
        version = version_of(entity)
        if version.run_id is not None:
            return version
        model = self._logged_model(version)
        return version if model is None else replace(version, run_id=model.source_run_id or model.model_id)

    def _model(self, model_id: str) -> LoggedModel | None:
        with self._asking(f"logged model {model_id}", absent=_is_absent):
            return self._client.get_logged_model(model_id)
        return None

    def _logged_model(self, version: ModelVersion) -> LoggedModel | None:
        """Read the logged model that a version is; a copy's files are those of its original's logged model."""
        if version.model_id is not None:
            return self._model(version.model_id)
        if version.copied_from is None:
            return None
        uri = self._model_uri(version) or ""
        found = _MODEL_FOLDER.search(uri)
        model = self._model(found[1]) if found is not None else None
        return model if model is not None and model.artifact_location == uri else None

    def _model_uri(self, version: ModelVersion) -> str | None:
        with self._asking(f"where the model of {version} is stored", absent=_is_absent):
            uri = str(self._client.get_model_version_download_uri(version.model, str(version.version)))
            if model_id := _MODEL_ID.fullmatch(uri):
                uri = str(self._client.get_logged_model(model_id[1]).artifact_location)
            return uri
        return None

    def _model_folder(self, version: ModelVersion) -> ArtifactRepository | None:
        uri = self._model_uri(version)
        with self._asking(f"the files of {version}"):
            return None if uri is None else self._folder(uri, str(version))
        return None

    def _folder(self, uri: str, subject: str) -> ArtifactRepository:
        """The folder behind the server's artifact proxy, or below a root of the settings.

        Any other place is refused, because whoever registers a version says where it is: the pipeline would read there
        with its own rights. To ask again would not help, so this is a person's mistake and no failure of the server.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if not self._is_proxied(uri) and not self._is_below_a_root(uri):
            raise InvalidInputError(
                Problem(
                    f"the artifacts of {subject}",
                    "a place under mlflow-artifacts:/, or below one that INCUMBENT_ARTIFACT_ROOTS names",
                    excerpt(uri),
                    "Start the MLflow server with --serve-artifacts and log again in an experiment created after that, "
                    "or name the bucket and folder in INCUMBENT_ARTIFACT_ROOTS.",
                )
            )
        return get_artifact_repository(uri, self._url, self._url)

    def _is_proxied(self, uri: str) -> bool:
        parts = urlsplit(uri)
        own = parts.netloc in ("", urlsplit(self._url).netloc)
        return parts.scheme == _PROXIED and own and _is_plain(parts)

    def _is_below_a_root(self, uri: str) -> bool:
        return _is_plain(urlsplit(uri)) and any(uri.startswith(f"{root}/") for root in self._roots)

    def _read(self, folder: ArtifactRepository, path: str, what: str) -> bytes | None:
        with TemporaryDirectory() as scratch:
            try:
                file = self._download(folder, path, scratch, what)
            except DependencyError:
                if str(folder.artifact_uri).startswith("http"):
                    self._require_name_that_is_sent(path, what)
                raise
            return None if file is None else file.read_bytes()

    def _require_name_that_is_sent(self, path: str, what: str) -> None:
        """Say why a file was not sent, if its name is the reason: to ask that server again would never help."""
        version = None if path.rpartition("/")[2].isascii() else self.server_version()
        if version is not None and is_older(version, SENDS_ANY_NAME):
            raise InvalidInputError(
                Problem(
                    what,
                    f"a server of version {SENDS_ANY_NAME} or newer, because an older one cannot send a file whose "
                    "name has other letters than ASCII's",
                    f"version {version}",
                    f"Log the file under another name, or upgrade: {HOW_TO_UPGRADE}",
                )
            )

    def _download(
        self, folder: ArtifactRepository, path: str, scratch: str, what: str, cap: int = ARTIFACT_CAP
    ) -> Path | None:
        """Download an artifact into `scratch`, if its listed size is within the cap; None when it does not exist."""
        with self._asking(what):
            listed = folder.list_artifacts(path.rpartition("/")[0] or None)
            artifact = next((entry for entry in listed if entry.path == path and not entry.is_dir), None)
            if artifact is None:
                return None
            # The listing leaves out the size of an empty file.
            self._require_size(artifact.file_size or 0, cap, what)
            file = Path(folder.download_artifacts(path, scratch))  # type: ignore[no-untyped-call]
            self._require_size(file.stat().st_size, cap, what)
            return file

    def _require_size(self, size: int, cap: int, what: str) -> None:
        if size > cap:
            raise self._failure(
                f"{size} bytes", f"{what} of {cap} bytes at most", "Log a smaller artifact, with only what is needed."
            )

    @contextmanager
    def _asking(self, expected: str, absent: Callable[[MlflowException], bool] | None = None) -> Iterator[None]:
        """Turn errors of MLflow's client inside the block into `DependencyError`.

        An error that `absent` recognises as "does not exist" ends the block without an exception.
        """
        _ = self._client  # its settings must be in the environment before anything else of MLflow is imported
        credentials_for(self._url)
        from google.protobuf.json_format import Error as MalformedError  # type: ignore[import-untyped] # no stubs in the lock
        from mlflow.exceptions import MlflowException

        try:
            yield
        except ImportError as error:  # MLflow brings no client of object storage
            raise self._failure(f"no package {error.name}", expected, how_to_install(error.name)) from None
        except storage_errors() as error:
            raise self._failure(f"{type(error).__name__}: {error}", expected, _STORAGE) from None
        except MlflowException as error:
            if absent is None or not absent(error):
                require_certificates()
                status = self._status_of(error)
                # Not with the error as its cause, whose text quotes what the server sent, with the secrets in it.
                found = _broken_connection(error) or error.message
                step = self._missing_access(status) or _tls_step(error) or step_of(error.message)
                if status == _NOT_FOUND and not _is_absent(error):
                    step = step or _PREFIX
                raise self._failure(found, expected, step) from None
        # What the client lets through: broken connections to the artifact proxy, and answers that MLflow did not write.
        except (OSError, MalformedError, ValueError, LookupError, TypeError, AttributeError) as error:
            require_certificates()
            status = getattr(getattr(error, "response", None), "status_code", 0)
            found = _broken_connection(error) or f"{type(error).__name__}: {error}"
            raise self._failure(found, expected, self._missing_access(status) or _tls_step(error)) from None

    def _status_of(self, error: MlflowException) -> int:
        """Return the status of the answer that an error is about.

        Of an answer in JSON that is not MLflow's, such as a gateway's, the client does not keep it: such a gateway is
        asked for it again, by a question that changes nothing.
        """
        from mlflow.exceptions import MlflowException, RestException
        from mlflow.protos.databricks_pb2 import ErrorCode
        from mlflow.utils.rest_utils import http_request

        if isinstance(error, RestException) and error.json.get("error_code") not in set(ErrorCode.keys()):
            asked = credentials_for(self._url), "/api/2.0/mlflow/registered-models/search", "GET"
            with suppress(MlflowException):  # no answer: the first one is what is told
                return int(http_request(*asked, raise_on_status=False, params={"max_results": "1"}).status_code)  # type: ignore[no-untyped-call]
        return int(error.get_http_status_code())  # type: ignore[no-untyped-call]

    def _missing_access(self, status: int) -> str | None:
        """The next step when the account was refused; None for any other status."""
        credentials = credentials_for(self._url)
        account = "token" if credentials.token else None
        if credentials.username and credentials.password:
            account = f"account {credentials.username}"
        if status == _UNAUTHORIZED:
            reasons = {None: "No account was given.", "token": "The token is unknown."}
            reason = reasons.get(account, f"The {account} is unknown, or its password is wrong.")
            return f"{reason} {LOGIN}"
        if status == _FORBIDDEN:
            # MLflow gives the same answer for what does not exist, so that nobody can find out what exists.
            return (
                f"The {account or 'request without an account'} may not do this, or the object does not exist. "
                "It needs EDIT on the model and on runs, and READ on the experiment: "
                "python -m bootstrap mlflow-accounts. "
                "If the answer names the host, add it to the server's --allowed-hosts."
            )
        return None

    def _failure(self, found: str, expected: str, next_step: str | None = None) -> DependencyError:
        credentials = credentials_for(self._url)
        secrets = filter(None, (credentials.token, credentials.password))
        return DependencyError(
            Problem(
                f"MLflow at {self._url}",
                expected,
                excerpt(found, secrets, _SHOWN),
                next_step
                or "Check that the server is running and that MLFLOW_TRACKING_URI (with its path prefix, if it has "
                "one) and its credentials are right.",
            )
        )


def import_client() -> type[MlflowClient]:
    """Import MLflow's client, with `CLIENT_DEFAULTS` in the environment, and return its class."""
    for name, value in CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Its warnings about the client's own retries quote a broken answer, with any secret that the server repeats.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    with importing:
        from mlflow import MlflowClient

    return MlflowClient


def parse_roots(text: str) -> tuple[str, ...]:
    """Read INCUMBENT_ARTIFACT_ROOTS, such as `s3://models/mlflow,gs://other`.

    Raises:
        InvalidInputError: an entry is no place in object storage.
    """
    roots = tuple(root.rstrip("/") for piece in text.split(",") if (root := piece.strip()))
    for root in roots:
        try:
            parts = urlsplit(root)
        except ValueError:  # a bracket without its pair
            parts = urlsplit("")
        is_place = parts.netloc and root.startswith(f"{parts.scheme}://")  # a scheme in capitals would fit no place
        if parts.scheme not in _OBJECT_STORAGE or not is_place or (parts.path and not _is_plain(parts)):
            raise InvalidInputError(
                Problem(
                    "setting INCUMBENT_ARTIFACT_ROOTS",
                    f"SCHEME://BUCKET/FOLDER,..., with a scheme of {', '.join(_OBJECT_STORAGE)}",
                    f"the entry {redact(root)!r}",
                    "Correct that entry.",
                )
            )
    return roots


def storage_errors() -> tuple[type[Exception], ...]:
    """Return the errors of those clients of object storage that MLflow has imported; none of them is an `OSError`."""
    named = (getattr(sys.modules.get(module), name, None) for module, name in _STORAGE_ERRORS)
    return tuple(error for error in named if error is not None)


def _tls_step(error: BaseException) -> str | None:
    """The next step when one side did not accept the other's certificate, or has no TLS; None for any other error."""
    refused = next((each for each in _causes(error) if isinstance(each, ssl.SSLError)), None)
    if refused is not None and "WRONG_VERSION_NUMBER" in str(refused):
        return "Write http:// in place of https:// into MLFLOW_TRACKING_URI, if the server has no TLS."
    return _TLS if refused is not None else None


def _is_plain(parts: SplitResult) -> bool:
    """Whether an address is nothing but a place: no query, no fragment, and no way out of its folder."""
    return not parts.query and not parts.fragment and _is_safe(parts.path.strip("/"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it; urllib3 keeps some of them as an argument alone."""
    following: BaseException | None = error
    while following is not None:
        yield following
        kept = (argument for argument in following.args if isinstance(argument, BaseException))
        following = following.__cause__ or following.__context__ or next(kept, None)


def _broken_connection(error: BaseException) -> str | None:
    """Return what the operating system said of a connection; None when that is not what the error is about.

    The libraries between it and us each wrap the text of the one below, with the whole address again.
    """
    *_, error = _causes(error)
    is_systems = isinstance(error, OSError) and type(error).__module__ in ("builtins", "socket", "ssl")
    return f"no answer ({error.strerror or error})" if is_systems and isinstance(error, OSError) else None


def _is_absent(error: MlflowException) -> bool:
    return str(error.error_code) == "RESOURCE_DOES_NOT_EXIST"


def _is_invalid(error: MlflowException) -> bool:
    return str(error.error_code) == "INVALID_PARAMETER_VALUE"


def _search_lists(models: Collection[str]) -> Iterator[str]:
    """Lists of names as a search takes them. A name that cannot be quoted is left out."""
    names: list[str] = []
    characters = 0
    for name in sorted({f"'{model}'" for model in models if not set(model) & set("'\"\\")}):
        if len(names) == _SEARCHED or characters + len(quote(name)) > _SEARCHED_CHARACTERS:
            yield ",".join(names)
            names, characters = [], 0
        names.append(name)
        characters += len(quote(name)) + len(quote(","))
    if names:
        yield ",".join(names)


def _is_absent_alias(error: MlflowException) -> bool:
    # For an existing model, a missing alias is an INVALID_PARAMETER_VALUE, and so is an impossible alias name; only the
    # message tells them apart.
    return _is_absent(error) or (error.error_code == "INVALID_PARAMETER_VALUE" and error.message.endswith("not found."))


def _is_safe(path: str) -> bool:
    """Whether a path stays in its folder.

    MLflow's client does not quote it, and its server unquotes what arrives: `%2e`, `?` and `#` would take effect. A
    percent sign before anything but two hexadecimal digits stands for itself.
    """
    parts = path.split("/")
    is_plain = path.isprintable() and not set(path) & set("\\?#") and not _QUOTED.search(path)
    return is_plain and not any(part in ("", ".", "..") for part in parts)


def _safe_path(path: str) -> str:
    if not _is_safe(path):
        raise InvalidInputError(
            Problem("an artifact's path", "a relative path inside the run's artifacts", repr(path), "Correct the path.")
        )
    return path
