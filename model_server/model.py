"""The model behind the server: it makes predictions, and must answer its recorded requests correctly."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED_REQUESTS = "incumbent/recorded_requests.json"


class InvalidRequestError(Exception):
    """A request that no model can answer; the text says why."""


class ModelUnusableError(Exception):
    """The model does not exist or cannot be served; trying again changes nothing."""


@dataclass(frozen=True)
class Model:
    """A model that is ready to be served."""

    name: str
    """The registered model; `unregistered` for a model addressed by its run."""
    version: str
    run_id: str
    estimator: Any
    class_names: tuple[str, ...]
    recorded: tuple[Mapping[str, Any], ...]
    """Entries with `request`, `response` and an optional `tolerance`; empty if the run has no recording."""

    def features(self, body: bytes) -> list[float]:
        """Parse the feature row of a request.

        Raises:
            InvalidRequestError: the body is not `{"features": [numbers]}` with as many numbers as the model takes.
        """
        wanted = int(self.estimator.n_features_in_)
        try:
            request = json.loads(body)
        except ValueError as error:  # also text that is not UTF-8
            raise InvalidRequestError("the body is not JSON") from error
        row = request.get("features") if isinstance(request, dict) else None
        if not isinstance(row, list) or len(row) != wanted:
            raise InvalidRequestError(f'expected {{"features": [{wanted} numbers]}}')
        for index, value in enumerate(row):
            if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
                raise InvalidRequestError(f"feature {index} is not a finite number")
        return [float(value) for value in row]

    def predict(self, features: list[float]) -> dict[str, Any]:
        """Answer one feature row; the inference time is not part of the answer."""
        import numpy

        prediction = int(self.estimator.predict(numpy.asarray([features]))[0])
        names = self.class_names
        return {
            "prediction": prediction,
            "class_name": names[prediction] if 0 <= prediction < len(names) else str(prediction),
        }

    def first_wrong_answer(self) -> str | None:
        """Check the answers to the recorded requests.

        Returns:
            What is wrong with the first wrong answer; None if all are right.
        """
        if not self.recorded:
            return f"run {self.run_id} has no {RECORDED_REQUESTS}; create it with `incumbent record`"
        for number, entry in enumerate(self.recorded, start=1):
            try:
                answer = self.predict(self.features(json.dumps(entry["request"]).encode()))
            except InvalidRequestError as error:
                return f"recorded request {number} was refused: {error}"
            for name, expected in entry["response"].items():
                if not _same(expected, answer.get(name), float(entry.get("tolerance", 0.0))):
                    return f"recorded request {number}: expected {name}={expected!r}, found {answer.get(name)!r}"
        return None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _same(expected: object, answered: object, tolerance: float) -> bool:
    numbers = (int, float)
    if isinstance(expected, bool) or not isinstance(expected, numbers) or not isinstance(answered, numbers):
        return expected == answered
    return math.isclose(expected, answered, rel_tol=0.0, abs_tol=tolerance)


def read_recording(file: Path) -> tuple[Mapping[str, Any], ...]:
    """Read the entries of a recording; of a newer one the fields of an answer that it compares.

    Raises:
        ModelUnusableError: this server does not know the recording's version.
    """
    content = json.loads(file.read_bytes())
    if content.get("version") not in (1, 2):
        raise ModelUnusableError(f"{file.name}: expected version 1 or 2, found {content.get('version')!r}")
    if content["version"] == 1:
        return tuple(content["requests"])
    ignored = {path.removeprefix("$.") for path in content.get("ignore", ())}
    tolerance = content.get("tolerance", {}).get("absolute", 0.0)
    return tuple(
        {
            "request": entry["request"],
            "response": {name: value for name, value in entry["response"]["body"].items() if name not in ignored},
            "tolerance": tolerance,
        }
        for entry in content["requests"]
    )
