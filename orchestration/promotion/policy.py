"""A policy: one YAML file per target that says what is promoted where, and what a version must prove."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestration.promotion.cron import cron_fault, zone_fault
from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.public_keys import key_fault, same_key
from orchestration.promotion.slo_sources import unreadable

_DURATION = re.compile(r"(?:(?P<h>[0-9]{1,6})h)?(?:(?P<m>[0-9]{1,6})m)?(?:(?P<s>[0-9]{1,9})s)?")
_LONGEST = 30 * 24 * 3600.0
"""Seconds. A longer wait is a typing error: nobody holds a promotion open for more than a month."""
_POLICY_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def parse_duration(text: str) -> float:
    """Read a duration such as `90s`, `10m` or `1h30m`, in seconds.

    Raises:
        ValueError: the text does not have that form, or the duration is zero.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"expected a duration such as 90s, 10m or 1h30m, found {text!r}")
    hours, minutes, seconds = (int(match[unit] or 0) for unit in "hms")
    total = hours * 3600 + minutes * 60 + seconds
    if total == 0:
        raise ValueError("expected a duration above zero")
    return float(total)


def _duration_to_seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _is_repository(value: str) -> str:
    if "/" not in value or parse_image(value) != ImageRef(value):
        raise ValueError(f"expected a repository such as ghcr.io/team/model, without tag or digest, found {value!r}")
    return value


def _is_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a bracket without its pair, or a port that is not one
        usable = False
    if not usable or re.search(r"[\s@]", value):
        raise ValueError(f"expected an address such as http://host:8080, without credentials, found {_shown(value)}")
    return value


def _shown(address: str) -> str:
    return "one with credentials" if "@" in address else repr(address)


def _is_readable(fault: Callable[[str], str | None]) -> AfterValidator:
    """Refuse a text with what `fault` says about it."""

    def check(value: str) -> str:
        if found := fault(value):
            raise ValueError(found)
        return value

    return AfterValidator(check)


Seconds = Annotated[float, BeforeValidator(_duration_to_seconds), Field(gt=0, le=_LONGEST, strict=True)]
# A bound must be written as a finite number: NaN would refuse nothing, and `true` is not 1.
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
# Stricter than MLflow's rule for aliases; a policy also refuses `latest` and `v1`, which mean something else to MLflow.
Alias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,254}$")]
# Kubernetes object names (RFC 1123 subdomain): no name from a file gets into a path or a query unchecked.
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImagePolicy(_Part):
    """The one image repository that this policy deploys from, and how long to wait for an image to be published."""

    repository: Annotated[str, AfterValidator(_is_repository)]
    deadline: Seconds = 600.0


class ManifestTarget(_Part):
    """The scalar that a promotion edits: a container's image in a raw manifest, or a YAML path in any other file."""

    path: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")] = "Deployment"
    namespace: ObjectName
    name: ObjectName
    container: ObjectName
    yaml_path: Annotated[str, Field(min_length=1)] | None = None
    """In Kustomize or Helm files, where the image is, such as `images[name=iris].newTag`."""

    @model_validator(mode="after")
    def _path_stays_in_repository(self) -> Self:
        parts = self.path.split("/")
        if any(part in ("", ".", "..", ".git") for part in parts) or "\\" in self.path or not self.path.isprintable():
            raise ValueError(f"path must be relative and stay in the repository, found {self.path!r}")
        return self


class ArgoTarget(_Part):
    """The Argo CD Application that rolls the manifest out."""

    application: ObjectName
    namespace: ObjectName = "argocd"


class Bounded(_Part):
    """A measured value's bound: exactly one of `at_least` (higher is better) and `at_most` (lower is better)."""

    at_least: Number | None = None
    at_most: Number | None = None

    @property
    def subject(self) -> str:
        """Whose bound it is, for messages."""
        raise NotImplementedError

    @property
    def higher_is_better(self) -> bool:
        """Whether the bound is `at_least`."""
        return self.at_least is not None

    @property
    def sign(self) -> Literal[">=", "<="]:
        """How a value that keeps the bound compares with it."""
        return ">=" if self.higher_is_better else "<="

    @property
    def bound(self) -> str:
        """The bound in symbols, such as `>= 0.85`."""
        return f"{self.sign} {self.at_least if self.at_least is not None else self.at_most:g}"

    def is_kept_by(self, value: float) -> bool:
        """Whether a value keeps the bound: a value on the bound does, NaN never does."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.subject} needs exactly one of at_least and at_most")
        return self


class QualityBound(Bounded):
    """One training metric: an absolute bound, and how much worse than the champion it may be."""

    metric: Annotated[str, Field(min_length=1)]
    no_worse_than_champion_by: Annotated[Number, Field(ge=0)] | None = None

    @property
    def subject(self) -> str:
        """The metric, for messages."""
        return f"metric {self.metric!r}"


class RolloutPolicy(_Part):
    """How long a rollout may take."""

    deadline: Seconds = 300.0


class Slo(Bounded):
    """One service level objective: a PromQL query, or a source that needs none, and the bound that its value must keep.

    In a query, `$pods` becomes a regular expression that matches the new pods' names, `$window` the soak so far
    (`45s`), `$namespace` the target's namespace, and `$source` a regular expression for the traffic to judge. That is
    `real` as soon as real requests alone meet `min_requests`, and `real|replayed` before (never with
    `traffic: real_only`): replayed requests can stand in for missing traffic but never dilute the errors of real
    traffic (design rule 5).
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    query: Annotated[str, Field(min_length=1)] | None = None
    from_: Annotated[str | None, Field(alias="from")] = None
    """A source in `slo_sources.SLO_SOURCES` that offers a value of the SLO's name."""
    min_requests: Count = 0

    @property
    def subject(self) -> str:
        """The SLO, for messages."""
        return f"SLO {self.name!r}"

    @property
    def needs_scrapes(self) -> bool:
        """Whether its value comes from Prometheus, so that it is only as good as the scrapes it is based on."""
        return self.query is not None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.query is None) == (self.from_ is None):
            raise ValueError(f"{self.subject} needs exactly one of query and from")
        if self.from_ is not None and (reason := unreadable(self.from_, self.name)):
            raise ValueError(f"{self.subject}: {reason}")
        return self


class GatePolicy(_Part):
    """What the new pods must prove, and how long the gate watches them; durations are in seconds."""

    soak: Seconds = 120.0
    every: Seconds = 15.0
    judge_within: Seconds = 600.0
    when_unjudged: Literal["hold", "roll_back"] = "hold"
    traffic: Literal["replayed_ok", "real_only"] = "replayed_ok"
    min_samples: Annotated[Count, Field(ge=1)] = 3
    """How many scrapes of each new pod a soak needs before anything is judged."""
    requests: str
    """The query that counts the requests that the new pods answered; `$source` becomes `real` or `replayed`."""
    slos: Annotated[tuple[Slo, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.judge_within < self.soak:
            raise ValueError(f"judge_within ({self.judge_within:g} s) is shorter than soak ({self.soak:g} s)")
        if self.every > self.soak:
            raise ValueError(f"every ({self.every:g} s) is longer than soak ({self.soak:g} s)")
        if "$source" not in self.requests:
            raise ValueError('requests must select by source=~"$source", so that replayed requests are counted apart')
        names = [slo.name for slo in self.slos]
        if len(set(names)) != len(names):
            raise ValueError(f"each SLO needs a name of its own, found {', '.join(names)}")
        return self


class Approver(_Part):
    """Someone whose approval counts: a name or e-mail address, and the public key that signs for it."""

    name: Annotated[str, Field(pattern=r"^\S(.*\S)?$", max_length=200)]
    key: Annotated[str, AfterValidator(str.strip), _is_readable(key_fault)] | None = None
    """A line of OpenSSH (`ssh-ed25519 AAAA...`) or an armored PGP public key."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class ApprovalPolicy(_Part):
    """Whose approval a version needs before it is committed."""

    by: Annotated[tuple[Approver, ...], Field(min_length=1)]
    count: Annotated[Count, Field(ge=1)] = 1
    """How many of them must approve."""
    signed: Annotated[bool, Field(strict=True)] = False
    """Whether an approval must be signed with the approver's key; otherwise a tag's word is taken for who made it."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.count > len(self.by):
            raise ValueError(f"count ({self.count}) is more than the approvers in by ({len(self.by)})")
        names = [approver.name.casefold() for approver in self.by]
        if len(set(names)) != len(names):
            raise ValueError(f"each approver counts once, found {', '.join(approver.name for approver in self.by)}")
        for approver in self.by:
            if self.signed != (approver.key is not None):
                raise ValueError(f"approver {approver.name}: a key is needed with signed: true, and is no use without")
        keys = [approver.key for approver in self.by if approver.key is not None]
        if any(same_key(key, other) for at, key in enumerate(keys) for other in keys[:at]):
            raise ValueError("each approver needs a key of their own, found the same key twice")
        return self


class FreezeWindow(_Part):
    """A time in which nothing is committed: it begins when `cron` says, and lasts `for`."""

    cron: Annotated[str, _is_readable(cron_fault)]
    for_: Annotated[Seconds, Field(alias="for")]
    timezone: Annotated[str, _is_readable(zone_fault)] = "UTC"
    reason: Annotated[str, Field(min_length=1)]


class Policy(_Part):
    """What is promoted where, and what it must prove. The file's name is the policy's name."""

    name: Annotated[str, Field(pattern=_POLICY_NAME.pattern)]
    model: Annotated[str, Field(pattern=r"^[^/:\n\r\t]{1,250}$")]
    challenger_alias: Alias = "challenger"
    champion_alias: Alias = "champion"
    image: ImagePolicy
    manifest: ManifestTarget
    argocd: ArgoTarget
    cluster: Annotated[str, Field(min_length=1)]
    service_url: Annotated[str, AfterValidator(_is_address)]
    quality: Annotated[tuple[QualityBound, ...], Field(min_length=1)]
    rollout: RolloutPolicy = RolloutPolicy()
    gate: GatePolicy
    approval: ApprovalPolicy | None = None
    freeze: tuple[FreezeWindow, ...] = ()

    @model_validator(mode="after")
    def _aliases_differ(self) -> Self:
        if self.challenger_alias == self.champion_alias:
            raise ValueError("challenger_alias and champion_alias must differ")
        for alias in (self.challenger_alias, self.champion_alias):
            if re.fullmatch(r"latest|v[0-9]+", alias, re.IGNORECASE):
                raise ValueError(f"alias {alias!r} is reserved by MLflow")
        return self


def require_policy_name(name: str) -> None:
    """Refuse what cannot be the name of a policy.

    Raises:
        InvalidInputError: it is not a name.
    """
    if not _POLICY_NAME.fullmatch(name):
        expected = "a name of lower-case letters, digits and dashes, 63 at most"
        raise InvalidInputError(Problem("the policy's name", expected, repr(name), "Name it otherwise with --policy."))


def parse_policy(name: str, text: str) -> Policy:
    """Read a policy from its file.

    Args:
        name: the file's name without `.yaml`, which is the policy's name.
        text: the file's content.

    Raises:
        InvalidInputError: the name or the text is not a policy's; the problem names every wrong field.
    """

    def refuse(found: str) -> InvalidInputError:
        return InvalidInputError(
            Problem(f"policy {name}", "a policy as docs/policies.md describes it", found, f"Correct {name}.yaml.")
        )

    if not _POLICY_NAME.fullmatch(name):
        raise refuse("a file name that is not made of lower-case letters, digits and dashes (63 at most)")
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = 30
        raw: Any = yaml.load(text)
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:  # 2001-99-99 is a ValueError
        raise refuse(f"YAML that cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(raw, dict):
        raise refuse("a file that is not a YAML mapping")
    if "name" in raw:
        raise refuse("a field 'name': the file's name is the policy's name")
    try:
        return Policy.model_validate({**raw, "name": name})
    except ValidationError as error:
        raise refuse("; ".join(field_faults(error, "policy"))) from error
