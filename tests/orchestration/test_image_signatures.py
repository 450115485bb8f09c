"""Promotions under a policy that asks for a signature, and of images in a registry that limits its questions."""

import pytest

from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.state import State
from orchestration.stages.plan import Outlook, plan_promotion
from tests.fakes.addresses import AddressWorld
from tests.fakes.runs import promote
from tests.fakes.world import POLICY_NAME, REPOSITORY, World

SIGNED = "signature: {cosign: {key: /keys/cosign.pub}}\n"


@pytest.fixture
def signing(world: World) -> World:
    """A world whose policy asks for a signature, with a version that is published."""
    world.policies = {name: text + SIGNED for name, text in world.policies.items()}
    world.register()
    return world


def digest_of(world: World) -> str:
    return world.images.tags[REPOSITORY, "v1"]


def sign(world: World, *, digest: str = "", repository: str = REPOSITORY, fault: str | None = None) -> None:
    """Put a signature beside the image of version 1."""
    signature = ImageSignature(digest or digest_of(world), repository, fault)
    world.images.signed[digest_of(world)] = (signature,)


def test_a_signed_image_is_promoted(signing: World) -> None:
    """A signature by the policy's key, for this digest and repository, is enough, and each judgement reads it once."""
    sign(signing)
    assert promote(signing, 1, "run")
    assert signing.champion == 1
    assert signing.images.asked_for_signatures == 2, "once before the lease, and once under it"


def test_an_image_that_is_never_signed_is_refused(signing: World) -> None:
    """Without a signature the version is refused at the deadline, and nothing is committed."""
    promote(signing, 1, "run")
    assert (signing.state(1), signing.subjects) == (State.REFUSED, [])
    assert "expected an image signed within 30 s of the request, found no signature beside the image" in (
        signing.reason(1)
    )
    assert "Sign it with cosign, then: incumbent retry" in signing.reason(1)


def test_an_image_is_signed_some_moments_after_its_push(signing: World) -> None:
    """A build pushes first and signs then, so the version waits for the signature as for the image."""
    signing.clock.after(11, lambda: sign(signing))
    assert promote(signing, 1, "run")
    assert signing.champion == 1


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (("", REPOSITORY, "made by another key"), "found 1 signature(s), none by it: made by another key"),
        (("sha256:" + "1" * 64, REPOSITORY, None), f"found a signature by it for another image, sha256:{'1' * 64}"),
        (("", "ghcr.io/acme/other", None), "found a signature by it for another repository, ghcr.io/acme/other"),
    ],
)
def test_a_wrong_signature_is_refused_at_once(signing: World, wrong: tuple[str, str, str | None], found: str) -> None:
    """A signature by another key, for another image or for another repository refuses the version by name."""
    digest, repository, fault = wrong
    sign(signing, digest=digest, repository=repository, fault=fault)
    began = signing.clock.now()
    promote(signing, 1, "run")
    assert (signing.state(1), signing.subjects, signing.clock.now()) == (State.REFUSED, [], began)
    assert f"expected a signature by the key /keys/cosign.pub for this image, {found}" in signing.reason(1)
    assert "cosign sign" in signing.reason(1)


def test_a_plan_says_that_the_signature_is_missing(signing: World) -> None:
    """What a promotion would wait for is foreseen, and so is what it would refuse."""

    def foreseen() -> dict[str, Outlook]:
        policy = signing.policy(POLICY_NAME)
        found = plan_promotion(signing.clients(policy), policy, 1, signing.said.append)
        return {check.name: check.outlook for check in found.checks}

    assert foreseen()["image_signed"] is Outlook.WAITING
    sign(signing, fault="made by another key")
    assert (foreseen()["image_published"], foreseen()["image_signed"]) == (Outlook.PASSED, Outlook.REFUSED)
    sign(signing)
    assert foreseen()["image_signed"] is Outlook.PASSED


@pytest.mark.parametrize("signed", [True, False])
def test_the_image_that_serves_an_address_is_verified(signed: bool) -> None:
    """Where one image serves all versions, its signature is asked for, and it is not waited for."""
    world = AddressWorld("variable", SIGNED)
    world.register()
    for (repository, digest), _ in list(world.images.images.items()):
        if signed:
            world.images.signed[digest] = (ImageSignature(digest, repository),)
    promote(world, 1, "run")
    assert (world.champion == 1) == signed
    assert signed or "found no signature" in world.reason(1)


def test_a_platforms_own_image_cannot_be_verified() -> None:
    """Where the platform chooses the image, a policy that asks for a signature refuses."""
    world = AddressWorld("storageUri", SIGNED)
    world.register()
    promote(world, 1, "run")
    assert world.state(1) is State.REFUSED
    assert "no image: the platform chooses it" in world.reason(1)


def test_a_limit_is_waited_for_within_the_deadline(world: World) -> None:
    """A registry that says when to ask again is left alone until then, and the version is promoted after it."""
    world.register()
    world.images.limited = [11.0]
    assert promote(world, 1, "run")
    assert world.champion == 1
    assert world.clock.slept[:6] == [2.0] * 6


@pytest.mark.parametrize("first", [11.0, 3600.0])
def test_a_limit_that_cannot_be_waited_for_refuses_nothing(world: World, first: float) -> None:
    """A registry that wants to be asked after the deadline is the platform's fault, so the version waits."""
    world.register()
    world.images.limited = [first, first, 3600.0]
    promote(world, 1, "run")
    assert (world.state(1), world.subjects) == (State.WAITING, [])
    assert "HTTP 429" in world.reason(1)
