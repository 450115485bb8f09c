"""What stays the same when a request is repeated, and whether the prediction is among it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.promotion.answer_comparison import Rules, difference, is_number, is_same, varying
from orchestration.promotion.json_paths import Path, PathPattern, below, format_path, leaves

_PREDICTION = re.compile(r"predict|label|class|score|prob", re.IGNORECASE)
_RESULT = re.compile(r"output|result|answer|response|text|content|data|value|embedding|instances", re.IGNORECASE)
_VOLATILE = re.compile(
    r"(^|_)(id|uuid|uid|guid|nonce|trace|span|time|date|at|on|now|t|ts|ns|us|ms|s|sec|secs|seconds|millis|took|elapsed|"
    r"latency|duration|uptime|timestamp|expires|created|served|tokens|host|hostname|pod|node|worker|pid|cached)$",
    re.IGNORECASE,
)
"""Names of what may vary without being a prediction: ids, times, and who answered."""
_ABOUT = re.compile(r"timings?|metrics|usage|meta(_?data)?|headers|trace|debug|stats", re.IGNORECASE)
"""Names of what has such values below it."""
_METADATA = re.compile(
    r"(^|_)(name|version|status|code|success|ok|error|message|type|datatype|shape|object|model|count|index)$",
    re.IGNORECASE,
)
_ERROR = re.compile(r"errors?|error_message|exception|traceback|stack(_?trace)?|fault", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|-")
_SHOWN = 5


def varying_paths(repeated: Sequence[Sequence[Any]], rules: Rules) -> tuple[Path, ...]:
    """Find where the answers to any of the requests differ between repetitions, by more than the tolerance.

    Args:
        repeated: for each request its answers, all to the same request.
        rules: what may differ, and what is not compared anyway.
    """
    return tuple(dict.fromkeys(path for answers in repeated for path in varying(answers, rules)))


def torn(paths: Sequence[Path], repeated: Sequence[Sequence[Any]]) -> Path | None:
    """Find a list of numbers of which only some vary: values of one sort should all be compared, or none of them."""
    for path in paths:
        if path and isinstance(path[-1], int) and any(is_number(value_at(answers[0], path)) for answers in repeated):
            return path[:-1]
    return None


def varying_prediction(paths: Sequence[Path]) -> Path | None:
    """Find a place among those that vary whose name says that it has the prediction; None when there is none."""
    for path in paths:
        names = [step for step in path if isinstance(step, str)]
        if names and _PREDICTION.search(names[-1]) and not _is_metadata(names[-1]):
            return path
    return None


def doubtful(left_out: Sequence[Path], counting: Sequence[Path]) -> tuple[Path, ...]:
    """Find what of the places that are left out may be the prediction, whatever it is called.

    Not so is what counts upwards whatever is asked, and what is an id, a time or the like by its name or its place.

    Args:
        left_out: where the answers vary, or come from a clock.
        counting: the places among them of numbers that come from a clock or a counter.
    """
    return tuple(path for path in left_out if path not in counting and not _is_volatile(path))


def _is_volatile(path: Path) -> bool:
    names = [_HUMP.sub("_", step) for step in path if isinstance(step, str)]
    return bool(names) and (bool(_VOLATILE.search(names[-1])) or any(_ABOUT.fullmatch(name) for name in names[:-1]))


def _is_metadata(name: str) -> bool:
    name = _HUMP.sub("_", name)
    return bool(_METADATA.search(name) or _VOLATILE.search(name))


def unsure(
    requests: Sequence[Any],
    answers: Sequence[Any],
    rules: Rules,
    predictions: Sequence[PathPattern],
    *,
    left_out: bool,
    in_doubt: Sequence[Path] = (),
) -> str | None:
    """Why it is not sure that the prediction is compared; None when it is.

    A prediction depends on the request. So answers to different requests must differ in what is compared; where there
    is one request, or where all of its answer is compared, something in it must look like a prediction. Where a part is
    not compared, what merely repeats the request proves nothing. Where that part may itself be the prediction, what is
    compared must have one by its place or its name: sums of the input and numbers of tokens depend on the request, too.

    Args:
        requests: what was asked.
        answers: the first answer to each of the requests, which differ.
        rules: what of them is compared, and how.
        predictions: where the protocol has its predictions.
        left_out: whether a part of the answers is not compared, because it varies.
        in_doubt: what of that part may be the prediction.
    """
    compared = [dict(compared_leaves(answer, rules)) for answer in answers]
    if not any(compared):
        return "nothing that stays the same"
    if all(map(_is_error, compared)):
        return f"nothing but an error in {named(list(compared[0]))}"
    placed = [_places(answer, predictions) for answer in answers]
    is_there = (seen.get(path) is not None for paths, seen in zip(placed, compared, strict=True) for path in paths)
    if any(placed) and not any(is_there):
        return "no prediction that stays the same"
    repeated = _repeated(requests, compared)
    hidden = None
    if in_doubt and not _has_prediction(compared, predictions, repeated, rules):
        beside = "none beside it that surely is one, by its name or by the protocol"
        hidden = f"a value that changes and may be the prediction, {named(in_doubt)}, and {beside}"
    if _differ(answers, replace(rules, ignore=rules.ignore + repeated) if left_out else rules):
        return hidden
    if len(answers) > 1 and left_out:
        repeats = " and what repeats the request" if _differ(answers, rules) else ""
        return f"the same answer to every request, apart from what varies between answers to one request{repeats}"
    if any(_may_predict(path, value) for seen in compared for path, value in seen.items()):
        return hidden
    return f"nothing that looks like a prediction in {named(list(compared[0]))}"


def _differ(answers: Sequence[Any], rules: Rules) -> bool:
    first = answers[0]
    return any(difference(first, other, rules) or difference(other, first, rules) for other in answers[1:])


def _repeated(requests: Sequence[Any], compared: Sequence[dict[Path, Any]]) -> tuple[Path, ...]:
    """Where each answer has a value of its request, unless the place's name says that it is a prediction."""
    asked = [{_comparable(value) for _, value in leaves(request)} for request in requests]
    places = (
        path
        for path in compared[0]
        if all(path in seen and _comparable(seen[path]) in own for seen, own in zip(compared, asked, strict=True))
    )
    return tuple(path for path in places if varying_prediction([path]) is None)


def _is_error(seen: Mapping[Path, Any]) -> bool:
    """Whether an answer says what went wrong, and nothing else, whatever its status."""
    names = {path: [step for step in path if isinstance(step, str)] for path in seen}
    errors = [path for path, own in names.items() if any(map(_ERROR.fullmatch, own)) and seen[path] not in (None, "")]
    return bool(errors) and all(path in errors or (own and _is_metadata(own[-1])) for path, own in names.items())


def _has_prediction(
    compared: Sequence[Mapping[Path, Any]], predictions: Sequence[PathPattern], repeated: Sequence[Path], rules: Rules
) -> bool:
    """Whether each answer has what is a prediction by its place or its name, and it depends on the request."""
    known = [
        {
            path: value
            for path, value in seen.items()
            if path not in repeated and (_is_under(path, predictions) or _is_named_prediction(path))
        }
        for seen in compared
    ]
    first = known[0]
    is_other = (
        seen.keys() != first.keys() or any(not is_same(seen[path], first[path], rules.tolerance) for path in first)
        for seen in known[1:]
    )
    return all(known) and (len(known) == 1 or any(is_other))


def _is_named_prediction(path: Path) -> bool:
    names = [step for step in path if isinstance(step, str)]
    return any(map(_PREDICTION.search, names)) and not _is_metadata(names[-1])


def _comparable(value: Any) -> str:
    return repr(float(value) if is_number(value) and abs(value) < 1e300 else value)


def named(paths: Sequence[Path]) -> str:
    """Name the first few paths."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(format_path(path) for path in paths[:_SHOWN]) + more


def compared_leaves(answer: Any, rules: Rules) -> Iterator[tuple[Path, Any]]:
    """Yield what of an answer is compared: every value that has nothing below it."""
    for path, value in leaves(answer):
        here = rules
        for step in path:
            here = here.at(step)
            if here.ignored:
                break
        else:
            if value not in ({}, []):
                yield path, value


def _places(answer: Any, patterns: Sequence[PathPattern]) -> set[Path]:
    return {path for path, _ in leaves(answer) if _is_under(path, patterns)}


def _is_under(path: Path, patterns: Sequence[PathPattern]) -> bool:
    left = tuple(patterns)
    for step in path:
        left = below(left, step)
        if () in left:
            return True
    return False


def _may_predict(path: Path, value: Any) -> bool:
    """Whether a value may be a prediction: a bare one, a number, or one under a name such as `label` or `data`."""
    if value is None:
        return False
    names = [step for step in path if isinstance(step, str)]
    if not names or _PREDICTION.search(names[-1]):
        return True
    if _is_metadata(names[-1]):
        return False
    return is_number(value) or any(_PREDICTION.search(name) or _RESULT.search(name) for name in names)


def value_at(answer: Any, path: Path) -> Any:
    """Return the value at a path; None where an answer has none there."""
    for step in path:
        if isinstance(answer, list) and isinstance(step, int) and step < len(answer):
            answer = answer[step]
        elif isinstance(answer, dict):
            answer = answer.get(step)
        else:
            return None
    return answer
