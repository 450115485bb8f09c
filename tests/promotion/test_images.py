"""Image references, and the image that a version names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.images import ImageRef, choose_image, is_digest, is_tag, parse_image
from orchestration.promotion.model_version import ModelVersion, TrainingRun
from orchestration.promotion.problems import Problem

REPOSITORY = "ghcr.io/team/model-source"
DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RUN = TrainingRun("r1", "FINISHED", tags={"mlflow.source.git.commit": COMMIT})
REFERENCE = st.builds(
    ImageRef,
    st.sampled_from(["nginx", "ghcr.io/a/b", "localhost:5000/a__b/c-d.e", "100.85.38.128:30500/x"]),
    st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    st.none() | st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
)


def version(**tags: str) -> ModelVersion:
    return ModelVersion("iris-classifier", 7, "r1", "m-0a1b", tags)


@given(REFERENCE)
def test_a_reference_is_read_as_it_is_written(reference: ImageRef) -> None:
    """Writing a reference and reading it gives the same reference."""
    assert parse_image(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nginx ",
        "nginx\n",
        "Nginx",
        "nginx:",
        "nginx@",
        "nginx:a:b",
        "nginx@sha256:ab",
        "nginx@sha512:" + "ab" * 64,
        "nginx@sha256:" + "AB" * 32,
        "ghcr.io//x",
        "/x",
        "a/../b",
        "-x/y",
        "ghcr.io/x:{{ tag }}",
        "$(IMAGE)",
        "https://ghcr.io/x:1",
        "user:pw@ghcr.io/x",
        "x:" + "a" * 129,
        "a" * 256,
        "nginx:ä",
        "nginx:\uff11",
        "a" * 1_000_000,
    ],
)
def test_what_is_not_a_reference_as_a_whole_is_none(text: str) -> None:
    """A text is a reference only if all of it is, from the first to the last character."""
    assert parse_image(text) is None


def test_tags_and_digests_are_matched_as_a_whole() -> None:
    """A tag or a digest followed by a line end is neither."""
    assert is_tag("v1.0_x-y")
    assert is_digest(DIGEST)
    assert not any(map(is_tag, ["", "v1\n", "-v", ".v", "a/b", "a:b", "a" * 129]))
    assert not any(map(is_digest, ["", DIGEST + "\n", DIGEST.upper(), DIGEST[:-1], "ab" * 32]))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"image": f"{REPOSITORY}:v7"}, ImageRef(REPOSITORY, "v7")),
        ({"image": f"{REPOSITORY}@{DIGEST}"}, ImageRef(REPOSITORY, None, DIGEST)),
        ({"image": f"{REPOSITORY}:v7", "image_digest": DIGEST}, ImageRef(REPOSITORY, "v7", DIGEST)),
        ({"image": f"{REPOSITORY}:v7", "image_tag": "v7"}, ImageRef(REPOSITORY, "v7")),
        ({"image_tag": "v7"}, ImageRef(REPOSITORY, "v7")),
        ({"image_digest": DIGEST}, ImageRef(REPOSITORY, None, DIGEST)),
        ({"image_tag": "v7", "image_digest": DIGEST}, ImageRef(REPOSITORY, "v7", DIGEST)),
        ({}, ImageRef(REPOSITORY, COMMIT)),
        ({"unrelated": "x"}, ImageRef(REPOSITORY, COMMIT)),
    ],
)
def test_a_version_names_its_image_by_tags_else_by_its_commit(tags: dict[str, str], expected: ImageRef) -> None:
    """The tags are combined; only for a version without any of them does the run's commit count."""
    assert choose_image(version(**tags), RUN, REPOSITORY) == expected


@pytest.mark.parametrize(
    ("tags", "finding"),
    [
        ({"image": "ghcr.io/evil/model:v7"}, "an image in ghcr.io/evil/model"),
        ({"image": "docker.io/" + REPOSITORY + ":v7"}, "docker.io"),
        ({"image": REPOSITORY}, "model-source"),
        ({"image": ""}, "''"),
        ({"image_tag": ""}, "image_tag=''"),
        ({"image_tag": "v7\nImage-Digest: x"}, "v7"),
        ({"image_tag": "../../etc"}, "etc"),
        ({"image_digest": "sha256:short"}, "short"),
        ({"image_digest": "sha512:" + "ab" * 64}, "sha512"),
        ({"image": f"{REPOSITORY}:v7", "image_tag": "v8"}, "v7 in image, but image_tag=v8"),
        ({"image": f"{REPOSITORY}@{DIGEST}", "image_digest": OTHER_DIGEST}, OTHER_DIGEST),
        ({"image": f"{REPOSITORY}:v7", "image_tag": "bad tag"}, "bad tag"),
    ],
)
def test_foreign_malformed_and_contradictory_tags_are_refused(tags: dict[str, str], finding: str) -> None:
    """A wrong tag is refused and never ignored in favour of the run's commit."""
    problem = choose_image(version(**tags), RUN, REPOSITORY)
    assert isinstance(problem, Problem)
    assert problem.subject == "version 7 of iris-classifier"
    assert finding in problem.found


@pytest.mark.parametrize("commit", ["", "main", "v1", COMMIT[:12], COMMIT + "\n", COMMIT.upper()])
def test_a_run_without_a_full_commit_id_names_no_image(commit: str) -> None:
    """A branch name or an abbreviated commit does not name one fixed image."""
    run = TrainingRun("r1", "FINISHED", tags={"mlflow.source.git.commit": commit})
    assert isinstance(choose_image(version(), run, REPOSITORY), Problem)


def test_a_version_that_names_no_image_says_how_to_name_one() -> None:
    """Without tags and without a commit, the problem shows the call that sets the tag."""
    problem = choose_image(version(), TrainingRun("r1", "FINISHED"), REPOSITORY)
    assert isinstance(problem, Problem)
    assert "set_model_version_tag" in problem.next_step


@given(st.dictionaries(st.sampled_from(["image", "image_tag", "image_digest"]), st.text() | REFERENCE.map(str)))
def test_hostile_tags_never_leave_the_policys_repository(tags: dict[str, str]) -> None:
    """Whatever the tags hold, a chosen image is a valid reference in the policy's repository."""
    image = choose_image(version(**tags), RUN, REPOSITORY)
    if not isinstance(image, Problem):
        assert image.repository == REPOSITORY
        assert parse_image(str(image)) == image
        assert image.tag or image.digest


def test_credentials_in_a_tag_are_not_repeated() -> None:
    """A problem about a tag that holds a password does not repeat the password."""
    problem = choose_image(version(image="https://bot:hunter2@ghcr.io/x:1"), RUN, REPOSITORY)
    assert isinstance(problem, Problem)
    assert "hunter2" not in str(problem)


def test_a_copy_without_image_tags_has_those_of_its_nearest_original() -> None:
    """Also before the run's commit; a tag of its own counts first, and one that is malformed is refused."""
    first, second = version(image_tag="v1"), version(team="edge")
    copy = replace(version(), originals=(second, first))
    assert choose_image(copy, RUN, REPOSITORY) == ImageRef(REPOSITORY, "v1")
    own = replace(version(image_digest=DIGEST), originals=(second, first))
    assert choose_image(own, RUN, REPOSITORY) == ImageRef(REPOSITORY, None, DIGEST)
    assert isinstance(
        choose_image(replace(version(), originals=(version(image_tag="a b"), first)), RUN, REPOSITORY), Problem
    )
