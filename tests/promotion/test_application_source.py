"""Whether an Application deploys the file that a promotion edits, and what in it would win over that file."""

from collections.abc import Mapping
from typing import Any

import pytest

from orchestration.promotion.application_files import as_one_source
from orchestration.promotion.application_source import look_at_source
from orchestration.promotion.cluster_json import parse_application
from orchestration.promotion.looks import Bearing, Look
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.ports import RepositoryAddress
from tests.fakes.world import MANIFEST, POLICY_TEXT

URL = "https://git.example/acme/gitops.git"
OURS, OTHER = "a" * 40, "b" * 40
ADDRESS = RepositoryAddress(URL, "main")
MANIFEST_FILE = MANIFEST.format(image="ghcr.io/acme/iris:before").encode()
CHART = {"repoURL": "https://charts.example", "chart": "model", "targetRevision": "1.2.3"}
VALUES = {"repoURL": URL, "targetRevision": "main", "ref": "values"}


def application(*sources: Mapping[str, Any], revisions: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    """An Application as Argo CD's API has it: of one source, or of several with their revisions."""
    several = len(sources) != 1
    where = {"sources": list(sources)} if several else {"source": sources[0]}
    at = {"revisions": list(revisions)} if several else {"revision": revisions[0] if revisions else OURS}
    return {
        "metadata": {"name": "iris"},
        "spec": {**where, **spec},
        "status": {"sync": {"status": "Synced", **at}, "operationState": {"phase": "Succeeded", "syncResult": at}},
    }


def ours(path: str = "apps", **more: Any) -> dict[str, Any]:
    """A source in our repository."""
    return {"repoURL": URL, "targetRevision": "main", "path": path, **more}


def generated(raw: dict[str, Any]) -> dict[str, Any]:
    """The same Application, made by an ApplicationSet."""
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "ApplicationSet", "name": "models", "controller": True}
    return {**raw, "metadata": {**raw["metadata"], "ownerReferences": [owner]}}


def look(
    raw: dict[str, Any],
    *,
    path: str = "apps/iris.yaml",
    yaml_path: str | None = None,
    files: Mapping[str, str] | None = None,
) -> Look:
    """What is found of an Application by a policy whose manifest has this path."""
    at = f", yaml_path: '{yaml_path}'" if yaml_path else ""
    policy = parse_policy("iris-edge", POLICY_TEXT.replace("path: apps/iris.yaml", f"path: {path}{at}"))
    contents = {path: MANIFEST_FILE, **{name: text.encode() for name, text in (files or {}).items()}}
    return look_at_source(policy, parse_application(raw), ADDRESS, lambda commit: commit == OURS, contents.get)


def test_one_source_with_the_file_fits() -> None:
    """A folder of plain manifests, the root of the repository, and an ApplicationSet's Application all fit."""
    for source in (ours(), ours("."), ours("./apps/"), ours("apps", directory={"recurse": True})):
        path = "iris.yaml" if source["path"] == "." else "apps/iris.yaml"
        assert look(application(source), path=path).bearing is Bearing.FITS
    found = look(generated(application(ours())))
    assert found.bearing is Bearing.FITS
    assert "made by ApplicationSet models" in found.finding


@pytest.mark.parametrize(
    ("raw", "found", "fix"),
    [
        (application(ours(repoURL="https://git.example/acme/other"), revisions=(OTHER,)), "acme/other", "GIT_URL"),
        (application(ours(targetRevision="prod"), revisions=(OTHER,)), "prod", "INCUMBENT_GIT_BRANCH"),
        (application(ours("apps/other")), "a source in apps/other", "manifest.path"),
        (application(ours(".")), "without those in folders below", "directory.recurse"),
        (application(ours(), sourceHydrator={"drySource": {}}), "source hydrator", "Deploy the branch itself"),
        (application(CHART, ours("elsewhere"), revisions=("1.2.3", OURS)), "none with it", "manifest.path"),
        (application(ours(), ours("."), revisions=(OURS, OURS)), "several of them with it", "sources"),
    ],
)
def test_what_is_not_deployed_is_refused(raw: dict[str, Any], found: str, fix: str) -> None:
    """Another repository, branch or folder, commits that are not ours, and sources that leave it open are refused."""
    seen = look(raw)
    assert seen.bearing is Bearing.REFUSED
    assert seen.problem is not None
    assert found in seen.problem.found
    assert fix in seen.problem.next_step


@pytest.mark.parametrize(
    "raw",
    [
        application(CHART, ours(), revisions=()),
        application(CHART, ours(), revisions=("1.2.3", "main")),
        application(ours(repoURL="http://gitea.internal:3000/gitops"), revisions=("main",)),
        application(ours(targetRevision="HEAD"), revisions=("main",)),
    ],
)
def test_what_argo_cd_has_not_compared_yet_is_waited_for(raw: dict[str, Any]) -> None:
    """Which commits an address or HEAD leads to is known once Argo CD has compared one, which Git's outage delays."""
    assert look(raw).bearing is Bearing.WAITS


def test_another_address_of_our_repository_fits() -> None:
    """What Argo CD compared there is a commit of our branch; of the branch itself, no commit need be known."""
    found = look(
        application(ours(repoURL="http://gitea.internal:3000/gitops", targetRevision="HEAD"), revisions=(OURS,))
    )
    assert found.bearing is Bearing.FITS
    assert "by another address" in found.finding
    assert look(application(ours(), revisions=("main",))).bearing is Bearing.FITS


@pytest.mark.parametrize(
    ("source", "yaml_path", "field", "use"),
    [
        ({"kustomize": {"images": ["ghcr.io/acme/iris:v0"]}}, None, "kustomize.images[0]", "kustomize.images[0]"),
        (
            {"kustomize": {"images": ["x:1", "iris=ghcr.io/acme/iris@sha256:" + "a" * 64]}},
            None,
            "images[1]",
            "kustomize.images[1]",
        ),
        ({"kustomize": {"images": ["ghcr.io/acme/iris=*:v0"]}}, None, "images[0]", None),
        (
            {"helm": {"parameters": [{"name": "image.tag", "value": "v0"}]}},
            "image.tag",
            "helm.parameters",
            "helm.parameters[name=image.tag].value",
        ),
        (
            {"helm": {"valuesObject": {"image": {"digest": "x"}}}},
            "image.tag",
            "valuesObject",
            "helm.valuesObject.image.digest",
        ),
        ({"helm": {"values": "image:\n  tag: v0\n"}}, "image.tag", "helm.values", "helm.valuesObject.image.tag"),
    ],
)
def test_an_image_in_the_application_is_refused(
    source: dict[str, Any], yaml_path: str, field: str, use: str | None
) -> None:
    """What Argo CD sets over the file would make the commit without effect; it says what to remove, or to edit.

    An entry that keeps the name or the tag from elsewhere (`*`) has no whole reference, so it cannot be edited.
    """
    seen = look(application(ours(**source)), yaml_path=yaml_path, files={"apps/Chart.yaml": "name: iris\n"})
    assert seen.bearing is Bearing.REFUSED
    assert seen.problem is not None
    assert field in seen.problem.found
    assert "Remove " in seen.problem.next_step
    _, edits, path = seen.problem.next_step.partition("manifest.yaml_path spec.source.")
    assert (path if edits else None) == (f"{use}." if use else None)


def test_other_images_and_values_are_no_override() -> None:
    """An image of another container and other values leave the file's image alone."""
    images = ours(kustomize={"images": ["ghcr.io/acme/sidecar:v1"]})
    assert look(application(images)).bearing is Bearing.FITS
    helm = {
        "parameters": [{"name": "replicas", "value": "2"}],
        "values": "image: [broken",
        "valuesObject": {"a": {"tag": 1}},
    }
    seen = look(application(ours(helm=helm)), yaml_path="image.tag", files={"apps/Chart.yaml": "name: iris\n"})
    assert seen.bearing is Bearing.FITS


def test_the_application_that_is_edited_itself_overrides_nothing() -> None:
    """With a yaml_path into the Application's own manifest, its Helm values are the image that is edited."""
    helm = {"valuesObject": {"image": {"tag": "v0"}}}
    path = "spec.source.helm.valuesObject.image.tag"
    assert look(application(ours("chart", helm=helm)), path="argocd/iris.yaml", yaml_path=path).bearing is Bearing.FITS


@pytest.mark.parametrize("file", ["$values/models/iris.yaml", "$values/./models/../models/iris.yaml"])
def test_values_of_a_chart_from_our_repository(file: str) -> None:
    """A chart's value file from our repository is the usual case of several sources; its revision counts."""
    raw = application({**CHART, "helm": {"valueFiles": [file]}}, VALUES, revisions=("1.2.3", OURS))
    found = look(raw, path="models/iris.yaml", yaml_path="image.tag")
    assert found.bearing is Bearing.FITS
    one = as_one_source(parse_application(raw), ADDRESS, "models/iris.yaml")
    assert (one.sync_revision, one.operation_revision) == (OURS, OURS)


def test_value_files_beside_a_chart_in_our_repository() -> None:
    """Value files are found relative to the chart's folder, or from the root of the repository."""
    for file in ("../../values/iris.yaml", "/values/iris.yaml"):
        raw = application(ours("charts/model", helm={"valueFiles": [file]}))
        assert look(raw, path="values/iris.yaml", yaml_path="image.tag").bearing is Bearing.FITS


@pytest.mark.parametrize("file", ["$values/models/$ARGOCD_APP_NAME.yaml", "$values/${ARGOCD_APP_NAME}s/*.yaml"])
def test_values_by_a_pattern_from_our_repository(file: str) -> None:
    """A name with a variable or a pattern may be the file: its source's revision counts, and the rest is noted."""
    path = "models/iris.yaml" if "models" in file else "iriss/prod.yaml"
    raw = application({**CHART, "helm": {"valueFiles": [file]}}, VALUES, revisions=("1.2.3", OURS))
    assert look(raw, path=path, yaml_path="image.tag").bearing is Bearing.NOTED
    assert as_one_source(parse_application(raw), ADDRESS, path).sync_revision == OURS
    assert look(raw, path="models/below/iris.yaml", yaml_path="image.tag").bearing is Bearing.REFUSED


def test_revisions_count_only_when_each_source_has_one() -> None:
    """Argo CD 2.6 left sources without manifests out of the list, so that a revision's place meant nothing."""
    raw = application({**CHART, "helm": {"valueFiles": ["$values/models/iris.yaml"]}}, VALUES, revisions=(OURS,))
    assert as_one_source(parse_application(raw), ADDRESS, "models/iris.yaml").sync_revision is None
    assert look(raw, path="models/iris.yaml", yaml_path="image.tag").bearing is Bearing.WAITS


def test_a_later_value_file_wins() -> None:
    """Of two value files that set the image, the later one wins, so editing the earlier one would change nothing."""
    files = ["$values/models/iris.yaml", "$values/prod.yaml"]
    raw = application({**CHART, "helm": {"valueFiles": files}}, VALUES, revisions=("1.2.3", OURS))
    later = {"models/iris.yaml": "image: {tag: v1}\n", "prod.yaml": "replicas: 2\nimage: {tag: v1}\n"}
    seen = look(raw, path="models/iris.yaml", yaml_path="image.tag", files=later)
    assert seen.problem is not None
    assert "prod.yaml, a later value file, which sets image.tag over it" in seen.problem.found
    assert look(raw, path="prod.yaml", yaml_path="image.tag", files=later).bearing is Bearing.FITS
    later["prod.yaml"] = "replicas: 2\n"
    assert look(raw, path="models/iris.yaml", yaml_path="image.tag", files=later).bearing is Bearing.FITS


TAG_BY_PARAMETER = {"helm": {"parameters": [{"name": "image.tag", "value": "v0"}]}}


@pytest.mark.parametrize(
    ("raw", "fix"),
    [
        (application(ours(kustomize={"images": ["ghcr.io/acme/iris:v0"]})), "yaml_path spec.template.spec.source.kust"),
        (application(ours(".")), "recurse in the template of ApplicationSet models"),
        (application(CHART, CHART, revisions=("1", "1")), "the sources in the template of ApplicationSet models"),
        (application(ours(), sourceHydrator={"drySource": {}}), "spec.source in the template of ApplicationSet models"),
    ],
)
def test_what_an_application_set_makes_is_changed_in_its_template(raw: dict[str, Any], fix: str) -> None:
    """Edits of such an Application are reverted, so each next step leads to the ApplicationSet."""
    seen = look(generated(raw))
    assert seen.bearing is Bearing.REFUSED
    assert seen.problem is not None
    assert fix in seen.problem.next_step
    assert "ApplicationSet models, which reverts edits of the Application" in seen.problem.next_step


def test_an_edit_that_an_application_set_reverts_is_refused() -> None:
    """The Application's own manifest cannot be what a promotion edits; the ApplicationSet's template can."""
    raw = generated(application(ours("chart", **TAG_BY_PARAMETER)))
    path = "spec.source.helm.parameters[name=image.tag].value"
    seen = look(raw, path="argocd/iris.yaml", yaml_path=path)
    assert seen.problem is not None
    assert "ApplicationSet models makes, which reverts edits" in seen.problem.found
    assert f"manifest.yaml_path spec.template.{path}" in seen.problem.next_step
    assert look(raw, path="argocd/models.yaml", yaml_path=f"spec.template.{path}").bearing is Bearing.FITS


def test_what_a_generator_may_read_is_only_noted() -> None:
    """A file beside the source may be one from which an ApplicationSet takes the image that it sets."""
    raw = generated(application(ours("chart", **TAG_BY_PARAMETER)))
    seen = look(raw, path="clusters/edge.json", yaml_path="image.tag")
    assert seen.bearing is Bearing.NOTED
    assert "or of what ApplicationSet models takes, is not known" in seen.finding
    assert look(
        raw, path="chart/values.yaml", yaml_path="image.tag", files={"chart/Chart.yaml": "name: iris\n"}
    ).bearing is (Bearing.REFUSED)


def test_an_application_of_one_source_stays_as_it_is() -> None:
    """Several sources without ours, or twice, are left alone, so that they never count as rolled out."""
    for raw in (application(ours()), application(CHART, CHART), application(ours(), ours(), revisions=(OURS, OURS))):
        parsed = parse_application(raw)
        assert as_one_source(parsed, ADDRESS, "apps/iris.yaml") is parsed


KUSTOMIZED = {
    "overlays/prod/kustomization.yaml": "resources:\n- ../../base\n- https://example.org/remote?ref=v1\n",
    "base/kustomization.yml": "resources: [iris.yaml]\npatches:\n- path: patch.yaml\n",
}


@pytest.mark.parametrize("path", ["base/iris.yaml", "base/patch.yaml", "overlays/prod/kustomization.yaml"])
def test_kustomizations_are_followed(path: str) -> None:
    """A file outside of the source's folder fits when the overlay's resources lead to it."""
    yaml_path = "images[name=iris].newTag" if path.endswith("kustomization.yaml") else None
    files = {name: text for name, text in KUSTOMIZED.items() if name != path}
    contents = {path: KUSTOMIZED[path]} if path in KUSTOMIZED else {}
    assert look(
        application(ours("overlays/prod")), path=path, yaml_path=yaml_path, files={**files, **contents}
    ).bearing is (Bearing.FITS)


@pytest.mark.parametrize(
    "source", [ours("model", plugin={}), ours("model", helm={"valueFiles": ["../apps/*.yaml"]}), ours("model")]
)
def test_what_cannot_be_told_is_only_noted(source: dict[str, Any]) -> None:
    """A plugin may read any file, whether the Application names it or not, and a pattern may match any."""
    raw = application(source)
    raw["status"]["sourceType"] = "Helm" if "helm" in source else "Plugin"
    assert look(raw).bearing is Bearing.NOTED


def test_what_no_kustomization_names() -> None:
    """Outside of the folder it is refused; inside it is only noted, because a generator may read it all the same."""
    source = application(ours("overlays/prod"))
    assert look(source, path="base/other.yaml", files=KUSTOMIZED).bearing is Bearing.REFUSED
    assert look(source, path="overlays/prod/other.yaml", files=KUSTOMIZED).bearing is Bearing.NOTED
    circle = {"overlays/prod/kustomization.yaml": "resources: [.]\n"}
    assert look(source, path="overlays/prod/other.yaml", files=circle).bearing is Bearing.NOTED
