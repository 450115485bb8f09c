"""The HTTP server: exactly the Kubernetes calls that the pipeline makes, and the sandbox's own beside them."""

import json
import secrets
from collections.abc import Awaitable, Callable

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from testbeds.sandbox.cluster.kubelet import Kubelet
from testbeds.sandbox.cluster.nodes import show_node_condition
from testbeds.sandbox.cluster.objects import (
    APPLICATIONS,
    DEPLOYMENTS,
    EVENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    ApiError,
    Json,
    Resource,
    page,
    select_fields,
    select_labels,
)
from testbeds.sandbox.cluster.targets import scrape_targets
from testbeds.sandbox.cluster.world import World

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_PRIVATE = _HOP_BY_HOP | {"authorization"}
_PROXY_SECONDS = 30.0
_MERGE_PATCH = "application/merge-patch+json"


def build_app(world: World, kubelet: Kubelet, client: httpx2.AsyncClient, token: str) -> ASGIApp:
    """The application; every call but /readyz needs the bearer token."""
    api = Api(world, kubelet, client)
    pods = "/api/v1/namespaces/{namespace}/pods"
    routes = [
        Route("/readyz", api.ready),
        Route("/sandbox/faults", api.faults, methods=["GET", "POST"]),
        Route("/sandbox/prometheus/targets", api.targets),
        Route("/api/v1/nodes", api.list_objects(NODES)),
        Route("/api/v1/namespaces/{namespace}/events", api.list_objects(EVENTS)),
        Route("/apis/apps/v1/namespaces/{namespace}/replicasets", api.list_objects(REPLICA_SETS)),
        Route(pods, api.list_objects(PODS)),
        Route(f"{pods}/{{name}}/log", api.log),
        Route(f"{pods}/{{name}}/proxy", api.proxy, methods=["GET", "POST"]),
        Route(f"{pods}/{{name}}/proxy/{{path:path}}", api.proxy, methods=["GET", "POST"]),
    ]
    for resource in (APPLICATIONS, DEPLOYMENTS):
        path = f"/apis/{resource.group}/{resource.version}/namespaces/{{namespace}}/{resource.plural}/{{name}}"
        routes.append(Route(path, api.one_object(resource), methods=["GET", "PATCH"]))
    app = Starlette(routes=routes, exception_handlers={ApiError: _api_error, 404: _no_path, 405: _no_method})
    return _Guard(app, world, token)


class _Guard:
    """Asks for the token, and plays an API server that is not ready."""

    def __init__(self, app: ASGIApp, world: World, token: str) -> None:
        self._app, self._world, self._expected = app, world, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: ApiError | None = None
        if scope["type"] == "http" and scope["path"] != "/readyz":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self._expected):
                refusal = ApiError(401, "Unauthorized", "Unauthorized")
            elif self._world.faults.not_ready and not scope["path"].startswith("/sandbox/faults"):
                refusal = ApiError(503, "ServiceUnavailable", "apiserver not ready")
        if refusal is not None:
            await JSONResponse(refusal.status, refusal.code)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Api:
    def __init__(self, world: World, kubelet: Kubelet, client: httpx2.AsyncClient) -> None:
        self._world, self._kubelet, self._client = world, kubelet, client

    async def ready(self, _: Request) -> Response:
        if self._world.faults.not_ready:
            return PlainTextResponse("[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n", 500)
        return PlainTextResponse("ok")

    def one_object(self, resource: Resource) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            namespace, name = request.path_params["namespace"], request.path_params["name"]
            if request.method == "GET":
                return JSONResponse(self._world.store.require(resource, namespace, name))
            if request.headers.get("content-type", "").partition(";")[0] != _MERGE_PATCH:
                message = (
                    f"the body of the request was in an unknown format - accepted media types include: {_MERGE_PATCH}"
                )
                raise ApiError(415, "UnsupportedMediaType", message)
            patch = await _json_object(request)
            return JSONResponse(self._world.store.merge_patch(resource, namespace, name, patch))

        return answer

    def list_objects(self, resource: Resource) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            query = request.query_params
            items = self._world.store.all(resource.kind, request.path_params.get("namespace", ""))
            items = select_labels(items, query.get("labelSelector", ""))
            items = select_fields(items, resource.kind, query.get("fieldSelector", ""))
            limit = _number(query.get("limit", "0"), "limit")
            return JSONResponse(page(items, resource, limit, query.get("continue", ""), self._world.store.version))

        return answer

    async def log(self, request: Request) -> Response:
        """A container's log, of its present process or of the one before."""
        name, query = request.path_params["name"], request.query_params
        pod = self._world.store.require(PODS, request.path_params["namespace"], name)
        containers = [container["name"] for container in pod["spec"]["containers"]]
        container = query.get("container") or (containers[0] if len(containers) == 1 else "")
        if not container:
            choose = f"a container name must be specified for pod {name}, choose one of: [{' '.join(containers)}]"
            raise ApiError(400, "BadRequest", choose)
        if container not in containers:
            raise ApiError(400, "BadRequest", f"container {container} is not valid for pod {name}")
        previous = query.get("previous", "false") in ("true", "True", "1")
        path = self._kubelet.log_path(pod, container, previous=previous)
        if not path.exists():
            missing = f'container "{container}" in pod "{name}" is waiting to start'
            if previous:
                missing = f'previous terminated container "{container}" in pod "{name}" not found'
            raise ApiError(400, "BadRequest", missing)
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        if "tailLines" in query:
            wanted = _number(query["tailLines"], "tailLines")
            lines = lines[-wanted:] if wanted else []
        return PlainTextResponse("".join(lines))

    async def proxy(self, request: Request) -> Response:
        """Hand a request to a pod's port and its answer back, as it comes."""
        name, _, port = request.path_params["name"].removeprefix("http:").partition(":")
        pod = self._world.store.require(PODS, request.path_params["namespace"], name)
        if not port:
            ports = pod["spec"]["containers"][0].get("ports", [])
            port = str(ports[0]["containerPort"]) if ports else "80"
        address = pod["status"].get("podIP", "")
        target = httpx2.URL(
            f"http://{address or '0.0.0.0'}:{_number(port, 'port')}/{request.path_params.get('path', '')}"
        )
        target = target.copy_with(query=request.url.query.encode() or None)
        headers = [(key, value) for key, value in request.headers.items() if key.lower() not in _PRIVATE]
        try:
            if not address:
                raise httpx2.ConnectError("pod has no address")
            content = await request.body()
            asked = self._client.build_request(
                request.method, target, headers=headers, content=content, timeout=_PROXY_SECONDS
            )
            answer = await self._client.send(asked, stream=True)
        except httpx2.TransportError as error:
            finding = f"dial tcp {address}:{port}: {error or type(error).__name__}"
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {finding}") from error
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept, background=BackgroundTask(answer.aclose))

    async def faults(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                self._world.faults.set(await _json_object(request))
            except ValueError as error:
                raise ApiError(400, "BadRequest", str(error)) from error
            show_node_condition(self._world)
            self._world.log("faults", json.dumps(vars(self._world.faults)))
        return JSONResponse(vars(self._world.faults))

    async def targets(self, request: Request) -> Response:
        address = f"{request.url.hostname}:{request.url.port}"
        return JSONResponse(scrape_targets(self._world.store, address))


async def _json_object(request: Request) -> Json:
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise ApiError(400, "BadRequest", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequest", "the body is not a JSON object")
    return body


def _number(text: str, name: str) -> int:
    if not text.isdigit():
        raise ApiError(400, "BadRequest", f"{name} must be a number, found {text!r}")
    return int(text)


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.status, error.code)


async def _no_path(_: Request, __: Exception) -> Response:
    return JSONResponse(ApiError(404, "NotFound", "the server could not find the requested resource").status, 404)


async def _no_method(_: Request, __: Exception) -> Response:
    message = "the server does not allow this method on the requested resource"
    return JSONResponse(ApiError(405, "MethodNotAllowed", message).status, 405)
