"""The edit of a manifest: exactly one scalar changes, or a refusal says where and why."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml as libyaml  # type: ignore[import-untyped]  # no types of its own
from hypothesis import assume, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestration.promotion import yaml_text
from orchestration.promotion.manifest import (
    CurrentImage,
    Edited,
    EditRefused,
    Unchanged,
    _prove,
    read_image,
    read_variable,
    set_image,
    splice,
)
from orchestration.promotion.manifest_place import Selector, find_place
from orchestration.promotion.policy import parse_policy
from orchestration.promotion.yaml_text import MAX_BYTES, RefusedError, read_stream
from tests.fakes.world import POLICY_TEXT
from tests.promotion.manifests import DIGEST, DIGESTS, IMAGES, SELECTOR, TAGS, Manifest, manifests

OTHER_DIGEST = "sha256:" + "cd" * 32
NEW = f"ghcr.io/team/model:v2@{DIGEST}"


def deployment(image_line: str = "image: ghcr.io/team/model:v1", **fields: str) -> str:
    values = {"kind": "Deployment", "name": "iris", "namespace": "namespace: ml-apps", "container": "model-server"}
    values |= fields
    return (
        f"kind: {values['kind']}\nmetadata:\n  name: {values['name']}\n  {values['namespace']}\nspec:\n  template:\n"
        f"    spec:\n      containers:\n        - name: {values['container']}\n          {image_line}\n"
    )


@pytest.fixture
def unread() -> Iterator[None]:
    """No reading of ruamel.yaml is kept from before the test, or after it."""
    yaml_text._read_again.cache_clear()
    yield
    yaml_text._read_again.cache_clear()


def refused(text: str | bytes, selector: Selector = SELECTOR, image: str = NEW) -> str:
    """Return the refusal of an edit as text; reading must be refused for the same reason."""
    content = text if isinstance(text, bytes) else text.encode()
    outcome = set_image(content, selector, image)
    assert isinstance(outcome, EditRefused), outcome
    read = read_image(content, selector)
    assert read == outcome
    return str(outcome.problem)


def edited(text: str, selector: Selector = SELECTOR, image: str = NEW) -> str:
    outcome = set_image(text.encode(), selector, image)
    assert isinstance(outcome, Edited), outcome
    return outcome.content.decode()


def common_length(one: bytes, other: bytes) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(manifests(), IMAGES)
def test_not_one_other_byte_changes(manifest: Manifest, image: str) -> None:
    """Whatever comments, line ends, indentation and characters surround it, only the scalar's text is replaced."""
    outcome = set_image(manifest.content, SELECTOR, image)
    if image == manifest.image:
        assert isinstance(outcome, Unchanged)
        return
    assert isinstance(outcome, Edited)
    assert outcome.content == manifest.with_image(image)
    assert outcome.old == manifest.image
    assert manifest.content.decode().splitlines()[outcome.line - 1].lstrip().startswith("image:")


@given(manifests(), IMAGES)
def test_what_is_read_back_is_what_was_set_and_a_second_edit_changes_nothing(manifest: Manifest, image: str) -> None:
    """Reading sees the edit, the edit is idempotent, and the way back restores every byte."""
    once = set_image(manifest.content, SELECTOR, image)
    content = once.content if isinstance(once, Edited) else manifest.content
    read = read_image(content, SELECTOR)
    assert isinstance(read, CurrentImage)
    assert read.value == image
    assert set_image(content, SELECTOR, image) == Unchanged(image, read.line)
    back = set_image(content, SELECTOR, manifest.image)
    assert (back.content if isinstance(back, Edited) else content) == manifest.content


@given(manifests(), IMAGES, st.text(max_size=8), st.integers(0, 400))
def test_a_damaged_manifest_is_edited_in_one_place_or_refused(
    manifest: Manifest, image: str, noise: str, place: int
) -> None:
    """Text thrown into a manifest never crashes an edit, and never makes it change anything but one image."""
    text = manifest.content.decode()
    content = (text[:place] + noise + text[place:]).encode("utf-8", "surrogatepass")
    outcome = set_image(content, SELECTOR, image)
    if isinstance(outcome, Edited):
        assert read_image(content, SELECTOR) == CurrentImage(outcome.old, outcome.line)
        start = common_length(content, outcome.content)
        end = common_length(content[start:][::-1], outcome.content[start:][::-1])
        assert content[start : len(content) - end].decode() in outcome.old
        assert outcome.content[start : len(outcome.content) - end].decode() in image


@given(st.binary(max_size=300) | st.text(alphabet="{}[]&*!|>'\"%@`#:-? \n\tabk<~", max_size=60).map(str.encode))
def test_hostile_bytes_are_refused_and_never_crash(content: bytes) -> None:
    """Whatever the bytes are, the outcome is a refusal with a next step."""
    for selector in (SELECTOR, Selector("values.yaml", yaml_path="a.b[k=a]")):
        outcome = set_image(content, selector, NEW)
        assert isinstance(outcome, EditRefused)
        assert outcome.problem.next_step


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_the_quotes_stay_as_they_are(quote: str) -> None:
    """Plain, single-quoted and double-quoted scalars keep their form, with the comment behind them."""
    old = deployment(f"image: {quote}ghcr.io/team/model:v1{quote}   # pinned")
    assert edited(old) == deployment(f"image: {quote}{NEW}{quote}   # pinned")


@pytest.mark.parametrize(
    "kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Rollout", "ReplicationController"]
)
def test_every_kind_with_a_pod_template_is_known(kind: str) -> None:
    """Workloads with `spec.template.spec` are edited by their kind."""
    selector = Selector("f", kind, "ml-apps", "iris", "model-server")
    assert NEW in edited(deployment(kind=kind), selector)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("kind: Pod\nmetadata: {name: iris}\nspec: {containers: [{name: model-server, image: a/b:1}]}\n", "Pod"),
        (
            "kind: CronJob\nmetadata: {name: iris}\nspec: {jobTemplate: {spec: {template: {spec: "
            "{containers: [{name: model-server, image: a/b:1}]}}}}}\n",
            "CronJob",
        ),
        (
            "kind: InferenceService\nmetadata: {name: iris}\n"
            "spec: {predictor: {containers: [{image: a/b:1, name: model-server}]}}\n",
            "InferenceService",
        ),
        (
            '{"kind":"Deployment","metadata":{"name":"iris"},"spec":{"template":{"spec":'
            '{"containers":[{"name":"model-server","image":"a/b:1"}]}}}}',
            "Deployment",
        ),
    ],
)
def test_other_shapes_of_workloads_are_known(text: str, kind: str) -> None:
    """Pods, CronJobs, InferenceServices, flow style and JSON are edited in place."""
    selector = Selector("f", kind, "ml-apps", "iris", "model-server")
    assert edited(text, selector) == text.replace("a/b:1", NEW)


def test_an_init_container_is_found_by_its_name() -> None:
    """Containers and init containers are searched alike."""
    text = deployment() + "      initContainers: [{name: migrate, image: a/b:1}]\n"
    selector = Selector("f", "Deployment", "ml-apps", "iris", "migrate")
    assert edited(text, selector) == text.replace("a/b:1", NEW)


def test_an_item_of_a_list_is_found() -> None:
    """A `kind: List` has workloads as its items."""
    text = "kind: List\nitems:\n" + re.sub("^", "    ", deployment(), flags=re.MULTILINE).replace(
        "    kind", "  - kind", 1
    ).rstrip(" ")
    assert edited(text) == text.replace("ghcr.io/team/model:v1", NEW)


def test_a_policy_selects_like_a_selector() -> None:
    """A policy can be given in place of a selector, and its repository is that of a tag that stands alone."""
    policy = parse_policy("iris-edge", POLICY_TEXT)
    assert read_image(deployment().encode(), policy) == CurrentImage("ghcr.io/team/model:v1", 10)
    outcome = read_image(b"", policy)
    assert isinstance(outcome, EditRefused)
    assert outcome.problem.subject == "apps/iris.yaml"
    flat = parse_policy("iris-edge", POLICY_TEXT.replace("apps/iris.yaml,", "values.yaml, yaml_path: imageTag,"))
    assert read_image(b"imageTag: before\n", flat) == CurrentImage("ghcr.io/acme/iris:before", 1)


def test_selectors_without_parts_match_anything_that_is_single() -> None:
    """What a selector does not name may be anything, as long as only one image matches."""
    text = "kind: Service\nmetadata: {name: iris}\n---\n" + deployment()
    assert NEW in edited(text, Selector("f", container="model-server"))
    assert "2 matches, at lines 9, 20" in refused(deployment() + "---\n" + deployment(name="other"), Selector("f"))


def test_a_document_without_namespace_matches_when_it_is_alone() -> None:
    """Argo CD deploys it to the Application's namespace; beside one with the namespace it is ambiguous."""
    bare = deployment(namespace="labels: {}")
    assert NEW in edited(bare)
    assert NEW in edited(bare + "---\n" + deployment(namespace="namespace: elsewhere"))
    assert "2 matches, at lines 9, 20" in refused(bare + "---\n" + deployment())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty file"),
        ("\ufeff", "an empty file"),
        ("# nothing\n", "found no match"),
        ("---\n---\n", "found no match"),
        ("- a\n- b\n", "found no match"),
        (deployment("image: "), "an empty image"),
        (deployment("image: ''"), "an empty image"),
        (deployment("image: ~"), "without quotes"),
        (deployment("image: true"), "without quotes"),
        (deployment("image: 12"), "without quotes"),
        (deployment("ports: []"), "a container without an image"),
        (deployment("image: [a]"), "a list"),
        (deployment("image: {a: b}"), "a mapping"),
        (deployment("image: ghcr.io/team/model:"), "line 10: expected"),
        (deployment("image: GHCR.io/Team"), "an image reference"),
        (deployment("image: $(IMAGE)"), "a template"),
        (deployment("image: ${IMAGE}"), "a template"),
        (deployment("image: {{ .Values.image }}"), "line 10: expected"),
        (deployment('image: "{{ .Values.image }}"'), "a template"),
        ("{{- if .Values.on }}\n" + deployment() + "{{- end }}\n", "template"),
        (deployment().replace("name: iris", "name: {{ .Release.Name }}"), "template"),
        (deployment("image: |\n            a/b:1"), "as a block"),
        (deployment("image: >-\n            a/b:1"), "as a block"),
        (deployment('image: "a/b\\\n            :1"'), "over several lines"),
        (deployment("image: !!str a/b:1"), "a YAML tag (!!str)"),
        (deployment("image: !custom a/b:1"), "tag"),
        (deployment("image: &image a/b:1"), "the anchor &image"),
        ("x: &image a/b:1\n" + deployment("image: *image"), "the anchor &image"),
        (deployment().replace("- name", "- &c\n          name"), "the anchor &c"),
        (deployment().replace("      containers:", "      containers: &all"), "the anchor &all"),
        (deployment().replace("    spec:", "    spec: !patch"), "the tag !patch"),
        ("x: &base {image: a/b:1}\n" + deployment("<<: *base"), "merge key"),
        (deployment("image: a/b:1\n          image: a/b:2"), "the key 'image' twice"),
        (deployment() + "spec: {}\n", "the key 'spec' twice"),
        (deployment() + "---\n" + deployment(), "2 matches, at lines 9, 20"),
        (deployment() + "        - {name: model-server, image: a/b:1}\n", "2 matches, at lines 9, 11"),
        (deployment() + "      initContainers: [{name: model-server, image: a/b:1}]\n", "2 matches, at lines 9, 11"),
        (deployment(name="other"), "only Deployment ml-apps/other (line 1)"),
        (deployment(kind="StatefulSet"), "found no match"),
        (deployment(namespace="namespace: other"), "only Deployment other/iris"),
        (deployment(container="sidecar"), "only container sidecar of Deployment ml-apps/iris"),
        (deployment().replace("\n", "\n\0", 1), "U+0000, a character that YAML does not allow"),
        (deployment() + "# \u2028", "U+2028"),
        (deployment() + "# \x85", "U+0085"),
        ("[" * 10_000, "depth"),
        ("a: " * 10_000, "not YAML"),
        ("a: *b\n", "undefined alias"),
        ("\t- a: [\n", "line 1"),
        (deployment().replace("    spec", "\tspec"), "not YAML"),
    ],
)
def test_what_is_not_clear_is_refused_with_its_reason(text: str, reason: str) -> None:
    """Each unclear file is refused by name with the reason, and reading it is refused for the same reason."""
    problem = refused(text)
    assert problem.startswith("deployment.yaml")
    assert reason in problem


def test_a_workload_of_another_kind_is_named() -> None:
    """Whoever mistakes the kind reads which one the file has."""
    found = refused(deployment(kind="StatefulSet") + "---\nkind: Service\nmetadata: {name: iris}\n")
    assert "found no match, only StatefulSet ml-apps/iris (line 1)" in found


def test_a_refusal_names_the_line() -> None:
    """The line is counted over all documents and line ends, as an editor counts it."""
    text = "a: 1\r\n---\r\n" + deployment("image: 'x:'").replace("\n", "\r\n")
    assert refused(text).startswith("deployment.yaml, line 12: ")


def test_bytes_that_are_not_utf8_are_refused() -> None:
    """UTF-16 and Latin-1 are refused rather than guessed."""
    assert "not UTF-8" in refused(deployment().encode("utf-16"))
    assert "line 11" in refused(deployment().encode() + "# Größe".encode("latin-1"))


def test_a_huge_file_is_refused_unread() -> None:
    """Above the limit nothing is parsed, and the refusal names the file's size and the limit."""
    assert refused(b"a" * (MAX_BYTES + 1)) == (
        "deployment.yaml: expected at most 4,194,304 bytes (4 MiB), found 4,194,305 bytes. "
        "Move the workload into a file of its own."
    )


@pytest.mark.usefixtures("unread")
def test_a_bundle_is_parsed_once_and_only_the_images_document_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of an edit is one fast parse of the file; all else is done to one document, however large the rest."""
    parsed: list[tuple[str, int]] = []
    parse, slow_parse = libyaml.parse, YAML.parse

    def fast(text: str, **options: object) -> object:
        parsed.append(("libyaml", len(text)))
        return parse(text, **options)

    def slow(parser: YAML, text: str) -> object:
        parsed.append(("ruamel", len(text)))
        return slow_parse(parser, text)

    monkeypatch.setattr(libyaml, "parse", fast)
    monkeypatch.setattr(YAML, "parse", slow)
    other = "kind: ConfigMap\nmetadata: {name: large}\ndata:\n  text: |\n" + "    a: b\n" * 100_000 + "---\n"
    text = other + deployment() + "---\n" + other
    assert edited(text) == text.replace("ghcr.io/team/model:v1", NEW)
    size = len("---\n" + deployment())
    assert parsed == [
        ("libyaml", len(text)),
        ("ruamel", size),
        ("libyaml", size + len(NEW) - len("ghcr.io/team/model:v1")),
    ]
    parsed.clear()
    yaml_text._read_again.cache_clear()
    read_image(text.encode(), SELECTOR)
    assert parsed == [("libyaml", len(text)), ("ruamel", size)]


def test_the_document_with_the_image_has_a_limit_of_its_own() -> None:
    """The slow parser is given no more than it reads in a few seconds."""
    assert refused(deployment() + "# x\n" * 70_000) == (
        "deployment.yaml, line 1: expected at most 262,144 characters (256 KiB) in that document, "
        "found 280,175 characters in the document that holds the image. "
        "Move the workload into a document of its own."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 4_000_000, "a nesting depth of more than 60 levels"),
        ("- " * 2_000_000, "a nesting depth of more than 60 levels"),
        ("[" + "a," * 2_000_000, "more than 1,000 values"),
        ("---\n" * 1_000_000, "more than 1,000 values"),
        ("".join(f"%TAG !a{n}! x\n" for n in range(100_000)), "more than 20 lines that begin with %"),
        ("a: '" + "x" * 4_000_000, "not YAML"),
        ("?" * 4_000_000, "no match"),
    ],
    ids=["brackets", "dashes", "values", "documents", "directives", "an open quote", "one scalar"],
)
def test_a_megabyte_that_no_emitter_writes_is_refused_at_a_bound(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depth, values and directives are counted, so no file is parsed beyond what a large bundle costs."""
    monkeypatch.setattr(yaml_text, "_MAX_NODES", 1000)
    assert reason in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        deployment().replace("name: iris", "name:\tiris"),
        deployment("image:\tghcr.io/team/model:v1"),
    ],
)
def test_a_document_that_two_parsers_read_differently_is_refused(text: str) -> None:
    """libyaml takes a tab for a space where ruamel.yaml does not; the image's own document must be beyond doubt."""
    assert "a second YAML parser finds" in refused(text)


@pytest.mark.usefixtures("unread")
def test_a_second_parser_with_another_reading_stops_the_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other values, or the same values at other positions, are not confirmed."""
    parse = YAML.parse
    for other in (deployment(name="irix"), "# x\n" + deployment(), deployment() + "---\na: b\n"):
        yaml_text._read_again.cache_clear()
        monkeypatch.setattr(YAML, "parse", lambda parser, _text, other=other: parse(parser, other))
        assert "a second YAML parser finds another structure" in refused(deployment())


@given(manifests(), IMAGES, st.integers(0, 3), st.integers(0, 3))
def test_the_documents_around_it_stay_as_they_are(manifest: Manifest, image: str, before: int, after: int) -> None:
    """Positions are right behind any number of documents, directives, line ends and wide characters."""
    other = "%YAML 1.1\r\n---\r\nkind: ConfigMap\ndata: {a: 'Größe 😀', b: \"x\\\n  y\"}\rc: |\n  😀\n...\n"
    head, tail = other * before + "---\n", "\n...\n" + other * after
    whole = replace(manifest, before=head + manifest.before.removeprefix("\ufeff"), after=manifest.after + tail)
    outcome = set_image(whole.content, SELECTOR, image)
    if image == manifest.image:
        assert isinstance(outcome, Unchanged)
    else:
        assert isinstance(outcome, Edited)
        assert outcome.content == whole.with_image(image)


def test_aliases_to_aliases_cost_no_more_than_their_length() -> None:
    """A file that would expand to 2^200 values is read and edited like any other file."""
    bomb = "b0: &b0 [x]\n" + "".join(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 200))
    text = bomb + "---\n" + deployment()
    assert edited(text) == text.replace("ghcr.io/team/model:v1", NEW)


def test_other_documents_may_use_all_of_yaml() -> None:
    """Anchors, merges, tags and quoted templates do not matter unless they are on the path to the image."""
    other = "x: &x {a: 1}\ny: {<<: *x}\nz: !secret q\nalert: '{{ $labels.pod }}'\nw: &x 2\nv: |\n  image: no\n---\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert edited(other + deployment()) == other + deployment(f"image: {NEW}")


@pytest.mark.parametrize("image", ["", " ", "nginx ", "a/b:1\n", "{{ x }}", "a/b:1 # c", "A/B", "x\ud800", "a/b:1\0"])
def test_nothing_but_an_image_is_ever_put_there(image: str) -> None:
    """An empty image once broke a branch for 42 minutes: what is not a reference is refused before any edit."""
    outcome = set_image(deployment().encode(), SELECTOR, image)
    assert isinstance(outcome, EditRefused)
    assert "an image reference" in outcome.problem.expected


def test_an_edit_can_expect_what_it_replaces() -> None:
    """A value that someone else changed in between is left alone; the wanted image is never an error."""
    content = deployment().encode()
    assert isinstance(set_image(content, SELECTOR, NEW, expected="ghcr.io/team/model:v1"), Edited)
    other = set_image(content, SELECTOR, NEW, expected="ghcr.io/team/model:v0")
    assert isinstance(other, EditRefused)
    assert other.problem.found == "ghcr.io/team/model:v1"
    same = set_image(content, SELECTOR, "ghcr.io/team/model:v1", expected="ghcr.io/team/model:v0")
    assert same == Unchanged("ghcr.io/team/model:v1", 10)


KUSTOMIZATION = (
    "images:\n  - name: other\n    newTag: v0\n  - name: iris\n    newName: ghcr.io/team/model\n    newTag: v1 # x\n"
)
NEW_TAG = Selector("kustomization.yaml", yaml_path="images[name=iris].newTag")
VALUES = "image:\n  repository: team/model\n  registry: ghcr.io\n  tag: 'v1'\n  digest: ''\nother: 1\n"
TAG = Selector("values.yaml", yaml_path="image.tag")
V1 = "ghcr.io/team/model:v1"


@pytest.mark.parametrize(
    ("text", "path", "old", "new_text"),
    [
        (KUSTOMIZATION, "images[name=iris].newTag", "ghcr.io/team/model:v1", ("v1 #", f"v2@{DIGEST} #")),
        (KUSTOMIZATION, "images[1].newTag", "ghcr.io/team/model:v1", ("v1 #", f"v2@{DIGEST} #")),
        (VALUES, "image.tag", "ghcr.io/team/model:v1", ("'v1'", f"'v2@{DIGEST}'")),
        ("a: {image: ghcr.io/team/model:v1}", "a.image", "ghcr.io/team/model:v1", ("ghcr.io/team/model:v1", NEW)),
        ("tag: v1\n", "tag", "v1", ("v1", f"v2@{DIGEST}")),
        ("images: [other:1, iris=ghcr.io/team/model:v1]\n", "images[1]", V1, (V1, NEW)),
        (f"images:\n  - 'iris={V1}' # now\n", "images[0]", V1, (V1, NEW)),
        (
            f"images: [{{name: ghcr.io/team/model, digest: {OTHER_DIGEST}}}]\n",
            "images[name=ghcr.io/team/model].digest",
            f"ghcr.io/team/model@{OTHER_DIGEST}",
            (OTHER_DIGEST, DIGEST),
        ),
    ],
)
def test_a_path_leads_to_a_whole_image_or_to_a_part(text: str, path: str, old: str, new_text: tuple[str, str]) -> None:
    """The path's last field says what is written; reading gives the whole reference if the file has the repository."""
    selector = Selector("f", yaml_path=path)
    read = read_image(text.encode(), selector)
    assert isinstance(read, CurrentImage)
    assert read.value == old
    new = edited(text, selector)
    assert new == text.replace(*new_text)
    assert edited(new, selector, image=old) == text


FLAT = "imageRepository: ghcr.io/team/model\nimageTag: v1 # now\nother: v1\n"
SNAKE = "image_repository: ghcr.io/team/model\nimage_tag: v1\n"
BOTH = f"image:\n  registry: ghcr.io\n  digest: {OTHER_DIGEST} # x\n  repository: team/model\n  tag: 'v1'\n"
PARAMETERS = (
    "kind: Application\nspec:\n  source:\n    helm:\n      parameters:\n"
    "        - {name: image.repository, value: ghcr.io/team/model}\n        - name: image.tag\n          value: v1\n"
    "        - {name: sidecar.repository, value: ghcr.io/team/other}\n"
)
TO_V2 = ("v1", f"v2@{DIGEST}")
TO_DIGEST = (OTHER_DIGEST, DIGEST)


@pytest.mark.parametrize(
    ("text", "path", "old", "changes"),
    [
        (FLAT, "imageTag", V1, [TO_V2]),
        (SNAKE, "image_tag", V1, [TO_V2]),
        ("image: ghcr.io/team/model\ntagName: v1\n", "tagName", V1, [TO_V2]),
        ("image: {name: ghcr.io/team/model, version: v1}", "image.version", V1, [TO_V2]),
        ("a: {name: server, version: v1}", "a.version", "v1", [TO_V2]),
        ("release: v1", "release", "v1", [TO_V2]),
        (f"release: v1@{OTHER_DIGEST}", "release", f"v1@{OTHER_DIGEST}", [(f"v1@{OTHER_DIGEST}", f"v2@{DIGEST}")]),
        (f"build: {OTHER_DIGEST}", "build", OTHER_DIGEST, [TO_DIGEST]),
        ("modelImage: team", "modelImage", "team", [("team", NEW)]),
        ("image: ghcr.io/team/model:v1", "image", V1, [(V1, NEW)]),
        (BOTH, "image.tag", f"{V1}@{OTHER_DIGEST}", [("v1", "v2"), TO_DIGEST]),
        (BOTH, "image.digest", f"{V1}@{OTHER_DIGEST}", [("v1", "v2"), TO_DIGEST]),
        (BOTH.replace("'v1'", '""'), "image.tag", f"ghcr.io/team/model@{OTHER_DIGEST}", [TO_DIGEST]),
        (BOTH.replace("'v1'", "~"), "image.tag", f"ghcr.io/team/model@{OTHER_DIGEST}", [TO_DIGEST]),
        ("image: {repository: ghcr.io/team/model, tag: v1, digest: null}", "image.tag", V1, [TO_V2]),
        (BOTH.replace(" 'v1'", ""), "image.digest", f"ghcr.io/team/model@{OTHER_DIGEST}", [TO_DIGEST]),
        (
            KUSTOMIZATION.replace("v1 #", f"v1\n    digest: {OTHER_DIGEST} #"),
            "images[name=iris].newTag",
            f"{V1}@{OTHER_DIGEST}",
            [("newTag: v1", "newTag: v2"), TO_DIGEST],
        ),
        (
            f"imageDigest: {OTHER_DIGEST}\nimageTag: v1\nimageRepository: ghcr.io/team/model\n",
            "imageTag",
            f"{V1}@{OTHER_DIGEST}",
            [("v1", "v2"), TO_DIGEST],
        ),
        (PARAMETERS, "spec.source.helm.parameters[name=image.tag].value", V1, [TO_V2]),
        (
            "spec: {source: {helm: {valuesObject: {image: {repository: ghcr.io/team/model, tag: v1}}}}}",
            "spec.source.helm.valuesObject.image.tag",
            V1,
            [TO_V2],
        ),
    ],
)
def test_an_image_in_the_forms_of_charts_is_read_written_and_written_back(
    text: str, path: str, old: str, changes: list[tuple[str, str]]
) -> None:
    """Flat fields, split ones and an Application's Helm values; two fields change together, and a rollback is exact."""
    selector = Selector("f", yaml_path=path)
    read = read_image(text.encode(), selector)
    assert isinstance(read, CurrentImage), read
    assert read.value == old
    expected = text
    for before, after in changes:
        expected = expected.replace(before, after, 1)
    new = edited(text, selector)
    assert new == expected
    assert edited(new, selector, image=old) == text
    assert isinstance(set_image(new.encode(), selector, NEW), Unchanged)


@pytest.mark.parametrize("image", ["ghcr.io/team/model:v2", f"ghcr.io/team/model@{DIGEST}", "v2", DIGEST])
def test_a_version_in_two_fields_is_not_written_by_half(image: str) -> None:
    """A new tag beside the old digest would name one image and run another."""
    outcome = set_image(BOTH.encode(), Selector("f", yaml_path="image.tag"), image)
    assert isinstance(outcome, EditRefused)


@given(TAGS, TAGS, st.none() | DIGESTS, st.sampled_from(["", "'", '"']))
def test_a_tag_that_yaml_takes_for_a_number_is_put_in_quotes(
    old: str, new: str, digest: str | None, quote: str
) -> None:
    """A commit id such as 12e34567 is a float without quotes; what is set stays text in YAML 1.1 and 1.2."""
    text = f"{{image: {{tag: {quote}{old}{quote}}}}}"
    wanted = f"{new}@{digest}" if digest else new
    outcome = set_image(text.encode(), TAG, wanted)
    assume(not isinstance(outcome, EditRefused) or quote)  # a present value that is itself a number
    assert not isinstance(outcome, EditRefused)
    content = outcome.content.decode() if isinstance(outcome, Edited) else text
    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(content)["image"]["tag"] == wanted or isinstance(outcome, Unchanged)


@pytest.mark.parametrize("tag", ["12e34567", "1.10", "0x1f", "1_000", "2026-01-02", "yes", "null", "1", "0o17", "y"])
def test_known_traps_of_plain_tags_are_quoted(tag: str) -> None:
    """Without quotes, some YAML parser reads each of these as something other than text."""
    assert edited("image: {tag: v1}", TAG, tag) == f'image: {{tag: "{tag}"}}'


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (KUSTOMIZATION, "images[name=none].newTag", "0 documents"),
        (KUSTOMIZATION, "images[9].newTag", "0 documents"),
        (KUSTOMIZATION, "images.newTag", "0 documents"),
        (KUSTOMIZATION, "images[name=iris]", "a mapping"),
        (KUSTOMIZATION, "images[name=iris].newName", "newName, which holds a name"),
        (KUSTOMIZATION, "images[name=iris].name", "name, which holds a name"),
        (KUSTOMIZATION, "images[name=iris", "the path"),
        (KUSTOMIZATION, "images..newTag", "the path"),
        (KUSTOMIZATION, "images.", "the path"),
        (KUSTOMIZATION, "", "the path"),
        (KUSTOMIZATION, "../x", "the path"),
        (KUSTOMIZATION + "---\n" + KUSTOMIZATION, "images[name=iris].newTag", "2 documents"),
        (KUSTOMIZATION.replace("other", "iris"), "images[name=iris].newTag", "2 elements with name=iris"),
        (KUSTOMIZATION + "    tagSuffix: x\n", "images[name=iris].newTag", "a suffix beside newTag"),
        ("image: {tag: v1, sha: abc}", "image.tag", "a sha beside tag"),
        (VALUES, "image.digest", "an empty digest"),
        ("image: {repository: a/b, tag: ''}", "image.tag", "an empty tag, in whose place a chart takes its own"),
        ("image: {repository: a/b, tag: '', digest: ''}", "image.tag", "an empty tag, in whose place"),
        ("image: {repository: a/b, tag: }", "image.tag", "an empty tag, in whose place"),
        ("image: {repository: a/b, tag: ~}", "image.tag", "an empty tag, in whose place"),
        ("image: {repository: a/b, digest: null}", "image.digest", "an empty digest"),
        ("image: {repository: 'a/b:1', tag: v1}", "image.tag", "a/b:1, which has a version of its own beside tag"),
        (f"image: {{repository: 'a/b@{DIGEST}', tag: v1}}", "image.tag", "which has a version of its own beside tag"),
        ("images: ['iris=*:v1']", "images[0]", "expected an image reference"),
        (
            "spec: {source: {helm: {values: 'image: {tag: v1}'}}}",
            "spec.source.helm.values.image.tag",
            "Move what is in it to valuesObject",
        ),
        (f"image: {{tag: 'v1@{DIGEST}', digest: '{DIGEST}'}}", "image.tag", "the digest has a field of its own"),
        ("base: &b {a: b}\nimage: {<<: *b, tag: v1}\n", "image.tag", "a merge key (<<), which may supply a digest"),
        (f"image: {{tag: &t v1, digest: '{DIGEST}'}}", "image.digest", "the anchor &t"),
        (f"image: {{tag: 1.10, digest: '{DIGEST}'}}", "image.digest", "1.10 without quotes"),
        ("imageRepository: ghcr.io/team/model\n", "imageRepository", "imageRepository, which holds a name"),
        ("imageName: ghcr.io/team/model\n", "imageName", "imageName, which holds a name"),
        ("image: {pullPolicy: Always, tag: v1}\n", "image.pullPolicy", "pullPolicy, which holds a name"),
        ("imagePullPolicy: IfNotPresent\n", "imagePullPolicy", "imagePullPolicy, which holds a name"),
        ("imageTag: ghcr.io/team/model:v1\n", "imageTag", "expected a tag"),
        ("imageDigest: v1\n", "imageDigest", "expected a digest"),
        (
            "spec: {source: {helm: {parameters: [{name: image.repository, value: a/b}]}}}",
            "spec.source.helm.parameters[name=image.repository].value",
            "repository, which holds a name",
        ),
        (
            "spec:\n  source:\n    helm:\n      values: |\n        image:\n          tag: v1\n",
            "spec.source.helm.values.image.tag",
            "Move what is in it to valuesObject",
        ),
        ("data:\n  f: |\n    image: a/b:1\n    x: y\n", "data.f.image", "expected a mapping at f, found a text at f"),
        ("image: {tag: 1.10}", "image.tag", "1.10 without quotes"),
        ("image: {tag: 'a b'}", "image.tag", "expected a tag"),
        (f"image: {{digest: '{DIGEST[:-1]}'}}", "image.digest", "expected a digest"),
        ("base: &b {tag: v1}\nimage: *b", "image.tag", "the anchor &b"),
    ],
)
def test_paths_that_lead_to_no_single_version_are_refused(text: str, path: str, reason: str) -> None:
    """A path must lead to a single scalar that alone decides the version."""
    assert reason in refused(text, Selector("f", yaml_path=path))


@pytest.mark.parametrize(
    ("text", "path", "image", "reason"),
    [
        (
            KUSTOMIZATION,
            "images[name=iris].newTag",
            "ghcr.io/evil/model:v2",
            "image's repository ghcr.io/evil/model",
        ),
        (VALUES, "image.tag", "team/model:v2", "ghcr.io/team/model beside the tag"),
        (KUSTOMIZATION, "images[name=iris].newTag", f"ghcr.io/team/model@{DIGEST}", "has no tag"),
        (f"digest: {DIGEST}", "digest", "ghcr.io/team/model:v2", "has no digest"),
    ],
)
def test_a_part_is_written_only_when_the_rest_of_the_image_is_right(
    text: str, path: str, image: str, reason: str
) -> None:
    """A tag of another repository, or a missing part, would run an image that nobody meant."""
    outcome = set_image(text.encode(), Selector("f", yaml_path=path), image)
    assert isinstance(outcome, EditRefused)
    assert reason in str(outcome.problem)


def test_a_values_file_keeps_its_blank_lines_comments_and_anchors() -> None:
    """All that argocd-image-updater#884, #1039, #1283, #1489 and #1734 lost or doubled stays; one image changes."""
    text = (
        "# Header\n\n\nglobal:\n  env: &env   production  # aligned\n\n\nimages:\n\n"
        "  app:   {repository: ghcr.io/team/model,   tag: v1}   # current\n"
        "  app2:\n    repository: ghcr.io/team/model\n    tag: v1\n\n\nscript: |\n\n\n  tag: v1\n\nother: *env\n\n\n"
    )
    new = edited(text, Selector("values.yaml", yaml_path="images.app2.tag"), "ghcr.io/team/model:v2")
    assert new == text.replace("    tag: v1", "    tag: v2")


def test_an_edit_that_would_change_more_than_its_scalar_is_not_handed_out() -> None:
    """The new content is parsed again: text that becomes another structure is refused, not returned."""
    stream = read_stream(deployment().encode())
    node = find_place(stream, SELECTOR).node
    for text in ("a: b", "a # b", "a\n          args: []", "- a"):
        with pytest.raises(RefusedError, match=r"would change more|not YAML"):
            splice(stream, [(node, text)])
    with pytest.raises(RefusedError, match="would change more"):
        _prove(stream, [(node, NEW)], deployment(f"image: {NEW}", name="other"))
    with pytest.raises(RefusedError, match="would change more"):
        _prove(stream, [(node, NEW)], deployment(f"image: {NEW}") + "---\na: b\n")


def test_a_credential_in_a_manifest_is_not_repeated() -> None:
    """A refusal of a value with a password in it does not repeat the password."""
    assert "hunter2" not in refused(deployment("image: https://bot:hunter2@ghcr.io/x:1"))


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ("[{name: MODEL_URI, value: 'models:/m/1'}]", "models:/m/1"),
        ("[{name: MODEL_URI, value: a}, {name: OTHER, value: c}, {value: b, name: MODEL_URI}]", "b"),
        ('[{name: MODEL_URI, value: ""}]', ""),
        ("[{name: OTHER, value: a}]", None),
        ("[{name: MODEL_URI}]", None),
        ("[{name: MODEL_URI, value: a/$(OTHER)}]", None),
        ("[{name: MODEL_URI, valueFrom: {configMapKeyRef: {name: m, key: k}}}]", None),
        ("[{name: MODEL_URI, <<: *x}]", None),
        ("*x", None),
        ("text", None),
    ],
)
def test_a_variable_of_the_container_is_read_when_the_file_has_it_by_itself(env: str, expected: str | None) -> None:
    """The container is the one whose image is edited, found by its name or by a path; anything else reads as None."""
    text = (
        "kind: Deployment\nmetadata: {name: iris, labels: &x {a: b}}\n"
        "spec:\n  template:\n    spec:\n      containers:\n"
        "        - {name: other, image: 'a:1', env: [{name: MODEL_URI, value: 'models:/other/1'}]}\n"
        f"        - name: model\n          image: ghcr.io/o/m:v1\n          env: {env}\n"
    )
    for selector in (
        Selector("f", name="iris", container="model"),
        Selector("f", yaml_path="spec.template.spec.containers[name=model].image"),
    ):
        variable = read_variable(text.encode(), selector, "MODEL_URI")
        assert (variable and variable.value) == expected
        assert variable is None or variable.line == 10


def test_a_file_that_keeps_the_image_in_parts_gives_no_variables() -> None:
    """Values and kustomizations say nothing about the container's environment."""
    for text, path in ((KUSTOMIZATION, "images[name=iris].newTag"), (VALUES, "image.tag")):
        assert read_variable(text.encode(), Selector("f", yaml_path=path), "MODEL_URI") is None
    assert read_variable(b"{{ not YAML", Selector("f"), "MODEL_URI") is None
