"""The part that takes alerts from Alertmanager and starts workflows for them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestration.adapters.clock import SystemClock
from orchestration.adapters.exchange import TOTAL_TIMEOUT
from orchestration.adapters.github import AppKey, GitHubRepository
from orchestration.adapters.host_api import ApiNames, TokenFile
from orchestration.adapters.outbox import SqliteOutbox, open_outbox
from orchestration.adapters.secret_files import read_secret
from orchestration.companion.dispatch_metrics import DispatchMetrics
from orchestration.companion.part import Part
from orchestration.companion.requests import RefusedRequestError, read_body, require_token
from orchestration.dispatcher.configuration import Configuration
from orchestration.dispatcher.notification import NotificationError, read_notification
from orchestration.dispatcher.outbox import OutboxDamagedError, OutboxUnusableError, State
from orchestration.dispatcher.routing import route_of
from orchestration.dispatcher.sending import Sender
from orchestration.promotion.problems import DependencyError, Problem

PATH = "/alerts"
_TROUBLE_SECONDS = 30.0
_RECORD_SECONDS = 5.0
"""After GitHub's answer, which is waited for at the end: an acknowledgement that is lost repeats the run."""


def dispatch_part(configuration: Configuration, registry: CollectorRegistry, say: Callable[[str], None]) -> Part:
    """Return the part that keeps alerts in the outbox and sends what waits there.

    Raises:
        InvalidInputError: the outbox cannot be used, or the API's address is wrong.
    """
    github = github_of(configuration)
    outbox = open_outbox(configuration.outbox)
    if outbox.damaged_files:
        say(str(_damaged(configuration.outbox, outbox.damaged_files)))
    metrics = DispatchMetrics(outbox, configuration, registry)
    sender = Sender(outbox, github, configuration, SystemClock(), metrics, say)
    dispatch = _Dispatch(configuration, outbox, sender, metrics, say)
    return Part(
        "dispatch",
        dispatch.work,
        dispatch.stop,
        TOTAL_TIMEOUT + _RECORD_SECONDS,
        routes=[Route(PATH, dispatch.receive, methods=["POST"])],
        collectors=[metrics],
        trouble=lambda: dispatch.trouble,
        close=outbox.close,
    )


def _damaged(folder: Path, files: int) -> Problem:
    return Problem(
        f"outbox {folder}",
        "no damaged file",
        f"{files} that were moved aside",
        "Save what `sqlite3 FILE .recover` finds in outbox.db.corrupt-*, and then remove them.",
    )


def github_of(configuration: Configuration) -> GitHubRepository:
    """Return the client of the configured repository.

    Raises:
        InvalidInputError: the API's address is wrong.
    """
    api, repository, app = configuration.api, configuration.repository, configuration.app
    named = ApiNames("api in the dispatcher's file", "repository or the workflow in the dispatcher's file")
    if app is not None:
        key = AppKey(app.id, app.installation, app.key_file, "app in the dispatcher's file")
        return GitHubRepository(api, repository, key, named)
    assert configuration.token_file is not None, "the configuration has one of the two"
    token = TokenFile(configuration.token_file, "token_file in the dispatcher's file")
    return GitHubRepository(api, repository, token, named)


class _Dispatch:
    """The two sides of the outbox: requests put alerts in, and one thread takes them out."""

    def __init__(
        self,
        configuration: Configuration,
        outbox: SqliteOutbox,
        sender: Sender,
        metrics: DispatchMetrics,
        say: Callable[[str], None],
    ) -> None:
        self._configuration, self._outbox, self._sender = configuration, outbox, sender
        self._metrics, self._say = metrics, say
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._damage: OutboxDamagedError | None = None
        self._not_kept: tuple[float, str] | None = None
        """When, by `time.monotonic`, and why the last notification was not kept; None when it was."""

    @property
    def trouble(self) -> str | None:
        """Why a notification was not kept just now. Only the next one can tell whether that is over, so it passes."""
        if self._not_kept is None or time.monotonic() - self._not_kept[0] > _TROUBLE_SECONDS:
            return None
        return self._not_kept[1]

    async def receive(self, request: Request) -> Response:
        """Keep a notification's alerts, and answer 200 once they are on disk."""
        require_token(request, await run_in_threadpool(self._token))
        body = await read_body(request)
        return await run_in_threadpool(self._keep, body)

    def work(self) -> None:
        """Send until it is stopped; new alerts end a wait.

        Raises:
            DependencyError: the outbox is damaged, and has to be opened anew.
        """
        try:
            while not self._stopping.is_set():
                if self._damage is not None:
                    raise self._damage
                seconds = self._sender.step()
                if seconds > 0:
                    self._woken.wait(seconds)
                    self._woken.clear()
        except OutboxDamagedError as error:
            next_step = "Start this again: it moves the file aside and goes on with an empty one."
            problem = Problem(f"outbox {self._configuration.outbox}", "an undamaged file", str(error), next_step)
            raise DependencyError(problem) from error

    def stop(self) -> None:
        """Let `work` return."""
        self._stopping.set()
        self._woken.set()

    def _token(self) -> str:
        try:
            return read_secret(
                self._configuration.webhook_token_file, "the token of Alertmanager", "webhook_token_file"
            )
        except DependencyError as error:
            self._say(str(error))
            raise RefusedRequestError(503, "no_token", "this server has no token to compare with") from error

    def _keep(self, body: bytes) -> Response:
        try:
            notification = read_notification(body)
        except NotificationError as error:
            raise RefusedRequestError(error.status, error.reason, str(error)) from error
        routes = self._configuration.routes
        rows = [
            (each, State.RECORDED if route_of(each, routes) is None else State.WAITING) for each in notification.alerts
        ]
        try:
            new = self._outbox.accept(rows, SystemClock().now())
        except OutboxUnusableError as error:
            if isinstance(error, OutboxDamagedError):
                self._damage = error
                self._woken.set()
            self._not_kept = (time.monotonic(), str(error))
            self._say(f"a notification of {len(rows)} alerts was not kept, and is to be sent again: {error}")
            raise RefusedRequestError(503, "storage", "the alerts could not be kept; send them again") from error
        self._not_kept = None
        self._metrics.accepted(new, len(rows) - new)
        if notification.left_out:
            self._metrics.left_out(notification.left_out)
            self._say(f"Alertmanager left {notification.left_out} alerts out (max_alerts); its page has them all")
        self._woken.set()
        return JSONResponse({"accepted": new, "known": len(rows) - new})
