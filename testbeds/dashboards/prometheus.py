"""A Prometheus's own API, of which the pipeline's adapter knows only the queries for one moment."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from orchestration.promotion.problems import DependencyError, Problem
from testbeds.dashboards.frames import Series
from testbeds.dashboards.questions import Question

_SECONDS = 60


@dataclass(frozen=True)
class Prometheus:
    """A server at a URL, without a login."""

    url: str

    def answer(self, question: Question) -> list[Series]:
        """Ask a query.

        Raises:
            DependencyError: the server does not answer, or not with series.
        """
        form: dict[str, str | float] = {"query": question.expression}
        if question.step is None:
            result = self._read("query", form | {"time": question.end})
            return [Series(row["metric"], [tuple(row["value"])]) for row in result]
        over_time: dict[str, str | float] = {"start": question.start, "end": question.end, "step": question.step}
        return [
            Series(row["metric"], [(at, value) for at, value in row["values"]])
            for row in self._read("query_range", form | over_time)
        ]

    def _read(self, path: str, form: dict[str, str | float]) -> list[dict[str, Any]]:
        data = urllib.parse.urlencode(form).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", data, timeout=_SECONDS) as response:
                return list(json.load(response)["data"]["result"])
        except urllib.error.HTTPError as error:
            raise self._failure(form, f"HTTP {error.code}: {error.read(300).decode(errors='replace')}") from error
        except (OSError, ValueError) as error:
            raise self._failure(form, f"{type(error).__name__}: {error}") from error

    def _failure(self, form: dict[str, str | float], found: str) -> DependencyError:
        step = "Start the homelab (`make homelab`), or name another server with --prometheus."
        return DependencyError(Problem(f"Prometheus at {self.url}", f"an answer to {form['query']}", found, step))
