"""The real cosign signs in a real registry, and its signatures by key count; and it knows the Sigstore of our tests.

Debian's registry has no referrers, so what cosign would keep as one is under the tag that stands in for them.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestration.adapters.oci import OciRegistry
from orchestration.promotion.image_signatures import signature_problem
from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import CosignPolicy
from tests.adapters.conftest import registry_of
from tests.adapters.own_sigstore import OwnSigstore, encode
from tests.adapters.pushing import INDEX, MANIFEST, NOWHERE, RealWorld
from tests.adapters.test_cosign import KEYS, attach
from tests.adapters.test_keyless import IDENTITY, ISSUER, statement
from tests.platform.programs import cosign

pytestmark = pytest.mark.timeout(3600)  # the first of these tests may have to build it

_REFERRER = {"COSIGN_EXPERIMENTAL": "1"}
FORMS: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "tag": ((), {}),
    "referrer": (("--registry-referrers-mode=oci-1-1",), _REFERRER),
    "bundle": (("--new-bundle-format",), {}),
}
"""What cosign is asked for, and its environment."""


class Cosign:
    """The program, in a folder with its keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run it without a network, and without anybody's settings."""
        own = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "COSIGN_PASSWORD": "secret", "COSIGN_YES": "true"}
        nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9"}
        return subprocess.run(
            [cosign(), *arguments],
            cwd=self.folder,
            env=own | nowhere | dict(environment or {}),
            capture_output=True,
            text=True,
        )

    def key(self, name: str, kind: str = "ecdsa") -> CosignPolicy:
        """Import a private key, and return the policy that asks for signatures by it."""
        pem = KEYS[kind]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.pem").write_bytes(pem)
        done = self.run("import-key-pair", f"--key={name}.pem", f"--output-key-prefix={name}")
        assert done.returncode == 0, done.stderr
        return CosignPolicy(key=str(self.folder / f"{name}.pub"))

    def sign(self, image: ImageRef, name: str, form: str, *options: str) -> None:
        """Sign an image by its digest, with an annotation, and without the public log."""
        of_form, environment = FORMS[form]
        named = f"{image.repository}@{image.digest}"
        asked = ("sign", f"--key={name}.key", "--tlog-upload=false", "-a", "commit=abc", *of_form, *options, named)
        done = self.run(*asked, environment=environment)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    found = Cosign(tmp_path_factory.mktemp("cosign"))
    for name in ("ours", "other"):
        found.key(name)
    return found


@pytest.fixture(scope="module")
def oci_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OCI registry, empty, without authentication."""
    with registry_of(tmp_path_factory.mktemp("content"), tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def ours(program: Cosign) -> CosignPolicy:
    return CosignPolicy(key=str(program.folder / "ours.pub"))


@pytest.fixture
def other(program: Cosign) -> CosignPolicy:
    return CosignPolicy(key=str(program.folder / "other.pub"))


@pytest.fixture
def repository(oci_url: str) -> str:
    """A repository of the registry's own name, as cosign writes it into a signature."""
    return f"{oci_url.removeprefix('http://')}/team/signed-{uuid4().hex[:8]}"


def publish(oci_url: str, repository: str, tag: str) -> ImageRef:
    """Push an image that is unlike any with another tag."""
    path = repository.partition("/")[2]
    return ImageRef(repository, tag, RealWorld(oci_url).publish(path, tag, {"TAG": tag}, ("amd64",)))


@pytest.fixture
def image(oci_url: str, repository: str) -> ImageRef:
    return publish(oci_url, repository, "v1")


def verdict(image: ImageRef, wanted: CosignPolicy) -> str | None:
    """Return what is found instead of a signature that counts; None when one does."""
    problem = signature_problem(image, OciRegistry({}, NOWHERE).signatures(image, wanted), wanted)
    return problem.found if problem else None


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", FORMS)
def test_its_signatures_count(program: Cosign, image: ImageRef, other: CosignPolicy, form: str, kind: str) -> None:
    """In each place where it puts them, by each kind of key that it imports; another key did not make them."""
    assert verdict(image, other) == "no signature"
    wanted = program.key(f"{form}-{kind}", kind)
    program.sign(image, f"{form}-{kind}", form)
    assert verdict(image, wanted) is None
    assert verdict(image, other) == "1 signature(s), none by it: made by another key, or changed"


def test_one_of_several_signatures_is_enough(program: Cosign, image: ImageRef, ours: CosignPolicy) -> None:
    """A build that signs an image again, in another form or with another key, leaves the first signature beside it."""
    for form in FORMS:
        program.sign(image, "other", form)
    found = verdict(image, ours)
    assert found is not None
    assert re.fullmatch(r"[3-9] signature\(s\), none by it: made by another key, or changed", found)
    program.sign(image, "ours", "bundle")
    assert verdict(image, ours) is None


@pytest.mark.parametrize("form", FORMS)
def test_a_signature_for_another_image_does_not_count(
    program: Cosign, oci_url: str, repository: str, ours: CosignPolicy, form: str
) -> None:
    """What it signed of one image, put beside another in the same repository, is refused by that image's digest."""
    signed, unsigned = (publish(oci_url, repository, tag) for tag in ("v1", "v2"))
    program.sign(signed, "ours", form)
    base = f"{oci_url}/v2/{repository.partition('/')[2]}/manifests"
    end = ".sig" if form == "tag" else ""
    from_, to = (f"{base}/{str(each.digest).replace(':', '-')}{end}" for each in (signed, unsigned))
    kept = httpx2.get(from_, headers={"Accept": f"{MANIFEST}, {INDEX}"}).raise_for_status()
    kind = {"Content-Type": kept.headers["content-type"]}
    httpx2.put(to, content=kept.content, headers=kind).raise_for_status()
    assert verdict(signed, ours) is None
    assert verdict(unsigned, ours) == f"a signature by it for another image, {signed.digest}"


def test_a_signature_for_another_repository_does_not_count(
    program: Cosign, image: ImageRef, ours: CosignPolicy
) -> None:
    """The repository that it writes into a signature must be the image's, and can be said where they differ."""
    program.sign(image, "ours", "tag", "--sign-container-identity=ghcr.io/team/other")
    assert verdict(image, ours) == "a signature by it for another repository, ghcr.io/team/other"
    program.sign(image, "ours", "tag", f"--sign-container-identity={image.repository}")
    assert verdict(image, ours) is None


@pytest.mark.parametrize("form", ["tag", "bundle"])
def test_an_attestation_is_no_signature(program: Cosign, image: ImageRef, ours: CosignPolicy, form: str) -> None:
    """What it attests about an image, with the very key of the policy, does not sign the image."""
    (program.folder / "predicate.json").write_bytes(encode({"passed": True}))
    named = f"{image.repository}@{image.digest}"
    asked = ("--key=ours.key", "--tlog-upload=false", "--predicate=predicate.json", "--type=custom")
    done = program.run("attest", *asked, *FORMS[form][0], named)
    assert done.returncode == 0, done.stderr
    assert verdict(image, ours) == "no signature"


def test_it_knows_the_sigstore_of_our_tests(program: Cosign, oci_url: str, image: ImageRef, tmp_path: Path) -> None:
    """It accepts and refuses what our tests sign by an identity as we do, so those tests are about real signatures."""
    sigstore = OwnSigstore()
    root = sigstore.write_trusted_root(tmp_path)
    attach(RealWorld(oci_url), image.repository.partition("/")[2], str(image.digest), _bundle(sigstore, image))
    wanted = CosignPolicy(identity=IDENTITY, issuer=ISSUER, trusted_root=root)
    for policy, is_it in ((wanted, True), (wanted.model_copy(update={"identity": "eve@evil.example"}), False)):
        asked = (
            *("verify", "--new-bundle-format", f"--trusted-root={root}", f"{image.repository}@{image.digest}"),
            *(f"--certificate-identity={policy.identity}", f"--certificate-oidc-issuer={policy.issuer}"),
        )
        done = program.run(*asked)
        assert (done.returncode == 0) is is_it, done.stderr
        assert (verdict(image, policy) is None) is is_it


def _bundle(sigstore: OwnSigstore, image: ImageRef) -> bytes:
    return encode(sigstore.sign(statement(str(image.digest)), IDENTITY, ISSUER))
