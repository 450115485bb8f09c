"""A server that answers as GitHub's REST API does: workflow dispatches, issues, comments, and tokens of GitHub Apps.

It keeps what it was asked for, runs nothing, and forgets everything when it ends; `--log` keeps each dispatch as a line
of a file. Statuses, headers and bodies are those of GitHub's documentation, by page:

- https://docs.github.com/rest/actions/workflows#create-a-workflow-dispatch-event
- https://docs.github.com/rest/issues/issues and https://docs.github.com/rest/issues/comments
- https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
- https://docs.github.com/rest/meta/meta#get-all-api-versions
- https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
- https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
- https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api

It imports only the standard library, so that this file can run where the project is not installed; to check the
signature of a GitHub App it needs PyJWT.

    python github_server.py --host HOST --port PORT --token-file FILE --repository OWNER/NAME [--log FILE]
"""

import argparse
import json
import re
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

VERSIONS = ("2022-11-28", "2026-03-10")
VERSIONS_PATH = "/versions"
LOG_ANALYSIS = ("cluster", "alert_name", "alert_severity", "pod_name", "namespace")
OPTIONAL = ("policy", "summary")
"""Inputs that the log analysis takes for an alert that names no pod."""
DRIFT_DETECTION = ("model_name", "current_accuracy", "baseline_accuracy")
DRIFT_OPTIONAL = ("policy", "version")
"""Inputs that say which champion has drifted, where the alert does."""
_DOCUMENTATION = "https://docs.github.com/rest"
_LONGEST_BODY = 65536
"""Characters of an issue's or a comment's body."""
_MOST_INPUTS = 25
_TOKEN_SECONDS = 3600
_LIMIT = 5000
"""Requests per hour of a token."""
_PATIENCE_SECONDS = 30.0
Json = dict[str, Any]


@dataclass(frozen=True)
class Workflow:
    """A workflow file of the repository."""

    inputs: tuple[str, ...] = ()
    required: frozenset[str] = frozenset()
    has_dispatch_trigger: bool = True


@dataclass(frozen=True)
class Dispatch:
    """A run that was asked for."""

    workflow: str
    ref: str
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class Fault:
    """What happens to the next request instead of an answer, or to its answer."""

    status: int = 0
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_done: bool = False
    """Whether the request is carried out before it fails."""

    @property
    def drops(self) -> bool:
        """Whether the connection ends without an answer."""
        return self.status == 0


class Refusal(Exception):  # noqa: N818 - an answer, not a fault of the server
    """An answer other than the wanted one."""

    def __init__(
        self, status: int, message: str, errors: list[Json] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.errors, self.headers = status, message, errors, headers or {}


@dataclass
class Repository:
    """What the server holds of one repository."""

    workflows: dict[str, Workflow]
    refs: set[str] = field(default_factory=lambda: {"main"})
    has_issues: bool = True
    dispatches: list[Dispatch] = field(default_factory=list)
    issues: list[Json] = field(default_factory=list)
    comments: list[Json] = field(default_factory=list)


def default_workflows() -> dict[str, Workflow]:
    """Return the two workflows that alerts start, as their files declare their inputs."""
    return {
        "ai-log-analysis.yml": Workflow((*LOG_ANALYSIS, *OPTIONAL), frozenset(LOG_ANALYSIS)),
        "ai-drift-detection.yml": Workflow((*DRIFT_DETECTION, *DRIFT_OPTIONAL), frozenset(DRIFT_DETECTION)),
    }


class GitHubServer(ThreadingHTTPServer):
    """Serves one repository to clients that have the token or an App's key; port 0 takes a free port.

    Tests read `repository`, and push to `faults` what should happen to the next requests.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        token: str,
        name: str = "acme/platform",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log: Path | None = None,
    ) -> None:
        if not token:
            raise ValueError("a server without a token would believe every process of this machine")
        self.name, self.log = name, log
        self.repository = Repository(default_workflows())
        self.tokens: dict[str, float] = {token: float("inf")}
        """Each token with the time at which it ends."""
        self.may_write = True
        """Whether the tokens have the permissions `actions` and `issues`."""
        self.app: tuple[str, int, str] | None = None
        """A GitHub App's id, its installation's id and its public key in PEM."""
        self.answers_with_run = False
        """Whether dispatches are answered with the run, as newer versions do, instead of 204."""
        self.remaining = _LIMIT
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request, in order."""
        self.lock = threading.RLock()
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def dispatches(self) -> list[Dispatch]:
        """The runs that were asked for, in order."""
        with self.lock:
            return list(self.repository.dispatches)

    def keep(self, dispatch: Dispatch) -> None:
        """Take note of a run."""
        self.repository.dispatches.append(dispatch)
        if self.log is not None:
            line = {"at": time.time(), "workflow": dispatch.workflow, "ref": dispatch.ref, "inputs": dispatch.inputs}
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(line)}\n")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: GitHubServer
    routes: "tuple[tuple[str, str, _Act], ...]" = ()
    """Method, path and what is done, by the first that fits."""
    timeout = _PATIENCE_SECONDS
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together: a client delays its acknowledgement of the first of two packets

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Log nothing: `requests` has them."""

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        self._body = self.rfile.read(int(length)) if length.isdecimal() else b""
        server = self.server
        with server.lock:
            server.requests.append((self.command, self.path))
            fault = server.faults.popleft() if server.faults else None
            if fault is None or fault.is_done:
                status, content, headers = self._carried_out()
            if fault is not None and fault.drops:
                self.close_connection = True
                return
            if fault is not None:
                status, headers = fault.status, dict(fault.headers)
                content = _error(fault.status, fault.message)
        self._send(status, content, headers)

    def _carried_out(self) -> tuple[int, object, dict[str, str]]:
        try:
            self._admit()
            self._count()
            for method, pattern, act in self.routes:
                match = re.fullmatch(pattern, urlsplit(self.path).path)
                if method == self.command and match:
                    return act(self, *(unquote(group) for group in match.groups()))
            raise Refusal(404, "Not Found")
        except Refusal as refusal:
            return refusal.status, _error(refusal.status, refusal.message, refusal.errors), refusal.headers

    def _admit(self) -> None:
        """Refuse what GitHub refuses before it looks at the path (troubleshooting the REST API)."""
        if not self.headers.get("User-Agent"):
            raise Refusal(
                403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent"
            )
        version = self.headers.get("X-GitHub-Api-Version", VERSIONS[0])
        if version not in VERSIONS:
            raise Refusal(400, f"{version!r} is not a supported version of the GitHub API")
        if self.path == VERSIONS_PATH or self.path.startswith("/app/"):  # open to everyone, or signed instead
            return
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if not token:  # GitHub hides private repositories from those who may not see them
            raise Refusal(404, "Not Found") if self.command == "GET" else Refusal(401, "Requires authentication")
        if scheme.lower() not in ("bearer", "token") or self.server.tokens.get(token, 0.0) < time.time():
            raise Refusal(401, "Bad credentials")
        path = urlsplit(self.path).path
        if path != "/graphql" and not f"{path}/".startswith(f"/repos/{self.server.name}/"):
            raise Refusal(404, "Not Found")
        if self.command != "GET" and not self.server.may_write:
            permission = "pull_requests=write" if "/pulls" in path else "actions=write"
            needed = {"x-accepted-github-permissions": permission}
            raise Refusal(403, "Resource not accessible by personal access token", headers=needed)

    def _count(self) -> None:
        """Count a request against the hour's limit (rate limits for the REST API)."""
        if self.server.remaining <= 0:
            raise Refusal(403, "API rate limit exceeded for user ID 1.")
        self.server.remaining -= 1

    def _send(self, status: int, content: object, headers: Mapping[str, str]) -> None:
        body = b"" if status == 204 else json.dumps(content).encode()
        remaining = max(self.server.remaining, 0)
        reset = (int(time.time()) // 3600 + 1) * 3600
        every = {
            "Content-Type": "application/json; charset=utf-8",
            "X-GitHub-Api-Version-Selected": self.headers.get("X-GitHub-Api-Version", VERSIONS[0]),
            "X-GitHub-Request-Id": secrets.token_hex(8),
            "X-RateLimit-Limit": str(_LIMIT),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Used": str(_LIMIT - remaining),
            "X-RateLimit-Reset": str(reset),
            "X-RateLimit-Resource": "core",
        }
        given = {name.lower() for name in headers}
        self.send_response(status)
        for name, value in (*((n, v) for n, v in every.items() if n.lower() not in given), *headers.items()):
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _content(self) -> Json:
        """Return the request's body (troubleshooting: problems parsing JSON, body should be a JSON object)."""
        try:
            content = json.loads(self._body)
        except ValueError:
            raise Refusal(400, "Problems parsing JSON") from None
        if not isinstance(content, dict):
            raise Refusal(400, "Body should be a JSON object")
        return content

    def versions(self) -> tuple[int, object, dict[str, str]]:
        """List the versions of the API."""
        return 200, list(VERSIONS), {}

    def token(self, installation: str) -> tuple[int, object, dict[str, str]]:
        """Give a token for an hour to who signs with the App's key."""
        import jwt

        app, signed = self.server.app, self.headers.get("Authorization", "").removeprefix("Bearer ")
        if app is None:
            raise Refusal(404, "Integration not found")
        app_id, installation_id, public_key = app
        try:
            claims = jwt.decode(signed, public_key, algorithms=["RS256"], options={"require": ["iat", "exp", "iss"]})
        except jwt.PyJWTError:
            raise Refusal(401, "A JSON web token could not be decoded") from None
        if claims["exp"] - time.time() > 600:
            raise Refusal(401, "'Expiration time' claim ('exp') is too far in the future")
        if claims["iss"] != app_id:
            raise Refusal(401, "'Issuer' claim ('iss') must be an Integer or a client ID")
        if int(installation) != installation_id:
            raise Refusal(404, "Not Found")
        token, ends = f"ghs_{secrets.token_hex(18)}", int(time.time()) + _TOKEN_SECONDS
        self.server.tokens[token] = ends
        permissions = {"actions": "write", "issues": "write", "metadata": "read"}
        return 201, {"token": token, "expires_at": as_time(ends), "permissions": permissions}, {}

    def dispatch(self, name: str) -> tuple[int, object, dict[str, str]]:
        """Take note of a run of a workflow."""
        content, repository = self._content(), self.server.repository
        workflow = repository.workflows.get(name)
        if workflow is None:
            raise Refusal(404, "Not Found")
        ref, inputs = content.get("ref"), content.get("inputs", {})
        if not isinstance(ref, str):
            raise Refusal(422, 'Invalid request.\n\n"ref" wasn\'t supplied.')
        if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
            raise Refusal(422, "Invalid request.\n\nFor 'properties/inputs', an object of texts is expected.")
        if len(inputs) > _MOST_INPUTS:
            raise Refusal(422, f"Invalid request.\n\nNo more than {_MOST_INPUTS} properties are allowed")
        if sum(map(len, inputs.values())) > 65535:
            raise Refusal(422, "inputs are too large.")
        if ref.removeprefix("refs/heads/") not in repository.refs:
            raise Refusal(422, f"No ref found for: {ref}")
        if not workflow.has_dispatch_trigger:
            raise Refusal(422, "Workflow does not have 'workflow_dispatch' trigger")
        unexpected = [name for name in inputs if name not in workflow.inputs]
        if unexpected:
            raise Refusal(422, f"Unexpected inputs provided: {json.dumps(unexpected)}")
        for required in workflow.inputs:
            if required in workflow.required and not inputs.get(required):
                raise Refusal(422, f"Required input '{required}' not provided")
        self.server.keep(Dispatch(name, ref, dict(inputs)))
        number = len(repository.dispatches)
        if not (self.server.answers_with_run or content.get("return_run_details")):
            return 204, None, {}
        place = f"{self.server.name}/actions/runs/{number}"
        run = {"workflow_run_id": number, "run_url": f"{self.server.url}/repos/{place}"}
        return 200, {**run, "html_url": f"https://github.com/{place}"}, {}

    def list_issues(self) -> tuple[int, object, dict[str, str]]:
        """List issues and pull requests, the newest first."""
        self._need_issues()
        query = self._query()
        wanted = {label for label in query.get("labels", "").split(",") if label}
        state = query.get("state", "open")
        if state not in ("open", "closed", "all"):
            raise _invalid("Issue", "state")
        found = [
            issue
            for issue in reversed(self.server.repository.issues)
            if state in ("all", issue["state"]) and wanted <= {label["name"] for label in issue["labels"]}
        ]
        return self._page(found)

    def create_issue(self) -> tuple[int, object, dict[str, str]]:
        """Create an issue."""
        self._need_issues()
        content = self._content()
        if not isinstance(content.get("title"), str) or not content["title"].strip():
            raise Refusal(422, "Validation Failed", errors=[fault("Issue", "missing_field", "title")])
        issue = {
            **self._page_of("issues", len(self.server.repository.issues) + 1),
            "number": len(self.server.repository.issues) + 1,
            "title": content["title"],
            "body": _text(content, "Issue"),
            "labels": _labels(content),
            "state": "open",
            "state_reason": None,
            "comments": 0,
        }
        self.server.repository.issues.append(issue)
        return 201, issue, {"Location": issue["url"]}

    def show_issue(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Return an issue."""
        return 200, self._issue(number), {}

    def edit_issue(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Change an issue's title, body, labels or state."""
        issue, content = self._issue(number), self._content()
        if content.get("state", "open") not in ("open", "closed"):
            raise _invalid("Issue", "state")
        if content.get("state_reason") not in (None, "completed", "not_planned", "duplicate", "reopened"):
            raise _invalid("Issue", "state_reason")
        issue.update({name: content[name] for name in ("title", "state", "state_reason") if name in content})
        if "body" in content:
            issue["body"] = _text(content, "Issue")
        if "labels" in content:
            issue["labels"] = _labels(content)
        return 200, issue, {}

    def list_comments(self, number: str) -> tuple[int, object, dict[str, str]]:
        """List an issue's comments, the oldest first."""
        issue = self._issue(number)
        return self._page([each for each in self.server.repository.comments if each["issue_url"] == issue["url"]])

    def create_comment(self, number: str) -> tuple[int, object, dict[str, str]]:
        """Add a comment to an issue."""
        issue, content = self._issue(number), self._content()
        body = _text(content, "IssueComment")
        if not body:
            raise Refusal(422, "Validation Failed", errors=[fault("IssueComment", "missing_field", "body")])
        identity = len(self.server.repository.comments) + 1
        comment = {**self._page_of("issues/comments", identity), "issue_url": issue["url"], "body": body}
        self.server.repository.comments.append(comment)
        issue["comments"] += 1
        return 201, comment, {"Location": comment["url"]}

    def _page_of(self, kind: str, identity: int) -> Json:
        place = f"{self.server.name}/{kind}/{identity}"
        return {
            "id": identity,
            "url": f"{self.server.url}/repos/{place}",
            "html_url": f"https://github.com/{place}",
            "user": {"login": "incumbent[bot]"},
            "created_at": as_time(time.time()),
        }

    def _need_issues(self) -> None:
        if not self.server.repository.has_issues:
            raise Refusal(410, "Issues has been disabled in this repository.")

    def _issue(self, number: str) -> Json:
        self._need_issues()
        for issue in self.server.repository.issues:
            if issue["number"] == int(number):
                return issue
        raise Refusal(404, "Not Found")

    def _query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))

    def _page(self, items: list[Json]) -> tuple[int, object, dict[str, str]]:
        """Return one page with the addresses of its neighbours (using pagination in the REST API)."""
        query = self._query()
        size = min(int(query.get("per_page", "30")), 100)
        page, last = int(query.get("page", "1")), max(1, -(-len(items) // size))
        path = urlsplit(self.path).path
        links = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        shown = [
            f'<{self.server.url}{path}?{urlencode({**query, "page": number})}>; rel="{relation}"'
            for relation, number in links.items()
            if (relation == "prev" and page > 1) or (relation == "first" and page > 1)
            or (relation in ("next", "last") and page < last)
        ]  # fmt: skip
        return 200, items[(page - 1) * size : page * size], {"Link": ", ".join(shown)} if shown else {}


REPOSITORY = "/repos/[^/]+/[^/]+"
_Act = Callable[..., tuple[int, object, dict[str, str]]]
Handler.routes = (
    ("GET", VERSIONS_PATH, Handler.versions),
    ("POST", r"/app/installations/(\d+)/access_tokens", Handler.token),
    ("POST", rf"{REPOSITORY}/actions/workflows/([^/]+)/dispatches", Handler.dispatch),
    ("GET", rf"{REPOSITORY}/issues", Handler.list_issues),
    ("POST", rf"{REPOSITORY}/issues", Handler.create_issue),
    ("GET", rf"{REPOSITORY}/issues/(\d+)", Handler.show_issue),
    ("PATCH", rf"{REPOSITORY}/issues/(\d+)", Handler.edit_issue),
    ("GET", rf"{REPOSITORY}/issues/(\d+)/comments", Handler.list_comments),
    ("POST", rf"{REPOSITORY}/issues/(\d+)/comments", Handler.create_comment),
)


def _error(status: int, message: str, errors: list[Json] | None = None) -> Json:
    body: Json = {"message": message, "documentation_url": _DOCUMENTATION, "status": str(status)}
    return body if errors is None else {**body, "errors": errors}


def fault(resource: str, code: str, name: str) -> Json:
    return {"resource": resource, "code": code, "field": name}


def _invalid(resource: str, name: str) -> Refusal:
    return Refusal(422, "Validation Failed", errors=[fault(resource, "invalid", name)])


def _text(content: Json, resource: str) -> str:
    body = content.get("body") or ""
    if not isinstance(body, str):
        raise _invalid(resource, "body")
    if len(body) > _LONGEST_BODY:
        message = f"body is too long (maximum is {_LONGEST_BODY} characters)"
        raise Refusal(422, "Validation Failed", errors=[{**fault(resource, "custom", "body"), "message": message}])
    return body


def _labels(content: Json) -> list[Json]:
    labels = content.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _invalid("Issue", "labels")
    return [{"name": label} for label in labels]


def as_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--ref", default="main", help="the one branch that it has (default: %(default)s)")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    token = options.token_file.read_text(encoding="utf-8").strip()
    server = GitHubServer(token, options.repository, host=options.host, port=options.port, log=options.log)
    server.repository.refs = {options.ref}
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


if __name__ == "__main__":
    main()
