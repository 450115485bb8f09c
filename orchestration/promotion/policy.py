"""A policy: one YAML file per target that says what is promoted where, and what a version must prove."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Literal, Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from orchestration.promotion.cron import cron_fault, zone_fault
from orchestration.promotion.deployed import IMAGE, Slot, parse_address
from orchestration.promotion.duration_fields import Seconds
from orchestration.promotion.field_faults import field_faults
from orchestration.promotion.git_names import BRANCH_NAME, USER_NAME, is_branch_name, is_username
from orchestration.promotion.http_headers import UNSENDABLE
from orchestration.promotion.images import ImageRef, parse_image
from orchestration.promotion.json_paths import checked_path
from orchestration.promotion.metrics_presets import HIGHER_IS_BETTER, OF_NO_POD, PRESETS, SUCCESS_RATIO, fill_in
from orchestration.promotion.placeholders import placeholder_fault
from orchestration.promotion.problems import InvalidInputError, Problem
from orchestration.promotion.public_keys import image_key_fault, is_pem, key_fault, padding_fault, same_key
from orchestration.promotion.pull_requests import MergeMethod
from orchestration.promotion.served_quality import METRICS
from orchestration.promotion.serving_protocols import PROTOCOLS, ProtocolName
from orchestration.promotion.slo_sources import unreadable
from orchestration.promotion.workload_kinds import WITH_STORAGE_URI, kind_fault
from orchestration.promotion.yaml_mapping import read_yaml_mapping

_LONGEST_ANSWER = 30.0
"""Seconds. A promotion's lease, which is renewed between two requests, then has 30 s left."""
_POLICY_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


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
    if not usable or re.search(r"[\s@#]", value):
        raise ValueError(f"expected an address such as http://host:8080, without credentials, found {_shown(value)}")
    return value


def _is_api(value: str) -> str:
    if "?" in _is_address(value):  # what is asked comes after it
        raise ValueError(f"expected an address such as https://host/api/v1, without a query, found {value!r}")
    return value


def _is_request_path(value: str) -> str:
    path = value.partition("?")[0]
    if not value.startswith("/") or re.search(r"[\s#\\]", value) or not value.isprintable():
        raise ValueError(f"expected a path such as /predict, with a query if it needs one, found {value!r}")
    if {".", ".."} & set(unquote(path).split("/")):  # it would be another path of the API server
        raise ValueError(f"expected a path without . and .., found {value!r}")
    if "%2f" in path.lower():  # which the API server passes on as a slash
        raise ValueError(f"expected a path without an escaped slash, found {value!r}")
    return value


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_KEPT_POLICIES = 4096
"""Reading one takes 10 to 20 ms, and a sensor reads all of them at each tick."""
_SECRET_HEADERS = frozenset(("authorization", "proxy-authorization", "cookie"))


def _is_port(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535
    # A port's name in Kubernetes (an IANA service name) has a letter.
    named = isinstance(value, str) and re.fullmatch(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", value)
    if value is not None and not number and not named:
        raise ValueError(f"expected a number from 1 to 65535 or a port's name such as http, found {value!r}")
    return value


def _are_headers(headers: object) -> object:
    if not isinstance(headers, dict):
        return headers
    for name, value in headers.items():
        usable = isinstance(name, str) and _HEADER_NAME.fullmatch(name)
        if not usable or name.lower() in UNSENDABLE or name.lower().startswith("x-incumbent-"):
            raise ValueError(f"expected names of headers that are not set otherwise, found {name!r}")
        of_file = (
            isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str) and value["file"]
        )
        if not isinstance(value, str) and not of_file:
            raise ValueError(f"expected a text in quotes or {{file: PATH}} as the value of header {name}")
        if isinstance(value, str) and not re.fullmatch(r"[\x20-\x7e]+", value):
            raise ValueError(f"expected a printable ASCII value of header {name}")
        if isinstance(value, str) and name.lower() in _SECRET_HEADERS:
            raise ValueError(f"header {name} is a secret: keep it in a file, {{file: PATH}}")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError(f"each header once, whatever its case, found {', '.join(headers)}")
    return headers


def _is_prefix(value: str) -> str:
    # A name such as models:/iris/7 is resolved to the place of the artifacts before that is compared.
    if not value.endswith("/") or parse_address(value) is None or value.startswith(("models:", "runs:")):
        raise ValueError(f"expected the beginning of an address, such as s3://acme-models/iris/, found {_shown(value)}")
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


def _is(usable: Callable[[str], bool], what: str) -> AfterValidator:
    """Refuse a text that is not usable as `what`."""
    return _is_readable(lambda value: None if usable(value) else f"expected {what}, found {value!r}")


def _object_name_fault(name: str) -> str | None:
    if re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name):
        return None
    return f"expected a name of lower-case letters, digits, - and ., found {name!r}"


def _metric_fault(name: str) -> str | None:
    return None if name in METRICS else f"expected one of {', '.join(METRICS)}, found {name!r}"


def _is_table(value: str) -> str:
    """An address, or the path of an artifact."""
    if "://" in value:
        return _is_address(value)
    if not value or value.startswith("/") or {"", ".", ".."} & set(value.split("/")) or not value.isprintable():
        raise ValueError(f"expected an address such as https://host/rows.csv or an artifact's path, found {value!r}")
    return value


def _preset_fault(name: str) -> str | None:
    if name in PRESETS:
        return None
    why = f"; {OF_NO_POD[name]}" if name in OF_NO_POD else ""
    return f"expected one of {', '.join(PRESETS)}, found {name!r}{why}"


def _is_margin(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?%", value):
        raise ValueError(f"expected a percentage such as 10%, or a number in the SLO's unit, found {value!r}")
    return value


# A bound must be written as a finite number: NaN would refuse nothing, and `true` is not 1.
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
# Stricter than MLflow's rule for aliases; a policy also refuses `latest` and `v1`, which mean something else to MLflow.
Alias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,254}$")]
# Kubernetes object names (RFC 1123 subdomain): no name from a file gets into a path or a query unchecked.
ObjectName = Annotated[str, _is_readable(_object_name_fault)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImagePolicy(_Part):
    """The one image repository that this policy deploys from, and how long to wait for an image to be published."""

    repository: Annotated[str, AfterValidator(_is_repository)]
    deadline: Seconds = 600.0


class CosignPolicy(_Part):
    """Who signs this policy's images with cosign: a key pair, or an identity that Sigstore certified."""

    key: Annotated[str, Field(min_length=1), _is_readable(image_key_fault)] | None = None
    """The file with its public key, or that key in PEM."""
    identity: Annotated[str, Field(min_length=1), _is_readable(padding_fault)] | None = None
    """An e-mail address, or the address of a workflow."""
    issuer: Annotated[str, Field(min_length=1), _is_readable(padding_fault)] | None = None
    """The address of the OpenID Connect provider that vouches for the identity."""
    trusted_root: Annotated[str, Field(min_length=1), _is_readable(padding_fault)] | None = None
    """The file that says which Sigstore is trusted; None means the public one."""

    @model_validator(mode="after")
    def _one_signer(self) -> Self:
        if (self.identity is None) != (self.issuer is None):
            raise ValueError("identity and issuer need each other: another provider may know the same name")
        if (self.key is None) == (self.identity is None):
            raise ValueError("expected either key, or identity and issuer")
        if self.trusted_root is not None and self.identity is None:
            raise ValueError("trusted_root is for an identity; a key is trusted by itself")
        return self

    @property
    def signer(self) -> str:
        """Who must have signed, in words."""
        if self.key is None:
            return f"{self.identity} (issuer {self.issuer})"
        return "the key in the policy" if is_pem(self.key) else f"the key {self.key}"


class SignaturePolicy(_Part):
    """The signature that an image must have before it is committed."""

    cosign: CosignPolicy


class ManifestTarget(_Part):
    """The scalar that a promotion edits: a container's image in a raw manifest, or a YAML path in any other file.

    Of a policy that deploys addresses, it is a variable or an argument of the container, or a `storageUri`.
    """

    path: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, _is_readable(kind_fault)] = "Deployment"
    namespace: ObjectName
    name: ObjectName
    container: ObjectName
    yaml_path: Annotated[str, Field(min_length=1)] | None = None
    """In Kustomize or Helm files, where the image is, such as `images[name=iris].newTag`."""
    variable: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None = None
    """The variable in the container's `env` that holds the model's address."""
    argument: Annotated[str, Field(pattern=r"^--?[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")] | None = None
    """The argument that does, such as `--model-uri`: with `=` and the address, or followed by it."""
    storage_uri: Annotated[bool, Field(strict=True)] = False
    """Whether it is the `storageUri` of an InferenceService's predictor."""

    @property
    def address_fields(self) -> tuple[str, ...]:
        """Those of the fields that say where an address is."""
        stated = {"variable": self.variable, "argument": self.argument, "storage_uri": self.storage_uri}
        return tuple(name for name, value in stated.items() if value)

    @model_validator(mode="after")
    def _path_stays_in_repository(self) -> Self:
        parts = self.path.split("/")
        if any(part in ("", ".", "..", ".git") for part in parts) or "\\" in self.path or not self.path.isprintable():
            raise ValueError(f"path must be relative and stay in the repository, found {self.path!r}")
        return self


class GitTarget(_Part):
    """The policy's own GitOps repository; what it does not state is as the settings have it."""

    url: Annotated[str, Field(min_length=1)] | None = None
    branch: Annotated[str, _is(is_branch_name, BRANCH_NAME)] | None = None
    username: Annotated[str, _is(is_username, USER_NAME)] | None = None
    """The user name beside the token; None for the one that the host is known to take."""
    token_file: Annotated[str, Field(min_length=1)] | None = None
    """A file with a token for it; the token of the settings goes to their own host alone."""

    @model_validator(mode="after")
    def _states_something(self) -> Self:
        if self.url is None and self.token_file is not None:
            raise ValueError("token_file needs url: INCUMBENT_GIT_TOKEN_FILE names the token of INCUMBENT_GIT_URL")
        if self.username is not None and self.token_file is None:
            raise ValueError("username needs token_file: INCUMBENT_GIT_USERNAME is the one of the settings' token")
        if self.url is None and self.branch is None:
            raise ValueError("expected url, branch or both")
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


class HeaderFile(_Part):
    """A file that holds a header's value, which is read whenever it is sent and never shown."""

    file: Annotated[str, Field(min_length=1)]


class ServicePolicy(_Part):
    """Where the model is asked, and how."""

    url: Annotated[str, AfterValidator(_is_address)]
    """Where clients reach the model; without a path, requests go to `path` there, too."""
    path: Annotated[str, AfterValidator(_is_request_path)] | None = None
    port: Annotated[str | int | None, BeforeValidator(_is_port)] = None
    """The name or the number of the port at which pods are asked."""
    headers: Annotated[dict[str, str | HeaderFile], BeforeValidator(_are_headers)] = {}
    timeout: Annotated[Seconds, Field(le=_LONGEST_ANSWER)] = 10.0
    protocol: ProtocolName = "mlflow"

    @property
    def url_path(self) -> str:
        """The path and query in the address; empty when it has none."""
        parts = urlsplit(self.url)
        path = parts.path if parts.path != "/" else ""
        return f"{path or '/'}?{parts.query}" if parts.query else path

    def pod_path(self, model: str) -> str:
        """The path, with its query, that requests to a pod go to; whatever an address must not have is escaped."""
        path = self.path or self.url_path or PROTOCOLS[self.protocol].path_for(model)
        return quote(path, safe="/%:?@!$&'()*+,;=~[]")

    def address(self, model: str) -> str:
        """The whole address that requests to the service go to."""
        if self.url_path:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, "", "", "")) + self.pod_path(model)

    @model_validator(mode="before")
    @classmethod
    def _url_alone(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _path_is_known(self) -> Self:
        _is_request_path(self.url_path or "/")
        if not self.path and not self.url_path and not PROTOCOLS[self.protocol].path:
            raise ValueError(f"protocol {self.protocol} has no path of its own, so path must say where requests go")
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

    In a query, `$pods` becomes a regular expression that matches the new pods' names, `$window` the time to look back
    (`45s`), `$namespace` the target's namespace, and `$source` a regular expression for the traffic to judge. That is
    `real` as soon as real requests alone meet `min_requests`, and `real|replayed` before (never with
    `traffic: real_only`): replayed requests can stand in for missing traffic but never dilute the errors of real
    traffic (design rule 5). Without `$source`, `$window` tells them apart: recorded requests are sent before the window
    of real traffic and after it, and `$window` reaches back over them only where they stand in.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    query: Annotated[str, Field(min_length=1), _is_readable(placeholder_fault)] | None = None
    from_: Annotated[str | None, Field(alias="from")] = None
    """A source in `slo_sources.SLO_SOURCES` that offers a value of the SLO's name."""
    min_requests: Count = 0
    no_worse_than_live: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] | str | None, BeforeValidator(_is_margin)
    ] = None
    """How much worse than the pods that served before: a percentage of their value (`10%`), or a number."""

    @property
    def subject(self) -> str:
        """The SLO, for messages."""
        return f"SLO {self.name!r}"

    @property
    def higher_is_better(self) -> bool:
        """Whether the bound is `at_least`; without an absolute bound, the SLO's name says so."""
        if self.at_least is None and self.at_most is None:
            return HIGHER_IS_BETTER[self.name]
        return self.at_least is not None

    @property
    def bound(self) -> str:
        """The bounds in symbols and words, such as `<= 0.5, and at most 10% worse than before`."""
        bounds = [super().bound] if self.at_least is not None or self.at_most is not None else []
        if self.no_worse_than_live is not None:
            bounds.append(f"at most {self.no_worse_than_live} worse than before")
        return ", and ".join(bounds)

    def limit(self, live: float | None) -> float | None:
        """The value that is just good enough: the stricter one of the absolute bound and the one relative to `live`.

        Args:
            live: what the pods measured that served before; None when that is not known.

        Returns:
            None when there is neither an absolute bound nor a value to compare with.
        """
        absolute = self.at_least if self.at_least is not None else self.at_most
        if self.no_worse_than_live is None or live is None:
            return absolute
        margin = self.no_worse_than_live
        worse = abs(live) * float(margin[:-1]) / 100 if isinstance(margin, str) else margin
        relative = live - worse if self.higher_is_better else live + worse
        if absolute is None:
            return relative
        return max(absolute, relative) if self.higher_is_better else min(absolute, relative)

    @property
    def counts_replayed(self) -> bool:
        """Whether it is about requests, and takes recorded ones with real ones."""
        is_about_requests = self.min_requests > 0 or self.name in HIGHER_IS_BETTER
        return self.query is not None and "$source" not in self.query and is_about_requests

    @property
    def needs_scrapes(self) -> bool:
        """Whether its value comes from Prometheus, so that it is only as good as the scrapes it is based on."""
        return self.query is not None

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        bounds = [bound for bound in (self.at_least, self.at_most) if bound is not None]
        if len(bounds) == 1 or (not bounds and self.no_worse_than_live is not None and self.name in HIGHER_IS_BETTER):
            return self
        also = f" (only of {' and '.join(HIGHER_IS_BETTER)} the name says which direction is better)"
        raise ValueError(
            f"{self.subject} needs exactly one of at_least and at_most"
            + (also if self.no_worse_than_live is not None and not bounds else "")
        )

    @model_validator(mode="after")
    def _bound_fits_the_name(self) -> Self:
        """Refuse a bound that would pass what is bad, or could never be kept, by what every reader takes a name for."""
        if self.name in HIGHER_IS_BETTER and (self.at_least, self.at_most) != (None, None):
            wanted = "at_least" if HIGHER_IS_BETTER[self.name] else "at_most"
            if getattr(self, wanted) is None:
                raise ValueError(f"{self.subject} needs {wanted}, because of its name")
        if self.name == SUCCESS_RATIO and self.at_least is not None and self.at_least > 1:
            raise ValueError(f"{self.subject} is at most 1, found at_least {self.at_least:g}; 99 % is 0.99")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.query is None) == (self.from_ is None):
            presets = f"; gate.metrics has queries for {' and '.join(HIGHER_IS_BETTER)} alone"
            raise ValueError(f"{self.subject} needs exactly one of query and from{'' if self.query else presets}")
        if self.from_ is not None and (reason := unreadable(self.from_, self.name)):
            raise ValueError(f"{self.subject}: {reason}")
        if self.from_ is not None and self.no_worse_than_live is not None:
            raise ValueError(f"{self.subject}: no_worse_than_live needs a query, because old pods are not counted anew")
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
    wrong_answers: Annotated[Count, Field(ge=1)] = 1
    """How many wrong recorded answers in one round reject the version."""
    job: Annotated[str, Field(pattern=r'^[^"$\\\s]+$')] | None = None
    """The scrape job that the gate believes; None for all that scrape a pod with success."""
    metrics: Annotated[str, _is_readable(_preset_fault)] | None = None
    """A preset of `metrics_presets.PRESETS`, whose queries stand where the policy states none."""
    requests: Annotated[str, Field(min_length=1), _is_readable(placeholder_fault)]
    """The query that counts the requests that the new pods answered."""
    slos: Annotated[tuple[Slo, ...], Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, value: object) -> object:
        return fill_in(value) if isinstance(value, Mapping) else value

    @property
    def tells_replayed(self) -> bool:
        """Whether the counters tell recorded requests from real ones, by the label `source`."""
        return "$source" in self.requests

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.judge_within < self.soak:
            raise ValueError(f"judge_within ({self.judge_within:g} s) is shorter than soak ({self.soak:g} s)")
        if self.every > self.soak:
            raise ValueError(f"every ({self.every:g} s) is longer than soak ({self.soak:g} s)")
        if not self.tells_replayed and self.judge_within <= self.soak + self.every:
            raise ValueError(
                f"judge_within ({self.judge_within:g} s) leaves no time for the recorded requests, which are sent "
                f"before the soak ({self.soak:g} s) because requests does not select by $source"
            )
        if not self.tells_replayed and (by_source := [slo.name for slo in self.slos if "$source" in (slo.query or "")]):
            raise ValueError(f"requests must select by $source as well, because of {', '.join(by_source)}")
        if self.tells_replayed and (diluted := [slo.name for slo in self.slos if slo.counts_replayed]):
            raise ValueError(
                f"{', '.join(diluted)} must select by $source as well, because requests does: otherwise recorded "
                "requests would dilute the errors of real ones"
            )
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


class EvaluationPolicy(_Part):
    """How the served champion is asked about rows whose labels came later."""

    rows: Annotated[str, AfterValidator(_is_table)]
    """The address of a table, or the path of one among the artifacts of the champion's training run."""
    headers: Annotated[dict[str, str | HeaderFile], BeforeValidator(_are_headers)] = {}
    """Sent to the table's address."""
    label: Annotated[str, Field(min_length=1)]
    """The column that says what each prediction should have been."""
    labelled_at: Annotated[str, Field(min_length=1)] | None = None
    """The column that says when each row was labelled."""
    window: Seconds = 7 * 24 * 3600.0
    """How far back rows count; only with `labelled_at`."""
    min_rows: Annotated[Count, Field(ge=1)] = 50
    """How many labelled rows an evaluation needs."""
    metric: Annotated[str, _is_readable(_metric_fault)] | None = None
    """What is measured; None for the first metric of `quality`."""
    prediction: Annotated[str, AfterValidator(checked_path)] | None = None
    """Where an answer has its prediction; None for where the protocol has it."""
    sample: Annotated[str, Field(min_length=1)] | None = None
    """The path of a sample of the training data among the run's artifacts; None for the model's input example."""

    @property
    def has_address(self) -> bool:
        """Whether the rows are at an address, and not in the registry."""
        return self.rows.startswith(("http://", "https://"))


class PullRequestPolicy(_Part):
    """How a commit reaches a branch that nobody may push to: by a pull request that is merged."""

    host: Literal["github", "gitlab", "gitea"]
    """Whose API the repository's host speaks; Forgejo's is Gitea's."""
    api: Annotated[str, AfterValidator(_is_api)] | None = None
    """The API's address; None for the usual one of the repository's host."""
    auto_merge: MergeMethod | None = None
    """How the host merges a request by itself as soon as its rules allow it; None leaves that to people."""
    merge_deadline: Seconds = 7 * 24 * 3600.0
    """How long a request may be open before its version is refused."""
    rollbacks: Literal["push", "pull_request"] = "push"
    """How a promotion that failed is taken back."""


class DeliveryPolicy(_Part):
    """How a promotion's commit reaches the branch: by a push, or by a pull request."""

    pull_request: PullRequestPolicy | None = None

    @model_validator(mode="before")
    @classmethod
    def _push_alone(cls, value: object) -> object:
        if value == "push":
            return {}
        if not isinstance(value, dict) or value.get("pull_request") is None:
            raise ValueError(f"expected push, or pull_request with its host, found {value!r}")
        return value

    @model_serializer(mode="wrap")
    def _as_written(self, write: SerializerFunctionWrapHandler) -> object:
        return "push" if self.pull_request is None else write(self)


class Policy(_Part):
    """What is promoted where, and what it must prove. The file's name is the policy's name."""

    name: Annotated[str, Field(pattern=_POLICY_NAME.pattern)]
    model: Annotated[str, Field(pattern=r"^[^/:\n\r\t]{1,250}$")]
    challenger_alias: Alias = "challenger"
    champion_alias: Alias = "champion"
    deploys: Literal["image", "model_uri"] = "image"
    """What a promotion puts into the manifest: an image of the version's own, or the address of its model."""
    image: ImagePolicy | None = None
    signature: SignaturePolicy | None = None
    model_address: Literal["name", "artifacts"] = "name"
    """Which address: `models:/NAME/VERSION`, or the place of the version's artifacts."""
    artifacts_below: Annotated[str, AfterValidator(_is_prefix)] | None = None
    """Where the artifacts of every version that is deployed must be."""
    git: GitTarget | None = None
    manifest: ManifestTarget
    argocd: ArgoTarget
    cluster: Annotated[str, Field(min_length=1)]
    service: ServicePolicy
    quality: Annotated[tuple[QualityBound, ...], Field(min_length=1)]
    rollout: RolloutPolicy = RolloutPolicy()
    gate: GatePolicy
    approval: ApprovalPolicy | None = None
    freeze: tuple[FreezeWindow, ...] = ()
    on_drift: Literal["notify", "hold", "roll_back"] = "notify"
    """What a drift alert about the champion does, beside telling people."""
    evaluation: EvaluationPolicy | None = None
    delivery: DeliveryPolicy = Field(default_factory=lambda: DeliveryPolicy.model_validate("push"))

    @property
    def evaluated_metric(self) -> str:
        """The metric that is measured of the served champion."""
        own = self.evaluation.metric if self.evaluation is not None else None
        return own or self.quality[0].metric

    @model_validator(mode="after")
    def _can_be_evaluated(self) -> Self:
        if self.evaluation is None:
            return self
        if fault := _metric_fault(self.evaluated_metric):
            raise ValueError(f"evaluation.metric: {fault} (by default it is the first metric of quality)")
        if self.evaluation.prediction is None and not PROTOCOLS[self.service.protocol].predictions:
            raise ValueError(
                f"evaluation needs prediction, a path such as $.prediction, because answers of protocol "
                f"{self.service.protocol} have no fixed place for it"
            )
        return self

    @property
    def longest_on_branch(self) -> float:
        """How many seconds a promotion may take from its commit until it is judged and, if it fails, rolled back."""
        return self.rollout.deadline + self.gate.judge_within + self.rollout.deadline

    @property
    def slot(self) -> Slot:
        """Where the workload has what is deployed."""
        if self.deploys == "image":
            return IMAGE
        if self.manifest.argument is not None:
            return Slot("argument", self.manifest.argument)
        return (
            Slot("storageUri") if self.manifest.storage_uri else Slot("variable", self.manifest.variable or "MODEL_URI")
        )

    @property
    def images(self) -> ImagePolicy:
        """Where the images come from that a policy deploys, which must be one that deploys images."""
        assert self.image is not None, "a policy that deploys images names their repository"
        return self.image

    @model_validator(mode="after")
    def _deploys_one_thing(self) -> Self:
        target = self.manifest
        if self.deploys == "image":
            if self.image is None:
                raise ValueError("image is missing: the repository that images are deployed from")
            stated = {
                "model_address": self.model_address != "name",
                "artifacts_below": self.artifacts_below is not None,
            }
            unused = [
                *(f"manifest.{name}" for name in target.address_fields),
                *(name for name in stated if stated[name]),
            ]
            if unused:
                raise ValueError(f"{', '.join(unused)} would be of no use: they need deploys: model_uri")
            return self
        if self.image is not None:
            raise ValueError("image is for a policy that deploys images, and this one deploys: model_uri")
        if target.yaml_path is not None:
            raise ValueError(
                "manifest.yaml_path is for images alone: an address is edited in the workload's own manifest, in a "
                "variable, an argument or a storageUri, and not in values of Helm"
            )
        if len(target.address_fields) > 1:
            raise ValueError(f"an address stands in one place, found {' and '.join(target.address_fields)}")
        if target.storage_uri and target.kind != WITH_STORAGE_URI:
            raise ValueError(f"storage_uri is a field of kind {WITH_STORAGE_URI}, found kind {target.kind}")
        if self.model_address == "artifacts" and self.artifacts_below is None:
            raise ValueError("model_address: artifacts needs artifacts_below, because a registry's word is not enough")
        if parse_address(f"models:/{self.model}/1") is None:
            raise ValueError(f"the name of model {self.model!r} has characters that no address may have")
        return self

    @property
    def has_own_repository(self) -> bool:
        """Whether the policy names the address of its GitOps repository, and so needs none from the settings."""
        return self.git is not None and self.git.url is not None

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


def git_target(stated: Mapping[str, str | None]) -> GitTarget | None:
    """Return the repository that the options of a command describe; None when they state nothing.

    Args:
        stated: Each field of `GitTarget`, empty or None where it is not stated.

    Raises:
        InvalidInputError: they contradict one another, or one cannot be used.
    """
    known = {name: value for name, value in stated.items() if value}
    if not known:
        return None
    try:
        return GitTarget.model_validate(known)
    except ValidationError as error:
        found, expected = "; ".join(field_faults(error, "together")), "a repository of the policy's own"
        raise InvalidInputError(Problem("the options --git-...", expected, found, "Correct them.")) from error


@lru_cache(maxsize=_KEPT_POLICIES)
def parse_policy(name: str, text: str) -> Policy:
    """Read a policy from its file; a text that was read before costs nothing.

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
        raw = read_yaml_mapping(text)
    except ValueError as error:
        raise refuse(str(error)) from error
    if "service_url" in raw:
        raise refuse("a field 'service_url', which is now service: {url: ..., protocol: features}")
    if "name" in raw:
        raise refuse("a field 'name': the file's name is the policy's name")
    try:
        return Policy.model_validate({**raw, "name": name})
    except ValidationError as error:
        raise refuse("; ".join(field_faults(error, "policy"))) from error
