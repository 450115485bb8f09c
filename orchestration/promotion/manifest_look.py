"""Whether what a promotion would commit is valid and would be applied: asked of the API server before the commit."""

from orchestration.promotion.json_reading import Json, mapping_at, text_of
from orchestration.promotion.looks import Look, fits, noted, refused
from orchestration.promotion.manifest_schema import faults, schema_name
from orchestration.promotion.policy import Policy
from orchestration.promotion.problems import Problem
from orchestration.promotion.redact import redact
from orchestration.promotion.workload_kinds import JUDGED

MANIFEST = "manifest"
_MOST_FAULTS = 3


def not_checked(why: str) -> Look:
    """Say why nothing is known of a manifest."""
    return noted(MANIFEST, f"not checked: {why}")


def look_at_trial(policy: Policy, refusal: str | None) -> Look:
    """Judge what the API server says to a dry run: its words, or None when it would apply the manifest."""
    if refusal is None:
        return fits(MANIFEST, f"a dry run of the API server of {policy.cluster} applies it")
    path, expected = policy.manifest.path, f"a manifest that the API server of {policy.cluster} applies"
    next_step = f"Correct {path}, or meet the rule that denies it."
    return refused(MANIFEST, Problem(path, expected, f"in a dry run: {refusal}", next_step))


def look_at_schema(
    policy: Policy,
    document: Json,
    schemas: Json | None,
    *,
    applied: Json | None,
    strict: bool,
    publishes: bool,
    instead: str,
) -> Look:
    """Judge an object by the schema of its kind.

    Args:
        policy: names the file.
        document: the object.
        schemas: those of its API; None when the API server has none of it.
        applied: the object as Argo CD has applied it; None when it is not known to be. What is wrong with it, too, was
            no reason to refuse it: a webhook may have filled in what is missing.
        strict: whether unknown fields are wrong; the API server drops them otherwise.
        publishes: whether the API server publishes schemas at all.
        instead: why there was no dry run, as a clause.
    """
    api, kind, path = text_of(document, "apiVersion") or "", policy.manifest.kind, policy.manifest.path
    name = schema_name(schemas, api, kind) if schemas is not None else None
    usual = f"{JUDGED[kind].group}/{JUDGED[kind].version}"
    if (schemas is None and not publishes) or (name is None and api == usual):
        return not_checked(f"{instead}, and the API server publishes no schema of it")
    if schemas is None or name is None:
        expected = f"an API that the API server of {policy.cluster} has, such as {usual}"
        found = f"apiVersion: {redact(api[:100])}, which has no {kind} there"
        return refused(MANIFEST, Problem(path, expected, found, f"Correct apiVersion in {path}."))
    all_faults = faults(document, schemas, name, strict=strict)
    known = faults(applied, schemas, name, strict=strict) if all_faults and applied is not None else []
    wrong = [fault for fault in all_faults if fault not in known]
    if not wrong:
        valid = f"applied by Argo CD in spite of {redact(known[0])}" if known else "valid"
        unknown = [] if strict else [one for one in faults(document, schemas, name, strict=True) if one not in known]
        dropped = f" but for what is dropped ({redact(unknown[0])})" if unknown else ""
        return fits(MANIFEST, f"{valid} by the schema of {api}{dropped}; {instead}")
    more = f"; and {len(wrong) - _MOST_FAULTS} more" if len(wrong) > _MOST_FAULTS else ""
    found = redact("; ".join(wrong[:_MOST_FAULTS])) + more
    expected = f"a {kind} that is valid by the schema of {api}"
    return refused(MANIFEST, Problem(path, expected, found, f"Correct {path}."))


def as_deployed(policy: Policy, document: Json) -> Json:
    """Return an object under the names that it has in the cluster, which Argo CD and Kustomize give it."""
    names = {"name": policy.manifest.name, "namespace": policy.manifest.namespace}
    return {**document, "metadata": {**mapping_at(document, "metadata"), **names}}
