"""Which model is served, as image, manifest, pod and server say, and whether that is the version to be promoted.

`MODEL_URI` names the model that a server loads. A manifest's value takes precedence over the image's, and what the
server says about itself over both, because only the process knows what it loaded.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestration.promotion.cluster_status import ContainerSpec
from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem
from orchestration.promotion.redact import redact

MODEL_URI = "MODEL_URI"
NOT_STATED = "not stated"
NOT_TOLD_APART = "nothing shows that what served before answers otherwise"
NOT_ASKED = "no recorded request was asked"
"""Why answers prove nothing, as parts of a sentence."""
_SHOWN = 120
"""Characters of a foreign value that a person is shown."""


def image_problem(environment: Mapping[str, str], version: ModelVersion) -> Problem | None:
    """Why an image does not serve this version, by `MODEL_URI` in the image config's environment; None when it does.

    `MODEL_URI` names this version as `models:/<model>/<version>`, `models:/<model id>` or `runs:/<run id>/<path>`, or
    a version that it is a copy of. An image without it (or with an empty one) does not say what it serves, and is
    accepted; so is one with the place of an artifact, a path or an address. An alias or a stage is refused, because it
    may name another version tomorrow.
    """
    return _uri_problem(
        f"the image of {version}",
        environment.get(MODEL_URI, ""),
        version,
        "Build the image for this version, or set the version's image tags to the image that serves it.",
    )


def manifest_problem(place: str, value: str, version: ModelVersion, retry: str) -> Problem | None:
    """Why a manifest makes its container serve another model than this version; None when it does not.

    Args:
        place: where the manifest sets `MODEL_URI`, with its line.
        value: what it sets.
        version: the version to promote.
        retry: how the version is promoted once the manifest is corrected, as a sentence.
    """
    return _uri_problem(
        place,
        value,
        version,
        f"Remove {MODEL_URI} there, so that the image says which model is served, and commit that. {retry}",
        " in place of the image's",
    )


@dataclass(frozen=True)
class ServedModel:
    """What is known about the model that one new pod serves."""

    pod: str
    server: str
    """What the server says about itself in the metric `model_info`, or `not stated`."""
    pod_spec: str
    """What the pod's spec says: its `MODEL_URI`, or why that cannot be read from it, or `not stated`."""
    confirmed: bool
    """Whether one of them names the version that was promoted."""
    problem: Problem | None = None
    """Why that is not the version that was promoted; None also while nothing is stated."""
    by_server: bool = False
    """Whether the server's own word names that version."""


def unproved(policy: Policy, served: Sequence[ServedModel], *, doubt: str) -> Problem | None:
    """Say which pod has not proved what it serves, where an address was deployed; None when there is none.

    An image's digest is proof of what is in it. An address proves only what was asked for, so the server must say what
    it loaded, or its answers must show it (decision 13).

    Args:
        policy: says whether addresses are deployed.
        served: what the pods are known to serve.
        doubt: why right answers to the recorded requests prove nothing; empty when they are proof of the version.
    """
    silent = next((one for one in served if policy.slot.holds_address and not one.by_server), None)
    if silent is None or not doubt:
        return None
    return Problem(
        f"pod {silent.pod}",
        "a server that says which version it loaded, in the metric model_info",
        f"{silent.server} in Prometheus, and {doubt}",
        "Let the server export model_info with the labels model and version, or run_id, or record requests of this "
        "version that the one before answers otherwise (docs/policies.md): an address alone proves only what was asked "
        "for.",
    )


def served_model(
    pod: str, spec: ContainerSpec | None, infos: Sequence[Mapping[str, str]], version: ModelVersion, retry: str
) -> ServedModel:
    """Judge what a new pod serves: by its server's own word, and without one by the pod's spec.

    A server that serves several models, and so has several `model_info`, must serve this version among them.

    Args:
        pod: the pod's name.
        spec: how the pod starts the container; None when it does not say.
        infos: the labels of each `model_info` of that container.
        version: the version that was promoted.
        retry: how the version is promoted once the cause is gone, as a sentence.
    """
    stated = [info for info in infos if {"model", "version", "run_id"} & info.keys()]
    server = "; ".join(_shown_info(info) for info in stated) or NOT_STATED
    uri = spec.environment.get(MODEL_URI) if spec is not None else None
    said = [_names(info, version) for info in stated]
    known = [answer for answer in said if answer is not None]
    problem = None
    if known and not any(known):
        problem = Problem(
            f"pod {pod}",
            f"a server of {version}",
            f"{server}, as its server says in model_info",
            f"Find what makes the container load another model than its image says (env, command or arguments), and "
            f"correct that. {retry}",
        )
    elif not known and uri:
        problem = manifest_problem(f"pod {pod}", uri, version, retry)
    confirmed = any(known) or (not known and bool(uri) and names_version(uri or "", version))
    return ServedModel(pod, server, _shown_spec(spec, version), confirmed, problem, any(known))


def _names(info: Mapping[str, str], version: ModelVersion) -> bool | None:
    """Whether a server's `model_info` names this version; None when it does not tell.

    A server that was started with a run's model knows no version of the registry; then its run decides.
    """
    number, model, run_id = info.get("version", ""), info.get("model"), info.get("run_id")
    if number.isdigit():
        of_original = any((number, model) == (str(one.version), one.model) for one in version.originals)
        return of_original or (number == str(version.version) and model in (None, version.model))
    return run_id == version.run_id if run_id else None


def _shown_info(info: Mapping[str, str]) -> str:
    number, model, run_id = (shown(info.get(name, "-")) for name in ("version", "model", "run_id"))
    return f"version {number} of {model}" + (f" (run {run_id})" if "run_id" in info else "")


def _shown_spec(spec: ContainerSpec | None, version: ModelVersion) -> str:
    if spec is None:
        return NOT_STATED
    if MODEL_URI in spec.environment:
        uri = spec.environment[MODEL_URI]
        text = stated(uri, version) if uri is not None else f"{MODEL_URI} from elsewhere"
    else:
        text = f"{NOT_STATED}, but envFrom may" if spec.takes_more_environment else NOT_STATED
    return f"{text}; replaces the image's command or arguments" if spec.replaces_command else text


def _uri_problem(subject: str, uri: str, version: ModelVersion, next_step: str, remark: str = "") -> Problem | None:
    if not uri or _is_place(uri) or names_version(uri, version):
        return None
    fixed = f"{MODEL_URI}=models:/{version.model}/{version.version}"
    floating = uri.startswith("models:/") and ("@" in uri or not uri.rpartition("/")[2].isdigit())
    reason = ", which does not name one fixed version" if floating and not _is_model_id(uri) else ""
    return Problem(
        subject,
        f"{fixed} in its environment, or this version's model id or run",
        f"{MODEL_URI}={shown(repr(redact(uri)))}{remark}{reason}",
        next_step,
    )


def stated(uri: str, version: ModelVersion) -> str:
    """What a `MODEL_URI` says, for a person: the place of an artifact that is not known as this version's says nothing.

    Args:
        uri: its value.
        version: the version to promote.
    """
    text = f"{MODEL_URI}={shown(uri)}"
    is_silent = _is_place(uri) and not names_version(uri, version)
    return f"{NOT_STATED} ({text} names no version)" if is_silent else text


def _is_place(uri: str) -> bool:
    """Whether a `MODEL_URI` is a path or an address of artifacts, and not one of MLflow's names."""
    return bool(uri) and re.match(r"(models|runs):", uri, re.IGNORECASE) is None


def names_version(uri: str, version: ModelVersion) -> bool:
    """Whether an address is one of a version's model, by its name, its model id, its run or the place of its files."""
    return any(_is_name_of(uri, one) for one in (version, *version.originals))


def _is_name_of(uri: str, version: ModelVersion) -> bool:
    if uri == f"models:/{version.model}/{version.version}":
        return True
    if version.model_id and uri == f"models:/{version.model_id}":
        return True
    if version.run_id and re.fullmatch(rf"runs:/{re.escape(version.run_id)}/[^/].*", uri) is not None:
        return True
    place = uri.rstrip("/")
    # MLflow keeps a logged model below its experiment as models/<model id>/artifacts.
    in_store = bool(version.model_id) and place.endswith(f"/models/{version.model_id}/artifacts")
    return _is_place(uri) and (in_store or (bool(place) and place == version.source.rstrip("/")))


def _is_model_id(uri: str) -> bool:
    return re.fullmatch(r"models:/m-[0-9a-f]+", uri) is not None


def shown(text: str) -> str:
    """Make a value from outside safe to print: on one line, shortened, and without credentials."""
    text = " ".join(redact(text).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
