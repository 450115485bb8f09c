"""Commits that wait beside the branch for the merge of a pull request, and what became of those that were merged.

A proposal has two refs, which are pushed together: the branch that the pull request is from, and a record of ours,
because a host may delete the branch when it merges. A host that squashes may drop a commit's trailers; then an
annotated tag object, in a ref that is never deleted, says which commit of the branch the proposal became.
"""

from orchestration.adapters.git.access import Access
from orchestration.adapters.git.history import MERGED, commits_named
from orchestration.adapters.git.objects import Person, commit_message, write_tag
from orchestration.adapters.git.push import ATTEMPTS, Applied, RefUpdate, Refused, pause_after_failure, push
from orchestration.adapters.git.remote import is_ref_name, is_useless_to_repeat
from orchestration.promotion.ports import Clock, Proposal, proposal_branch
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

_RECORDS = "refs/incumbent/request/"


def branch_and_record(name: str) -> tuple[str, str]:
    """Return the refs of a proposal.

    Raises:
        InvalidInputError: the name cannot be part of a ref.
    """
    if not is_ref_name(name):
        raise InvalidInputError(
            Problem(f"branch {proposal_branch(name)!r}", "a name that Git allows", "another", "Rename the policy.")
        )
    return f"refs/heads/{proposal_branch(name)}", f"{_RECORDS}{name}"


def replace_refs(access: Access, name: str, new: str | None) -> tuple[RefUpdate, ...]:
    """Return the updates that make a proposal's refs name a commit, whatever they name now; None deletes them."""
    refs = branch_and_record(name)
    present = access.server_refs(*refs)
    return tuple(RefUpdate(ref, new, present.get(ref)) for ref in refs if new is not None or ref in present)


def fetch_proposals(access: Access, policy: str) -> tuple[Proposal, ...]:
    """List what is proposed under a policy as the server has it now, by name.

    Raises:
        MirrorBrokenError: the server is well, so the mirror must be broken.
        DependencyError: the server does not answer.
    """
    below = f"{_RECORDS}{policy}/"
    with access.mirror.locked():
        access.fetch_into("fetch what is proposed", f"+{below}*:{below}*", "--prune")
        listed = access.mirror.local("for-each-ref", "--format=%(refname) %(objectname)", below.rstrip("/")).text
        named = dict(line.split(" ") for line in listed.splitlines())
        commits = {commit.commit: commit for commit in commits_named(access.mirror, tuple(named.values()))}
    return tuple(
        Proposal(ref.removeprefix(_RECORDS), commits[commit]) for ref, commit in named.items() if commit in commits
    )


def conclude(access: Access, clock: Clock, proposal: Proposal, merged_as: str | None, tagger: Person) -> None:
    """Delete a merged proposal's refs where they still name its commit, and record what it became, in one push.

    Raises:
        DependencyError: the server does not answer, or forbids it.
    """
    refs, merged = branch_and_record(proposal.name), f"{MERGED}{proposal.name}"
    message = commit_message(proposal.commit.subject, "", proposal.commit.trailers)
    for number in range(1, ATTEMPTS + 1):
        present = access.server_refs(*refs, merged)
        updates = [RefUpdate(ref, None, present[ref]) for ref in refs if present.get(ref) == proposal.commit.commit]
        if merged_as is not None and merged not in present:
            tag = write_tag(access.mirror, f"incumbent/{proposal.name}", merged_as, message, clock.now(), tagger)
            updates.append(RefUpdate(merged, tag, None))
        result = push(access.mirror, tuple(updates)) if updates else Applied()
        if isinstance(result, Applied):
            return
        reason = " ".join(result.reason.split())
        if is_useless_to_repeat(reason) or number == ATTEMPTS:
            raise access.failure("record a merged request", reason)
        if isinstance(result, Refused) and access.server_refs(*refs, merged) == present and number > 1:
            next_step = "Allow the token's owner to push refs/incumbent/* and to delete branches incumbent/*."
            raise DependencyError(Problem(str(access.remote), "to record a merged request", reason, next_step))
        clock.sleep(pause_after_failure(number))
