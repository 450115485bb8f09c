"""All guards, by what they belong to, in the order in which a promotion meets them."""

from collections.abc import Mapping

from tests.guards import (
    addresses,
    analysis,
    before_commit,
    candidate,
    champion,
    dispatching,
    edit,
    evaluation,
    gate,
    git,
    inputs,
    people,
    permission,
    pull_requests,
    rollback,
    rollout,
    telling,
    warm_runs,
    watching,
)
from tests.guards.guard import Guard

GUARDS: Mapping[str, tuple[Guard, ...]] = {
    "Which runs begin": watching.GUARDS,
    "Runs that are forked (`run_launcher`)": warm_runs.GUARDS,
    "Candidate (`promotion_candidate`)": candidate.GUARDS,
    "Before the commit (`manifest_commit`)": before_commit.GUARDS,
    "Permission (`manifest_commit`)": permission.GUARDS,
    "Delivery by pull request (`manifest_commit`)": pull_requests.GUARDS,
    "The edit of the manifest": edit.GUARDS,
    "Addresses in place of images (`deploys: model_uri`)": addresses.GUARDS,
    "Rolled out (`rollout`)": rollout.GUARDS,
    "The gate (`serving_model`)": gate.GUARDS,
    "Champion (`serving_model`)": champion.GUARDS,
    "Ends: taken back, held, cut off": rollback.GUARDS,
    "What people decide: return, abort, adopt": people.GUARDS,
    "Git: leases, pushes, trailers": git.GUARDS,
    "Input from outside, and secrets": inputs.GUARDS,
    "Notifications and metrics": telling.GUARDS,
    "Evaluation of what serves": evaluation.GUARDS,
    "Alerts that start workflows": dispatching.GUARDS,
    "Analysis of alerts, and what follows from drift": analysis.GUARDS,
}
ALL_GUARDS = tuple(guard for guards in GUARDS.values() for guard in guards)
