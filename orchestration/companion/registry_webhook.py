"""The part that MLflow tells of aliases which were set, and that wakes the registry sensor."""

import threading
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestration.adapters.bell import ring
from orchestration.adapters.clock import SystemClock
from orchestration.adapters.secret_files import read_secret
from orchestration.companion.part import Part
from orchestration.companion.requests import RefusedRequestError, read_body
from orchestration.promotion.problems import DependencyError
from orchestration.promotion.registry_webhook import (
    LARGEST_DELIVERY,
    Deliveries,
    UntrustedDeliveryError,
    model_of_moved_alias,
)

PATH = "/webhooks/mlflow"


def registry_webhook_part(
    state: Path, secret_file: Path, registry: CollectorRegistry, say: Callable[[str], None]
) -> Part:
    """Return the part that takes MLflow's deliveries.

    Args:
        state: the folder of INCUMBENT_STATE, which the pipeline has as well.
        secret_file: holds what MLflow signs its deliveries with.
        registry: has the metrics.
        say: receives each line of trouble.
    """
    stopping, deliveries = threading.Event(), Deliveries()
    counter = Counter("incumbent_registry_webhooks", "Moved aliases that MLflow told of.", registry=registry)

    def secret() -> str:
        try:
            return read_secret(secret_file, "the secret of MLflow's webhook", "--mlflow-webhook", "utf-8")
        except DependencyError as error:
            say(str(error))
            raise RefusedRequestError(503, "no_token", "this server has no secret to compare with") from error

    def take(request: Request, body: bytes) -> Response:
        try:
            is_new = deliveries.take(request.headers, body, secret(), SystemClock().now())
        except UntrustedDeliveryError as error:
            raise RefusedRequestError(401, "unauthorized", str(error)) from error
        model = model_of_moved_alias(body)
        if model is None or not is_new:
            return JSONResponse({"woken": 0})
        counter.inc()
        try:
            return JSONResponse({"woken": ring(state, model)})
        except OSError as error:
            say(f"MLflow's word was not passed on, and the sensor finds the alias by itself: {error}")
            raise RefusedRequestError(503, "storage", "the sensor could not be woken") from error

    async def receive(request: Request) -> Response:
        if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedRequestError(415, "not_json", "expected the header Content-Type: application/json")
        body = await read_body(request, LARGEST_DELIVERY)
        return await run_in_threadpool(take, request, body)

    def wait_for_the_end() -> None:
        stopping.wait()

    route = Route(PATH, receive, methods=["POST"])
    return Part("registry webhook", wait_for_the_end, stopping.set, 1.0, routes=[route])
