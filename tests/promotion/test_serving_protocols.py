"""Serving protocols: the requests that an input example makes, and whether a request fits a model's signature."""

from pathlib import Path
from typing import Any, get_args

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.cli.recording import record
from orchestration.promotion.model_version import ColumnInput, Signature, TensorInput
from orchestration.promotion.recorded_requests import RecordedAnswer, RecordedRequest, Recording, signature_problem
from orchestration.promotion.serving_protocols import PROTOCOLS, ProtocolName

TENSOR = Signature((TensorInput(None, "float64", (-1, 4)),))
COLUMNS = Signature(
    (ColumnInput("a", "double", True), ColumnInput("b", "long", True), ColumnInput("c", "string", False))
)
NAMED = Signature((TensorInput("x", "int64", (-1, 2)), TensorInput("y", "float32", (-1,))))
ONE_TEXT = Signature((ColumnInput("", "string", True),))
PIXELS = Signature((TensorInput(None, "uint8", (-1, 224, 224, 3)),))
SPLIT = {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2], [2.5, 3]]}}
BY_NAME = {"y": [0.5], "x": [[1, 2]]}
ARRAY = {"inputs": [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3]]}


def v2(*tensors: tuple[str, list[int], str, list[Any]]) -> dict[str, Any]:
    names = ("name", "shape", "datatype", "data")
    return {"inputs": [dict(zip(names, tensor, strict=True)) for tensor in tensors]}


def problem_of(request: Any, signature: Signature, protocol: ProtocolName) -> Any:
    good = RecordedRequest(request={"features": [1.5, 2]}, response=RecordedAnswer(body=1))
    recorded = RecordedRequest(request=request, response=RecordedAnswer(body=1))
    requests = (good, recorded) if protocol == "features" and signature is COLUMNS else (recorded,)
    return signature_problem(Recording(requests=requests), signature, protocol)


@pytest.mark.parametrize(
    ("protocol", "request_body", "signature"),
    [
        ("features", {"features": [5.1, 3.5, 1, 0.2]}, TENSOR),
        ("features", {"features": [[1, 2, 3, 4], [5, 6, 7, 8]]}, TENSOR),
        ("features", {"features": [1.5, 2]}, COLUMNS),
        ("features", {"features": [1.5, 2.0]}, COLUMNS),
        ("features", {"features": [1.5, 2, None]}, COLUMNS),
        ("features", {"features": [[1.5, 2, "x"]]}, COLUMNS),
        ("features", {"features": {"a": 1.5, "b": 2}}, COLUMNS),
        ("features", {"features": [{"a": 1.5, "b": 2}]}, COLUMNS),
        ("features", {"features": {"a": 5.1}}, TENSOR),
        ("mlflow", {"inputs": [[1.0, 2.0, 3.0, 4.0]]}, TENSOR),
        ("mlflow", {"instances": [[1.0, 2.0, 3.0, 4.0]]}, TENSOR),
        ("mlflow", {"dataframe_split": {"columns": list("abcd"), "data": [[1, 2, 3, 4]]}}, TENSOR),
        ("mlflow", {"inputs": {"a": [1.0], "b": [2]}}, COLUMNS),
        ("mlflow", {"inputs": [{"a": 1.0, "b": 2}], "params": {"top_k": 1}}, COLUMNS),
        ("mlflow", {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1.5]]}}, COLUMNS),
        ("mlflow", {"dataframe_records": [{"a": 1, "b": 2, "extra": 3}]}, COLUMNS),
        ("mlflow", {"inputs": {"x": [[1, 2]], "y": [0.5]}}, NAMED),
        ("mlflow", {"instances": [{"x": [1, 2], "y": 0.5}]}, NAMED),
        ("mlflow", {"inputs": ["I love it", "I do not"]}, ONE_TEXT),
        ("mlflow", {"inputs": "I love it"}, ONE_TEXT),
        ("mlflow", {"inputs": {"b64": "aGk="}}, PIXELS),
        ("mlflow", {"instances": [{"b64": "aGk="}]}, PIXELS),
        ("mlflow", {"messages": [{"role": "user", "content": "2+2"}]}, COLUMNS),
        ("v1", {"instances": [[1.5, 2]]}, COLUMNS),
        ("v1", {"instances": [{"a": 1.5, "b": 2}]}, COLUMNS),
        ("v1", {"inputs": {"x": [[1, 2]], "y": [0.5]}}, NAMED),
        ("v2", v2(("input-0", [1, 4], "FP64", [1.0, 2.0, 3.0, 4.0])), TENSOR),
        ("v2", v2(("input-0", [1, 4], "FP64", [[1.0, 2.0, 3.0, 4.0]])), TENSOR),
        ("v2", v2(("a", [1], "FP64", [1.5]), ("b", [1], "INT64", [2])), COLUMNS),
        ("v2", v2(("all", [1, 2], "FP64", [1.5, 2.0])), COLUMNS),
        ("v2", v2(("x", [1, 2], "INT64", [1, 2]), ("y", [1], "FP32", [0.5])), NAMED),
        ("json", {"inputs": "text"}, COLUMNS),
        ("json", {"features": ["user_42"]}, COLUMNS),
        ("json", ["any", 1], COLUMNS),
        ("features", {"features": [1]}, Signature(())),
    ],
)
def test_requests_that_fit_the_signature(protocol: ProtocolName, request_body: Any, signature: Signature) -> None:
    """A body is judged in the form of the policy's protocol alone; what only the server can read passes."""
    assert problem_of(request_body, signature, protocol) is None


@pytest.mark.parametrize(
    ("protocol", "request_body", "signature", "finding"),
    [
        ("features", {"features": [1, 2, 3]}, TENSOR, "an array of shape (3,) for an input of shape (-1, 4)"),
        ("features", {"features": [[1, 2], [3]]}, TENSOR, "different lengths"),
        ("features", {"features": ["a", 2, 3, 4]}, TENSOR, "'a' for type float64"),
        ("features", {"features": [True, 2, 3, 4]}, TENSOR, "True for type float64"),
        ("features", {"features": 5}, TENSOR, "shape ()"),
        ("features", {"features": [1.5]}, COLUMNS, "a row of 1 values for 3 columns"),
        ("features", {"features": [1, 2, "x", 4]}, COLUMNS, "a row of 4 values"),
        ("features", {"features": [1.5, 2.5]}, COLUMNS, "2.5 for column 'b' of type long"),
        ("features", {"features": "x"}, COLUMNS, "a value of type str that is not a list"),
        ("features", {"inputs": [[1.5, 2]]}, COLUMNS, "a request without features"),
        ("features", [1.5, 2], TENSOR, "a request that is not an object"),
        ("mlflow", {"features": [1.5, 2]}, COLUMNS, "a request without dataframe_split or dataframe_records"),
        ("mlflow", {"instances": [[1, 2, 3]]}, TENSOR, "an array of shape (1, 3)"),
        ("mlflow", {"inputs": {"a": [1.0]}}, COLUMNS, "required column 'b'"),
        ("mlflow", {"inputs": {"a": ["x"], "b": [1]}}, COLUMNS, "'x' for column 'a'"),
        ("mlflow", {"inputs": [1]}, ONE_TEXT, "1 for column '' of type string"),
        ("mlflow", {"dataframe_split": {"columns": ["a"], "data": [[1.5]]}}, COLUMNS, "required column 'b'"),
        ("mlflow", {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5]]}}, COLUMNS, "2 values"),
        ("mlflow", {"dataframe_split": {"columns": [["a"]], "data": [[1.5]]}}, COLUMNS, "list of names"),
        ("mlflow", {"dataframe_split": []}, COLUMNS, "without data"),
        ("mlflow", {"dataframe_records": [1]}, COLUMNS, "dataframe_records that is not a list of objects"),
        ("mlflow", {"dataframe_records": [{"a": None, "b": 1}]}, COLUMNS, "None for column 'a'"),
        ("mlflow", {"inputs": {"x": [[1, 2]]}}, NAMED, "no value for the input 'y'"),
        ("mlflow", {"inputs": [[1, 2]]}, NAMED, "one unnamed input instead of 2 named inputs"),
        ("mlflow", {"inputs": {"x": [[1.5, 2]], "y": [1]}}, NAMED, "1.5 for type int64"),
        ("v1", {"instances": [[1.5]]}, COLUMNS, "a row of 1 values for 3 columns"),
        ("v1", {"dataframe_split": {"data": [[1.5]]}}, COLUMNS, "a request without instances or inputs"),
        ("v2", {"inputs": [[1.5, 2]]}, COLUMNS, "inputs that are not a list of objects"),
        ("v2", {"inputs": [{"name": "x"}]}, TENSOR, "an input without shape"),
        ("v2", v2(("x", [1, 4], "FP64", [1.0])), TENSOR, "input 'x' with 1 values for the shape [1, 4]"),
        ("v2", v2(("x", [1, 3], "FP64", [1.0, 2.0, 3.0])), TENSOR, "an array of shape (1, 3)"),
        ("v2", v2(("a", [1], "FP64", [1.5])), COLUMNS, "required column 'b'"),
        ("v2", v2(("x", [1, 2], "INT64", [1, 2])), NAMED, "no value for the input 'y'"),
    ],
)
def test_requests_that_do_not_fit_are_named(
    protocol: ProtocolName, request_body: Any, signature: Signature, finding: str
) -> None:
    """The first request that does not fit is named by its number, together with the reason and what to do."""
    problem = problem_of(request_body, signature, protocol)
    assert problem is not None
    assert problem.subject in ("recorded request 1 of 1", "recorded request 2 of 2")
    assert finding in problem.found
    assert "correct service.protocol" in problem.next_step


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "b", "x", "data", "shape", "name", "columns"]), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.sampled_from([TENSOR, COLUMNS, NAMED, ONE_TEXT]),
    st.sampled_from([(name, form) for name, protocol in PROTOCOLS.items() for form in protocol.forms]),
)
def test_judging_the_signature_never_crashes(body: Any, signature: Signature, where: tuple[ProtocolName, str]) -> None:
    """Whatever a request contains, the result is a reason or None."""
    protocol, form = where
    misfit = PROTOCOLS[protocol].misfit({form: body}, signature)
    assert misfit is None or isinstance(misfit, str)


@pytest.mark.parametrize(
    ("protocol", "example", "signature", "expected"),
    [
        (
            "mlflow",
            SPLIT,
            COLUMNS,
            [
                {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, 2]]}},
                {"dataframe_split": {"columns": ["a", "b"], "data": [[2.5, 3]]}},
            ],
        ),
        (
            "mlflow",
            {"dataframe_split": {"index": [0], "columns": [0], "data": [[1]]}},
            None,
            [{"dataframe_split": {"columns": [0], "data": [[1]]}}],
        ),
        ("mlflow", ARRAY, TENSOR, [{"inputs": [row]} for row in ARRAY["inputs"]]),
        ("mlflow", {"inputs": ["a", "b"]}, ONE_TEXT, [{"inputs": ["a"]}, {"inputs": ["b"]}]),
        ("mlflow", {"inputs": [[1]], "params": {"k": 1}}, None, [{"inputs": [[1]], "params": {"k": 1}}]),
        ("mlflow", {"inputs": BY_NAME}, NAMED, [{"inputs": BY_NAME}]),
        ("mlflow", {"messages": [{"role": "user"}]}, None, [{"messages": [{"role": "user"}]}]),
        ("v1", SPLIT, COLUMNS, [{"instances": [[1.5, 2]]}, {"instances": [[2.5, 3]]}]),
        ("v1", {"inputs": BY_NAME}, NAMED, [{"inputs": BY_NAME}]),
        ("v1", {"messages": []}, None, []),
        (
            "v2",
            {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1.5, 2, None]]}},
            COLUMNS,
            [
                {
                    "parameters": {"content_type": "pd"},
                    **v2(("a", [1], "FP64", [1.5]), ("b", [1], "INT64", [2])),
                }
            ],
        ),
        ("v2", {"inputs": [[[1, 2], [3, 4]]]}, None, [v2(("input-0", [1, 2, 2], "INT64", [1, 2, 3, 4]))]),
        ("v2", ARRAY, TENSOR, [v2(("input-0", [1, 4], "FP64", row)) for row in ARRAY["inputs"]]),
        (
            "v2",
            {"inputs": BY_NAME},
            NAMED,
            [v2(("y", [1], "FP32", [0.5]), ("x", [1, 2], "INT64", [1, 2]))],
        ),
        ("features", SPLIT, COLUMNS, [{"features": [1.5, 2]}, {"features": [2.5, 3]}]),
        ("features", {"inputs": ["a"]}, None, []),
        ("json", SPLIT, COLUMNS, []),
    ],
)
def test_an_input_example_makes_requests(
    protocol: ProtocolName, example: dict[str, Any], signature: Signature | None, expected: list[Any]
) -> None:
    """Each row is a request in the form of the protocol, which fits the signature that the model was logged with."""
    requests = list(PROTOCOLS[protocol].requests(example, signature))
    assert requests == expected
    misfits = [PROTOCOLS[protocol].misfit(each, signature or Signature(())) for each in requests]
    assert misfits == [None] * len(requests)


def test_each_protocol_has_its_path() -> None:
    """A model's name is part of some, escaped; the table has every protocol that a policy may name."""
    paths = {name: protocol.path_for("my model") for name, protocol in PROTOCOLS.items()}
    assert paths == {
        "mlflow": "/invocations",
        "v1": "/v1/models/my%20model:predict",
        "v2": "/v2/models/my%20model/infer",
        "features": "/predict",
        "json": "",
    }
    assert tuple(PROTOCOLS) == get_args(ProtocolName)


def test_each_protocol_is_documented_and_can_be_recorded() -> None:
    """The page lists its path and the fields of a request, and the command takes its name."""
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    for name, protocol in PROTOCOLS.items():
        rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| `")]
        (row,) = (line for line in rows if f" | `{name}` | " in line)
        assert all(f"`{form}`" in row for form in protocol.forms if form not in ("messages", "prompt", "input"))
        assert f"`{protocol.path_for('MODEL')}`" in row or not protocol.path
    (choice,) = (option.type for option in record.params if option.name == "protocol")
    assert isinstance(choice, click.Choice)
    assert tuple(choice.choices) == tuple(PROTOCOLS)
