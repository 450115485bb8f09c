"""Whose key signed a tag, by the fake, and by Git with keys of OpenSSH and GnuPG; programs sign as a person's do."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestration.adapters.signing import signing_with
from orchestration.promotion.acts import Act, ActKind, acts_prefix
from orchestration.promotion.branch_view import acts
from orchestration.promotion.ports import GitOpsRepository, Sign, TagRecord
from orchestration.promotion.problems import DependencyError, InvalidInputError
from orchestration.promotion.public_keys import key_fault
from tests.adapters.git_fixtures import CONTENT, World, serving_world
from tests.fakes.clock import FakeClock
from tests.fakes.git import FakeGitRepository, signing_as

APPROVAL = Act("iris", ActKind.APPROVE, 1_800_000_000.5, "ana", "seen", 7, f"sha256:{'a' * 64}")


@dataclass(frozen=True)
class Signer:
    """Someone with a pair of keys."""

    public: str
    sign: Sign


@dataclass(frozen=True)
class Scene:
    """A repository, and a way to give people keys."""

    repository: GitOpsRepository
    new_signer: Callable[[str], Signer]
    put: Callable[[str, TagRecord], None]
    """Puts a ref of that name on an existing tag object."""

    def tags(self) -> tuple[TagRecord, ...]:
        return self.repository.tags_below(acts_prefix("iris"))


@contextmanager
def _fake() -> Iterator[Scene]:
    git = FakeGitRepository(FakeClock(1_800_000_000.0), CONTENT)

    def put(name: str, tag: TagRecord) -> None:
        git.tags[name] = replace(tag, name=name)
        git.signatures[name] = git.signatures[tag.name]

    def new_signer(name: str) -> Signer:
        return Signer(f"ssh-ed25519 {name}", signing_as(f"ssh-ed25519 {name}"))

    yield Scene(git, new_signer, put)


@contextmanager
def _real(folder: Path, new_signer: Callable[[str], Signer]) -> Iterator[Scene]:
    with serving_world(folder) as world:
        yield Scene(world.repository(), new_signer, lambda name, tag: _put(world, name, tag))


def _put(world: World, name: str, tag: TagRecord) -> None:
    world.git("update-ref", f"refs/tags/{name}", tag.object_id)


def ssh_signer(folder: Path, name: str) -> Signer:
    file = folder / f"key of {name}"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True)
    return Signer(file.with_name(f"{file.name}.pub").read_text(), signing_with(str(file)))


def gpg(*arguments: str) -> str:
    command = ["gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def gpg_signer(name: str) -> Signer:
    gpg("--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never")
    return Signer(gpg("--armor", "--export", f"{name}@example.org"), signing_with(f"{name}@example.org"))


@pytest.fixture
def gpg_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A person's keyring; its path is short, because the agent's socket is in it."""
    with tempfile.TemporaryDirectory(prefix="gpg", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("GNUPGHOME", folder)
        yield Path(folder)
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=True)


@pytest.fixture(
    params=["fake", pytest.param("ssh", marks=pytest.mark.platform), pytest.param("gpg", marks=pytest.mark.platform)]
)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "fake":
        opened = _fake()
    elif request.param == "ssh":
        opened = _real(tmp_path, lambda name: ssh_signer(tmp_path, name))
    else:
        request.getfixturevalue("gpg_home")
        opened = _real(tmp_path, gpg_signer)
    with opened as made:
        yield made


def test_a_signature_of_a_given_key_is_found(scene: Scene) -> None:
    """The key's name is returned for its tag; other keys, and tags without a signature, have none."""
    ana, ben, eve = (scene.new_signer(name) for name in ("ana", "ben", "eve"))
    signed = scene.repository.record_act(APPROVAL, ana.sign)
    scene.repository.record_act(replace(APPROVAL, at=APPROVAL.at + 1))
    scene.repository.record_act(replace(APPROVAL, at=APPROVAL.at + 2), eve.sign)
    keys = {"ben": ben.public, "ana": ana.public}
    assert scene.repository.signers(scene.tags(), keys) == {signed.tag: "ana"}
    assert scene.repository.signers(scene.tags(), {}) == {}
    read = {act.tag: act for act in acts(scene.repository, "iris")}
    assert read[signed.tag] == signed, "the signature is no part of the reason"


def test_a_signature_counts_for_one_tag(scene: Scene) -> None:
    """Whoever can push may put another version's name on a signed tag; that name is not signed."""
    ana = scene.new_signer("ana")
    signed = scene.repository.record_act(APPROVAL, ana.sign)
    (tag,) = scene.tags()
    scene.put(replace(APPROVAL, version=8).tag, tag)
    assert len(scene.tags()) == 2
    assert scene.repository.signers(scene.tags(), {"ana": ana.public}) == {signed.tag: "ana"}


def test_an_act_that_is_moved_on_is_signed_under_its_own_name(scene: Scene) -> None:
    """Two approvals in the same millisecond both count."""
    ana, ben = scene.new_signer("ana"), scene.new_signer("ben")
    first = scene.repository.record_act(APPROVAL, ana.sign)
    second = scene.repository.record_act(replace(APPROVAL, by="ben"), ben.sign)
    keys = {"ana": ana.public, "ben": ben.public}
    assert scene.repository.signers(scene.tags(), keys) == {first.tag: "ana", second.tag: "ben"}


@pytest.mark.platform
def test_a_key_that_only_this_machine_trusts_signs_for_nobody(tmp_path: Path, gpg_home: Path) -> None:
    """A signature in PGP's form never stands for an OpenSSH key, or for another PGP key, whatever the keyring holds."""
    eve, ana, ben = gpg_signer("eve"), ssh_signer(tmp_path, "ana"), gpg_signer("ben")
    with _real(tmp_path, gpg_signer) as scene:
        scene.repository.record_act(APPROVAL, eve.sign)
        scene.repository.record_act(replace(APPROVAL, at=APPROVAL.at + 1), ana.sign)
        assert list(scene.repository.signers(scene.tags(), {"ben": ben.public})) == []
        signed_by_ana = scene.repository.signers(scene.tags(), {"ana": ana.public})
        assert list(signed_by_ana.values()) == ["ana"]


@pytest.mark.platform
def test_a_changed_message_has_no_signer(tmp_path: Path) -> None:
    """A signature under another digest is worth nothing."""
    ana = ssh_signer(tmp_path, "ana")
    with serving_world(tmp_path) as world:
        repository = world.repository()
        signed = repository.record_act(APPROVAL, ana.sign)
        content = world.git("cat-file", "tag", signed.tag).replace("a" * 64, "b" * 64) + "\n"
        forged = world.git("hash-object", "-t", "tag", "-w", "--stdin", stdin=content.encode())
        world.git("update-ref", f"refs/tags/{signed.tag}", forged)
        (read,) = acts(repository, "iris")
        assert read.digest == f"sha256:{'b' * 64}"
        assert repository.signers(repository.tags_below(acts_prefix("iris")), {"ana": ana.public}) == {}


@pytest.mark.platform
@pytest.mark.parametrize("form", ["ssh", "openpgp"])
def test_a_tag_that_git_itself_signed_counts(tmp_path: Path, gpg_home: Path, form: str) -> None:
    """The documented lines need nothing of ours: `git tag -s` with a message of trailers, and a push."""
    signer = ssh_signer(tmp_path, "ana") if form == "ssh" else gpg_signer("ana")
    key = str(tmp_path / "key of ana") if form == "ssh" else "ana@example.org"
    with serving_world(tmp_path) as world:
        name = "incumbent/iris/acts/20261126T100501.000Z-approve-7"
        message = f"approve\n\nVersion: 7\nImage-Digest: sha256:{'a' * 64}\nBy: ana\nReason: seen"
        person = ("user.name=ana", "user.email=ana@example.org", f"gpg.format={form}", f"user.signingKey={key}")
        settings = [part for setting in person for part in ("-c", setting)]
        command = ["git", "-C", str(world.bare), *settings, "tag", "-s", name, "refs/heads/main", "-m", message]
        subprocess.run(command, check=True)
        repository = world.repository()
        (act,) = acts(repository, "iris")
        assert (act.by, act.reason, act.version, act.digest) == ("ana", "seen", 7, f"sha256:{'a' * 64}")
        tags = repository.tags_below(acts_prefix("iris"))
        assert repository.signers(tags, {"ana": signer.public}) == {name: "ana"}


@pytest.mark.platform
def test_real_public_keys_have_the_form_that_a_policy_asks_for(tmp_path: Path, gpg_home: Path) -> None:
    """Those of OpenSSH with their comment, and those that gpg exports."""
    for kind in ("ed25519", "rsa", "ecdsa"):
        file = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(file)], check=True)
        assert key_fault(file.with_suffix(".pub").read_text().strip()) is None
        assert "private" in str(key_fault(file.read_text()))
    assert key_fault(gpg_signer("ana").public.strip()) is None


@pytest.mark.platform
def test_a_key_that_cannot_sign_or_be_read_is_named(tmp_path: Path, gpg_home: Path) -> None:
    """A file that is no key, an unknown id, and a damaged PGP key each give a problem with a next step."""
    (tmp_path / "notes").write_text("hello\n")
    for key in (str(tmp_path / "notes"), "nobody@example.org"):
        with pytest.raises(InvalidInputError, match="a signature made with it"):
            signing_with(key)(b"content")
    damaged = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\naGVsbG8=\n-----END PGP PUBLIC KEY BLOCK-----"
    with serving_world(tmp_path) as world:
        repository = world.repository()
        repository.record_act(APPROVAL)
        with pytest.raises(InvalidInputError, match="the key of approver ana"):
            repository.signers(repository.tags_below(acts_prefix("iris")), {"ana": damaged})


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can check signatures, that is said, and nobody's approval is doubted."""
    with serving_world(tmp_path) as world:
        repository = world.repository()
        repository.record_act(APPROVAL)
        monkeypatch.setattr(shutil, "which", lambda program: None)
        with pytest.raises(DependencyError, match="Install OpenSSH's client"):
            repository.signers(repository.tags_below(acts_prefix("iris")), {"ana": "ssh-ed25519 AAAA"})
