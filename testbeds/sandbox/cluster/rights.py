"""Who may call what: the pipeline's token may make every call, and no token none but /readyz.

A stranger may also ask what every known user may: for the schemas, and for its own rights.
"""

import re
import secrets
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from testbeds.sandbox.cluster.objects import ApiError, Resource
from testbeds.sandbox.cluster.world import World

STRANGER = "system:serviceaccount:default:stranger"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
IS_STRANGER = "stranger"
"""The key in a request's scope that tells who asks."""
_FOR_ALL = (REVIEWS, "/openapi/v3")
_VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
_PATH = re.compile(
    r"/apis?(?:/(?P<group>[a-z.]+))?/(?P<version>v\w+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<part>[a-z]+)(?:/.*)?)?)?"
)


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens: the pipeline's, and that of a known user without rights."""

    pipeline: str
    stranger: str

    @classmethod
    def make(cls) -> "Tokens":
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24))


class Guard:
    """Requires a token, refuses strangers as RBAC does, and imitates an API server that is not ready."""

    def __init__(self, app: ASGIApp, world: World, tokens: Tokens) -> None:
        self._app, self._world = app, world
        self._pipeline, self._stranger = (f"Bearer {token}".encode() for token in (tokens.pipeline, tokens.stranger))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal: ApiError | None = None
        if scope["type"] == "http" and scope["path"] != "/readyz":
            given = dict(scope["headers"]).get(b"authorization", b"")
            scope[IS_STRANGER] = secrets.compare_digest(given, self._stranger)
            if scope[IS_STRANGER] and not scope["path"].startswith(_FOR_ALL):
                refusal = _forbidden(scope["method"], scope["path"])
            elif not scope[IS_STRANGER] and not secrets.compare_digest(given, self._pipeline):
                refusal = ApiError(401, "Unauthorized", "Unauthorized")
            elif self._world.faults.not_ready and not scope["path"].startswith("/sandbox/faults"):
                refusal = ApiError(503, "ServiceUnavailable", "apiserver not ready")
        if refusal is not None:
            await JSONResponse(refusal.status, refusal.code)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _forbidden(method: str, path: str) -> ApiError:
    match = _PATH.fullmatch(path)
    if match is None:
        verb = _VERBS.get(method, method.lower())
        return ApiError(403, "Forbidden", f'forbidden: User "{STRANGER}" cannot {verb} path "{path}"')
    group, plural, name = match["group"] or "", match["plural"], match["name"] or ""
    resource = Resource("", group, match["version"], plural)
    verb = "list" if method == "GET" and not name else _VERBS.get(method, method.lower())
    asked = "/".join(filter(None, (plural, match["part"])))
    where = f'in the namespace "{match["namespace"]}"' if match["namespace"] else "at the cluster scope"
    about = f'{resource.full_name} "{name}"' if name else resource.full_name
    message = f'{about} is forbidden: User "{STRANGER}" cannot {verb} resource "{asked}" in API group "{group}" {where}'
    return ApiError(403, "Forbidden", message, resource, name)
