"""The HTTP server: exactly the Kubernetes calls that the pipeline makes, and the sandbox's own calls."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from testbeds.sandbox.cluster.gitsource import SourceError
from testbeds.sandbox.cluster.kubelet import Kubelet
from testbeds.sandbox.cluster.lists import page, select_fields, select_labels
from testbeds.sandbox.cluster.nodes import show_node_condition
from testbeds.sandbox.cluster.objects import (
    APPLICATIONS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    EVENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    WORKLOADS,
    ApiError,
    Json,
    Resource,
)
from testbeds.sandbox.cluster.rights import IS_STRANGER, REVIEWS, Guard, Tokens
from testbeds.sandbox.cluster.targets import scrape_targets
from testbeds.sandbox.cluster.watch import Changes
from testbeds.sandbox.cluster.world import World

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_PRIVATE = (_HOP_BY_HOP | {"authorization"}) - {"host"}
_PROXY_SECONDS = 30.0
_SCHEMAS = Path(__file__).with_name("openapi") / "apis-apps-v1.json"
_MERGE_PATCH = "application/merge-patch+json"


def build_app(
    world: World, kubelet: Kubelet, client: httpx2.AsyncClient, tokens: Tokens, follow: Callable[[Json], Json]
) -> ASGIApp:
    """Make the application; every call except /readyz needs a bearer token.

    `follow` creates an Application and starts its controller.
    """
    api = Api(world, kubelet, client)
    pods = "/api/v1/namespaces/{namespace}/pods"
    routes = [
        Route("/readyz", api.ready),
        Route("/sandbox/faults", api.faults, methods=["GET", "POST"]),
        Route("/sandbox/prometheus/targets", api.targets),
        Route(REVIEWS, api.review, methods=["POST"]),
        Route("/openapi/v3/apis/apps/v1", api.schemas),
        Route("/api/v1/nodes", api.list_objects(NODES)),
        Route(f"{pods}/{{name}}/log", api.log),
        Route(f"{pods}/{{name}}/proxy", api.proxy, methods=["GET", "POST"]),
        Route(f"{pods}/{{name}}/proxy/{{path:path}}", api.proxy, methods=["GET", "POST"]),
    ]
    for resource in (APPLICATIONS, *WORKLOADS, REPLICA_SETS, CONTROLLER_REVISIONS, PODS, EVENTS, SERVICES):
        path = f"/{resource.root}/namespaces/{{namespace}}/{resource.plural}"
        routes.append(Route(path, api.list_objects(resource)))
        if resource is APPLICATIONS:
            routes.append(Route(path, api.create_application(follow), methods=["POST"]))
        if resource in (APPLICATIONS, *WORKLOADS):
            routes.append(Route(f"{path}/{{name}}", api.one_object(resource), methods=["GET", "PATCH"]))
    app = Starlette(routes=routes, exception_handlers={ApiError: _api_error, 404: _no_path, 405: _no_method})
    return Guard(app, world, tokens)


class Api:
    def __init__(self, world: World, kubelet: Kubelet, client: httpx2.AsyncClient) -> None:
        self._world, self._kubelet, self._client = world, kubelet, client
        self._changes = Changes(world.store)

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
                self._world.store.require(resource, namespace, name)
                raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type")
            patch = await _json_object(request)
            return JSONResponse(self._world.store.merge_patch(resource, namespace, name, patch))

        return answer

    def create_application(self, follow: Callable[[Json], Json]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            manifest = await _json_object(request)
            name, namespace = str(manifest.get("metadata", {}).get("name", "")), request.path_params["namespace"]
            if self._world.store.get(APPLICATIONS.kind, namespace, name) is not None:
                message = f'{APPLICATIONS.full_name} "{name}" already exists'
                raise ApiError(409, "AlreadyExists", message, APPLICATIONS, name)
            try:
                return JSONResponse(follow(manifest), 201)
            except SourceError as error:
                raise ApiError(422, "Invalid", str(error), APPLICATIONS, name) from error

        return answer

    def list_objects(self, resource: Resource) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            query = request.query_params
            labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
            namespace = request.path_params.get("namespace", "")

            def choose(items: list[Json]) -> list[Json]:
                here = [item for item in items if item["metadata"].get("namespace", "") == namespace]
                return select_fields(select_labels(here, labels), resource.kind, fields)

            if query.get("watch") in ("true", "1"):
                return self._watch(resource, query, choose)
            limit, token = _number(query.get("limit", "0")), query.get("continue", "")
            items = self._world.store.all(resource.kind, namespace)
            return JSONResponse(page(items, choose(items), resource, limit, token, self._world.store.version))

        return answer

    def _watch(
        self, resource: Resource, query: QueryParams, choose: Callable[[list[Json]], list[Json]]
    ) -> StreamingResponse:
        start, seconds = query.get("resourceVersion", ""), query.get("timeoutSeconds", "0")
        bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        lines = self._changes.stream(resource, start, choose, _number(seconds), bookmarks=bookmarks)
        return StreamingResponse(lines, media_type="application/json")

    async def log(self, request: Request) -> Response:
        """Return a container's log: of its present or of its previous process."""
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
        if not pod["spec"].get("nodeName"):
            return Response(status_code=204)  # as Kubernetes answers for a pod without a node
        path = self._kubelet.log_path(pod, container, previous=previous)
        if not path.exists():
            missing = f'container "{container}" in pod "{name}" is waiting to start'
            if previous:
                missing = f'previous terminated container "{container}" in pod "{name}" not found'
            raise ApiError(400, "BadRequest", missing)
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        if "tailLines" in query:
            wanted = _number(query["tailLines"])
            lines = lines[-wanted:] if wanted else []
        content = "".join(lines).encode()
        if "limitBytes" in query:
            content = content[: _number(query["limitBytes"])]
        return Response(content, media_type="text/plain")

    async def proxy(self, request: Request) -> Response:
        """Pass a request on to a pod's port, and the answer back as it comes."""
        name, _, port = request.path_params["name"].removeprefix("http:").partition(":")
        pod = self._world.store.require(PODS, request.path_params["namespace"], name)
        if not port:
            ports = pod["spec"]["containers"][0].get("ports", [])
            port = str(ports[0]["containerPort"]) if ports else "80"
        address = pod["status"].get("podIP", "")
        if not address:
            raise ApiError(400, "BadRequest", "address not allowed")
        target = httpx2.URL(f"http://{address}:{_number(port)}/{request.path_params.get('path', '')}")
        target = target.copy_with(query=request.url.query.encode() or None)
        headers = [(key, value) for key, value in request.headers.items() if key.lower() not in _PRIVATE]
        try:
            content = await request.body()
            asked = self._client.build_request(
                request.method, target, headers=headers, content=content, timeout=_PROXY_SECONDS
            )
            answer = await self._client.send(asked, stream=True)
        except httpx2.TransportError as error:
            finding = f"dial tcp {address}:{port}: connect: connection refused"
            if not isinstance(error, httpx2.ConnectError):
                finding = "EOF"
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {finding}") from error
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept, background=BackgroundTask(answer.aclose))

    async def review(self, request: Request) -> Response:
        """Tell whether the one who asks may do something: a stranger nothing, the pipeline all but changing workloads.

        Its token can, for tests; but nothing here applies an object for trial, as who may patch could ask for.
        """
        review = await _json_object(request)
        wanted = review.get("spec", {}).get("resourceAttributes", {})
        changes = wanted.get("verb") == "patch" and wanted.get("resource") in [each.plural for each in WORKLOADS]
        allowed = not (request.scope[IS_STRANGER] or changes)
        return JSONResponse({**review, "status": {"allowed": allowed}}, 201)

    async def schemas(self, _: Request) -> Response:
        """Return the schemas of the workloads, as Kubernetes publishes them."""
        return Response(_SCHEMAS.read_bytes(), media_type="application/json")

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
        raise ApiError(400, "BadRequest", f"error decoding patch: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequest", "error decoding patch: expected an object")
    return body


def _number(text: str) -> int:
    if not text.isdigit():
        raise ApiError(400, "BadRequest", f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.status, error.code)


async def _no_path(request: Request, _: Exception) -> Response:
    """404: of an API that is served a Status, of any other path plain text."""
    served = {resource.root for resource in (APPLICATIONS, DEPLOYMENTS, PODS)}
    if not any(request.url.path.startswith(f"/{root}/") for root in served):
        return PlainTextResponse("404 page not found\n", 404)
    return JSONResponse(ApiError(404, "NotFound", "the server could not find the requested resource").status, 404)


async def _no_method(_: Request, __: Exception) -> Response:
    message = "the server does not allow this method on the requested resource"
    return JSONResponse(ApiError(405, "MethodNotAllowed", message).status, 405)
