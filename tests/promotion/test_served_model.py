"""What is served: by the image, the manifest, the pod's spec and the server's own word."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from orchestration.promotion.cluster_status import ContainerSpec
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.served_model import NOT_STATED, ServedModel, image_problem, manifest_problem, served_model


def version(**tags: str) -> ModelVersion:
    return ModelVersion("iris-classifier", 7, "r1", "m-0a1b", tags)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"MODEL_URI": ""},
        {"MODEL_URI": "models:/iris-classifier/7"},
        {"MODEL_URI": "models:/m-0a1b"},
        {"MODEL_URI": "runs:/r1/model"},
    ],
)
def test_an_image_that_names_this_version_or_none_is_accepted(environment: dict[str, str]) -> None:
    """A version's number, model id and run all name it; an image that names no model contradicts nothing."""
    assert image_problem(environment, version()) is None


@pytest.mark.parametrize(
    "uri",
    [
        "models:/iris-classifier/8",
        "models:/iris-classifier/07",
        "models:/wine-quality-xgboost/7",
        "models:/m-ffff",
        "models:/",
        "runs:/r2/model",
        "runs:/r1",
        "runs:/r1x/model",
        "models:",
        "MODELS:/iris-classifier/7",
    ],
)
def test_an_image_of_another_model_is_refused(uri: str) -> None:
    """Another version, model or run, or an unknown name, is refused; the problem shows the value to set."""
    problem = image_problem({"MODEL_URI": uri}, version())
    assert problem is not None
    assert "models:/iris-classifier/7" in problem.expected


STORED = "s3://mlflow/3/models/m-0a1b/artifacts"
PLACES = ["/opt/ml/model", "s3://bucket/models/7", "/", "model", "https://h/m.tar.gz", STORED.replace("m-0a1b", "m-ff")]


@pytest.mark.parametrize("uri", PLACES)
def test_the_place_of_an_artifact_says_no_version(uri: str) -> None:
    """A path in the image, or an address, names nothing that could be wrong: it is shown as not stated, and passes."""
    assert image_problem({"MODEL_URI": uri}, version()) is None
    judged = served(spec=spec(MODEL_URI=uri))
    assert (judged.problem, judged.confirmed) == (None, False)
    assert judged.pod_spec == f"not stated (MODEL_URI={uri} names no version)"


def test_the_versions_own_artifacts_confirm_it() -> None:
    """Where MLflow has the version's artifacts, by its source or below its logged model, is this version alone."""
    external = replace(version(), source="s3://bucket/models/7")
    for uri, of in ((STORED, version()), ("s3://bucket/models/7", external), ("s3://bucket/models/7/", external)):
        judged = served_model("p1", spec(MODEL_URI=uri), [], of, "Then retry.")
        assert (judged.problem, judged.confirmed, judged.pod_spec) == (None, True, f"MODEL_URI={uri}")


def test_a_copy_is_known_by_the_names_of_its_originals() -> None:
    """An image that was built for the version before it was copied serves the same model."""
    staging = ModelVersion("staging.iris", 3, "r1", "m-0a1b", source="models:/m-0a1b")
    copy = ModelVersion("prod.iris", 1, "r1", None, source="models:/staging.iris/3", originals=(staging,))
    for uri in ("models:/staging.iris/3", "models:/m-0a1b", "models:/prod.iris/1", STORED):
        assert image_problem({"MODEL_URI": uri}, copy) is None
    for uri in ("models:/staging.iris/2", "models:/prod.iris/3", "models:/m-ffff"):
        assert image_problem({"MODEL_URI": uri}, copy) is not None
    assert served_model("p", None, [{"model": "staging.iris", "version": "3"}], copy, "").confirmed
    assert served_model("p", None, [{"version": "3"}], copy, "").problem is not None


@pytest.mark.parametrize(
    ("source", "original"),
    [
        ("models:/staging.iris/3", ("staging.iris", 3)),
        ("models:/iris classifier v2/12", ("iris classifier v2", 12)),
        ("models:/m-0a1b", None),
        ("models:/iris/Production", None),
        ("models:/iris@champion", None),
        ("models:/a/b/3", None),
        ("runs:/r1/model", None),
        ("s3://bucket/models/7", None),
        ("", None),
    ],
)
def test_a_copy_names_its_original_in_its_source(source: str, original: tuple[str, int] | None) -> None:
    """`copy_model_version` writes the original's name and number there; nothing else is followed."""
    assert replace(version(), source=source).copied_from == original


@pytest.mark.parametrize(
    "uri",
    ["models:/iris-classifier@challenger", "models:/iris-classifier/Production", "models:/iris-classifier/latest"],
)
def test_an_image_that_follows_an_alias_is_refused(uri: str) -> None:
    """An alias may name another version tomorrow, and the same image would then serve another model."""
    problem = image_problem({"MODEL_URI": uri}, version())
    assert problem is not None
    assert "does not name one fixed version" in problem.found


def test_a_version_without_run_or_model_id_matches_no_empty_one() -> None:
    """An absent id does not equal an empty id in the image's environment."""
    bare = ModelVersion("iris-classifier", 7, None, None)
    for uri in ("runs://model", "models:/", "runs:/None/model"):
        assert image_problem({"MODEL_URI": uri}, bare) is not None


def test_a_manifest_of_another_version_is_refused_by_its_line() -> None:
    """The problem names the place, the value and that it beats the image's, and how to go on."""
    problem = manifest_problem("apps/iris.yaml, line 12", "models:/iris-classifier/2", version(), "Then retry.")
    assert problem is not None
    assert problem.subject == "apps/iris.yaml, line 12"
    assert problem.found == "MODEL_URI='models:/iris-classifier/2' in place of the image's"
    assert problem.next_step.endswith("Then retry.")
    assert manifest_problem("x", "models:/iris-classifier/7", version(), "") is None
    assert manifest_problem("x", "", version(), "") is None


def served(*infos: Mapping[str, str], spec: ContainerSpec | None = None) -> ServedModel:
    return served_model("p1", spec, infos, version(), "Then retry.")


def spec(**environment: str | None) -> ContainerSpec:
    return ContainerSpec("model-server", environment)


RIGHT = {"model": "iris-classifier", "version": "7", "run_id": "r1"}
WRONG = {"model": "iris-classifier", "version": "2", "run_id": "r0"}


@pytest.mark.parametrize(
    "infos",
    [
        [RIGHT],
        [{"version": "7"}],
        [{"model": "unregistered", "version": "none", "run_id": "r1"}],
        [WRONG, RIGHT],
        [{"model": "iris-classifier", "version": "7", "run_id": "r0"}],
    ],
    ids=["all", "version alone", "by its run", "among others", "copied from another run"],
)
def test_a_server_that_says_it_serves_this_version_is_believed(infos: Sequence[Mapping[str, str]]) -> None:
    """Its own word counts, whatever the pod's spec says; a server without a registered version is known by its run."""
    for started in (None, spec(MODEL_URI="models:/iris-classifier/2")):
        judged = served(*infos, spec=started)
        assert (judged.problem, judged.confirmed) == (None, True)


@pytest.mark.parametrize(
    "info",
    [
        WRONG,
        {"version": "2"},
        {"model": "wine", "version": "7"},
        {"model": "unregistered", "version": "none", "run_id": "r0"},
    ],
)
def test_a_server_that_says_it_serves_another_model_is_a_problem(info: Mapping[str, str]) -> None:
    """Another version, model or run, also when the pod's spec names the right one."""
    judged = served(info, spec=spec(MODEL_URI="models:/iris-classifier/7"))
    assert judged.problem is not None
    assert judged.problem.found.endswith("as its server says in model_info")
    assert not judged.confirmed


@pytest.mark.parametrize("infos", [[], [{"job": "x"}], [{"model": "resnet"}], [{"version": "none"}]])
@pytest.mark.parametrize(
    ("started", "shown"),
    [
        (None, NOT_STATED),
        (spec(), NOT_STATED),
        (spec(MODEL_URI=""), "MODEL_URI="),
        (spec(MODEL_URI=None), "MODEL_URI from elsewhere"),
        (ContainerSpec("c", {}, takes_more_environment=True), "not stated, but envFrom may"),
        (ContainerSpec("c", {}, replaces_command=True), "not stated; replaces the image's command or arguments"),
    ],
)
def test_what_nobody_states_is_shown_and_no_problem(
    infos: Sequence[Mapping[str, str]], started: ContainerSpec | None, shown: str
) -> None:
    """A server without such a metric, and a value that the pod's spec does not hold, are reported as they are."""
    judged = served(*infos, spec=started)
    assert (judged.problem, judged.confirmed, judged.pod_spec) == (None, False, shown)


def test_without_the_servers_word_the_pods_spec_decides() -> None:
    """It has what the manifest had, and what a webhook put there on the way."""
    assert served(spec=spec(MODEL_URI="models:/iris-classifier/7")).confirmed
    problem = served(spec=spec(MODEL_URI="models:/iris-classifier/2")).problem
    assert problem is not None
    assert problem.subject == "pod p1"


def test_what_a_server_says_is_printed_safely() -> None:
    """A label is foreign text: it is put on one line, shortened and stripped of credentials."""
    judged = served({"model": "a\nb https://u:hunter2@h/ " + "x" * 500, "version": "2"})
    assert "\n" not in judged.server
    assert "hunter2" not in judged.server
    assert len(judged.server) < 200
