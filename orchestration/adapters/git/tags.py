"""Tags below a prefix, fetched as a whole, and new ones that nobody has to hold a lease for."""

from orchestration.adapters.git.access import Access
from orchestration.adapters.git.objects import Person, write_tag
from orchestration.adapters.git.push import ATTEMPTS, Applied, RefUpdate, Refused, pause_after_failure, push
from orchestration.adapters.git.remote import is_useless_to_repeat
from orchestration.adapters.git.rules import next_step
from orchestration.promotion.ports import Clock, Sign, TagRecord
from orchestration.promotion.problems import DependencyError, Problem

_KEPT = "refs/incumbent/tags/"
_MESSAGE = "%(contents:subject)%0a%0a%(contents:body)"  # without a signature
_FORMAT = f"%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)%00%(taggerdate:unix)%00{_MESSAGE}%00"
_FIELDS = 6


def fetch_tags(access: Access, prefix: str) -> tuple[TagRecord, ...]:
    """List the annotated tags whose names begin with `prefix`, as the server has them now, in the order of their names.

    One fetch brings those that the mirror lacks and drops those that the server does not have any more.

    Raises:
        MirrorBrokenError: the server is well, so the mirror must be broken.
        DependencyError: the server does not answer.
    """
    with access.mirror.locked():
        access.fetch_into(f"fetch its tags {prefix}*", f"+refs/tags/{prefix}*:{_KEPT}{prefix}*", "--prune")
        listed = access.mirror.local("for-each-ref", f"--format={_FORMAT}", f"{_KEPT}{prefix.rstrip('/')}").output
    fields = [field.lstrip("\n") for field in listed.decode("utf-8", errors="replace").split("\0")]
    rows = (fields[at : at + _FIELDS] for at in range(0, len(fields) - _FIELDS, _FIELDS))
    return tuple(
        TagRecord(ref.removeprefix(_KEPT), commit, message.strip(), float(at), object_id)
        for ref, object_id, kind, commit, at, message in rows
        if kind == "tag" and ref.startswith(f"{_KEPT}{prefix}")
    )


def add_tag(
    access: Access, clock: Clock, name: str, commit: str, message: str, tagger: Person, sign: Sign | None = None
) -> bool:
    """Push a new annotated tag, signed if `sign` is given.

    Returns:
        Whether it was added; False when the server has another tag of that name.

    Raises:
        DependencyError: the server does not answer, or forbids it.
    """
    ref = f"refs/tags/{name}"
    tag = access.repairing(lambda: write_tag(access.mirror, name, commit, message, clock.now(), tagger, sign))
    for number in range(1, ATTEMPTS + 1):
        result = push(access.mirror, (RefUpdate(ref, tag, None),))
        if isinstance(result, Applied):
            return True
        reason = " ".join(result.reason.split())
        if is_useless_to_repeat(reason):
            raise access.failure(f"push the tag {name}", reason)
        present = access.server_refs(ref).get(ref)
        if present is not None:  # ours, if only the acknowledgement was lost
            return present == tag
        if isinstance(result, Refused) and number > 1:
            raise DependencyError(
                Problem(
                    str(access.remote),
                    f"the server to let us push the tag {name}",
                    f"a refusal although there is no such tag ({reason})",
                    next_step(reason),
                )
            )
        clock.sleep(pause_after_failure(number))
    raise access.failure(f"push the tag {name}", reason)
