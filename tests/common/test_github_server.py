"""The GitHub-compatible server answers as GitHub's REST documentation says, row by row of a table taken from it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from testbeds.common.github_server import GitHubServer, Workflow
from tests.fakes.github import TOKEN, running_github
from tests.fakes.plain_http import HTTP

HEADERS = {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {TOKEN}", "User-Agent": "tests"}
LOG_INPUTS = dict.fromkeys(("cluster", "alert_name", "alert_severity", "pod_name", "namespace"), "x")
DISPATCHES = "/actions/workflows/ai-log-analysis.yml/dispatches"


@dataclass(frozen=True)
class Row:
    """One line of GitHub's documentation: what is asked, and what is answered."""

    page: str
    """Below https://docs.github.com/rest."""
    method: str
    path: str
    status: int
    content: object = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Changes to the request's headers; None takes one away."""
    message: str = ""
    """A part of `message` in an error's body."""
    code: str = ""
    """The code of the first entry of `errors`."""
    keys: frozenset[str] = frozenset()
    """What the answer's body has."""


WORKFLOWS = "actions/workflows#create-a-workflow-dispatch-event"
ISSUES, COMMENTS = "issues/issues", "issues/comments"
TROUBLE = "using-the-rest-api/troubleshooting-the-rest-api"
ISSUE_KEYS = frozenset({"id", "number", "title", "body", "state", "labels", "user", "url", "html_url", "comments"})
COMMENT_KEYS = frozenset({"id", "body", "user", "url", "html_url", "issue_url", "created_at"})
RUN_KEYS = frozenset({"workflow_run_id", "run_url", "html_url"})
ERROR_KEYS = frozenset({"message", "documentation_url", "status"})
TABLE = [
    Row(WORKFLOWS, "POST", DISPATCHES, 204, {"ref": "main", "inputs": LOG_INPUTS}),
    Row(WORKFLOWS, "POST", DISPATCHES, 204, {"ref": "refs/heads/main", "inputs": LOG_INPUTS}),
    Row(
        WORKFLOWS, "POST", DISPATCHES, 200,
        {"ref": "main", "inputs": LOG_INPUTS, "return_run_details": True}, keys=RUN_KEYS,
    ),
    Row(WORKFLOWS, "POST", "/actions/workflows/none.yml/dispatches", 404, {"ref": "main"}, message="Not Found"),
    Row(WORKFLOWS, "POST", DISPATCHES, 422, {"inputs": LOG_INPUTS}, message='"ref" wasn\'t supplied'),
    Row(WORKFLOWS, "POST", DISPATCHES, 422, {"ref": "none", "inputs": LOG_INPUTS}, message="No ref found for: none"),
    Row(
        WORKFLOWS, "POST", DISPATCHES, 422, {"ref": "main", "inputs": {**LOG_INPUTS, "more": "x"}},
        message='Unexpected inputs provided: ["more"]',
    ),
    Row(WORKFLOWS, "POST", DISPATCHES, 422, {"ref": "main"}, message="Required input 'cluster' not provided"),
    Row(WORKFLOWS, "POST", DISPATCHES, 422, {"ref": "main", "inputs": {"cluster": 1}}, message="Invalid request"),
    Row(
        WORKFLOWS, "POST", DISPATCHES, 422, {"ref": "main", "inputs": {str(n): "x" for n in range(26)}},
        message="No more than 25 properties",
    ),
    Row(
        WORKFLOWS, "POST", "/actions/workflows/on-push.yml/dispatches", 422, {"ref": "main"},
        message="Workflow does not have 'workflow_dispatch' trigger",
    ),
    Row(ISSUES, "POST", "/issues", 201, {"title": "t", "body": "b", "labels": ["l"]}, keys=ISSUE_KEYS),
    Row(ISSUES, "POST", "/issues", 422, {"body": "b"}, message="Validation Failed", code="missing_field"),
    Row(ISSUES, "POST", "/issues", 422, {"title": "t", "body": "b" * 65537}, message="Validation", code="custom"),
    Row(ISSUES, "GET", "/issues?state=all", 200),
    Row(ISSUES, "GET", "/issues?state=none", 422, message="Validation Failed", code="invalid"),
    Row(ISSUES, "GET", "/issues/1", 200, keys=ISSUE_KEYS),
    Row(ISSUES, "GET", "/issues/999", 404, message="Not Found"),
    Row(ISSUES, "PATCH", "/issues/1", 200, {"state": "closed", "state_reason": "completed"}, keys=ISSUE_KEYS),
    Row(ISSUES, "PATCH", "/issues/1", 422, {"state": "none"}, message="Validation Failed", code="invalid"),
    Row(COMMENTS, "GET", "/issues/1/comments", 200),
    Row(COMMENTS, "POST", "/issues/1/comments", 201, {"body": "b"}, keys=COMMENT_KEYS),
    Row(COMMENTS, "POST", "/issues/1/comments", 422, {"body": ""}, message="Validation Failed", code="missing_field"),
    Row(COMMENTS, "POST", "/issues/999/comments", 404, {"body": "b"}, message="Not Found"),
    Row(TROUBLE, "POST", "/issues", 400, b"{", message="Problems parsing JSON"),
    Row(TROUBLE, "POST", "/issues", 400, [], message="Body should be a JSON object"),
    Row(TROUBLE, "POST", "/issues", 401, {"title": "t"}, {"Authorization": "Bearer no"}, message="Bad credentials"),
    Row(TROUBLE, "POST", "/issues", 401, {"title": "t"}, {"Authorization": None}, message="Requires authentication"),
    Row(TROUBLE, "GET", "/issues", 404, None, {"Authorization": None}, message="Not Found"),
    Row(TROUBLE, "POST", "/issues/", 404, {"title": "t"}, message="Not Found"),
    Row(TROUBLE, "GET", "/issues", 400, None, {"X-GitHub-Api-Version": "1999-01-01"}, message="not a supported"),
    Row(TROUBLE, "GET", "/issues", 403, None, {"User-Agent": ""}, message="User-Agent"),
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[GitHubServer]:
    with running_github() as server:
        server.repository.workflows["on-push.yml"] = Workflow(has_dispatch_trigger=False)
        yield server


def ask(server: GitHubServer, row: Row) -> httpx2.Response:
    headers = {**HEADERS, **row.headers}
    body = row.content if isinstance(row.content, bytes) else json.dumps(row.content).encode()
    return HTTP.request(
        row.method,
        f"{server.url}/repos/{server.name}{row.path}",
        content=None if row.content is None else body,
        headers={name: value for name, value in headers.items() if value is not None},
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.status} {row.method} {row.path} {row.message}"[:80])
def test_it_answers_as_documented(server: GitHubServer, row: Row) -> None:
    """Status, body and headers are those of the page."""
    ask(server, Row(ISSUES, "POST", "/issues", 201, {"title": "the first"}))
    answer = ask(server, row)
    assert answer.status_code == row.status, answer.text
    remaining, used = (int(answer.headers[f"x-ratelimit-{name}"]) for name in ("remaining", "used"))
    assert remaining + used == int(answer.headers["x-ratelimit-limit"]) == 5000
    if row.status == 204:
        assert answer.content == b""
        return
    content: Any = answer.json()
    if row.status < 400:
        assert row.keys <= (content.keys() if isinstance(content, dict) else set())
    else:
        assert content.keys() >= ERROR_KEYS
        assert row.message in content["message"]
        assert content["status"] == str(row.status)
        assert not row.code or content["errors"][0]["code"] == row.code


def test_pages_link_to_their_neighbours(server: GitHubServer) -> None:
    """`Link` names the next and the last page, and on the last one the first and the previous."""
    for number in range(5):
        ask(server, Row(ISSUES, "POST", "/issues", 201, {"title": str(number)}))
    first = ask(server, Row(ISSUES, "GET", "/issues?per_page=2", 200))
    assert [issue["title"] for issue in first.json()] == ["4", "3"]
    assert first.links.keys() == {"next", "last"}
    last = HTTP.get(first.links["last"]["url"], headers=HEADERS)
    assert [issue["title"] for issue in last.json()] == ["0"]
    assert last.links.keys() == {"first", "prev"}


def test_an_exhausted_limit_is_refused(server: GitHubServer) -> None:
    """After the hour's last request, the answer is 403 with no requests remaining and the time of the next hour."""
    server.remaining = 1
    assert ask(server, Row(ISSUES, "GET", "/issues", 200)).status_code == 200
    refused = ask(server, Row(ISSUES, "GET", "/issues", 403))
    assert refused.status_code == 403
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert "API rate limit exceeded" in refused.json()["message"]


def test_anyone_may_ask_for_the_versions(server: GitHubServer) -> None:
    """Of all paths this one asks for no token, which suits a probe."""
    answer = HTTP.get(f"{server.url}/versions")
    assert (answer.status_code, "2022-11-28" in answer.json()) == (200, True)


def test_what_was_asked_for_is_kept(server: GitHubServer) -> None:
    """Only an acknowledged dispatch is kept, with its inputs as they were sent."""
    ask(server, Row(WORKFLOWS, "POST", DISPATCHES, 204, {"ref": "main", "inputs": LOG_INPUTS}))
    ask(server, Row(WORKFLOWS, "POST", DISPATCHES, 422, {"ref": "none", "inputs": LOG_INPUTS}))
    assert [dict(each.inputs) for each in server.dispatches] == [LOG_INPUTS]
