"""One version tag per policy that tells a person at a glance where the version stands, since when and why.

MLflow's page of a version sorts tags by name and shows the first few, and its page of a model cuts each tag off after
about 17 characters. So the name sorts before all other tags of the pipeline, which have a dot where it has a space. And
the value begins with the state and is long: of two long texts, MLflow shortens the name most. Nothing reads the tag; no
page of MLflow makes a link of a tag's value, so addresses are written out.
"""

import re
from datetime import UTC, datetime

from orchestration.promotion.model_version import ModelVersion
from orchestration.promotion.state import State

_REASON = 140
"""Characters of the reason in the summary; the tag `reason` has all of it."""
_SINCE = re.compile(r"[a-z ]+ since (?P<since>\d{4}-\d\d-\d\d \d\d:\d\d UTC)\b")
_BEFORE_THE_COMMIT = (State.REQUESTED, State.WAITING, State.REFUSED, State.SUPERSEDED)


def summary_key(policy: str) -> str:
    """Return the name of the tag, such as `incumbent iris-classifier-edge`."""
    return f"incumbent {policy}"


def summary_tag(
    version: ModelVersion,
    policy: str,
    state: State,
    now: float,
    *,
    reason: str = "",
    commit: str | None = None,
    run: str | None = None,
) -> dict[str, str]:
    """Return the tag for a state that is about to be written.

    A state that is written again keeps the time at which it began.

    Args:
        version: the version as it was last read.
        policy: the policy's name.
        state: the new state.
        now: in seconds since the epoch.
        reason: why; of the text of a `Problem`, what was found is shown.
        commit: the address or the id of the promotion's commit; it is left out in states before the commit.
        run: the Dagster run that writes it.
    """
    key = summary_key(policy)
    before = _SINCE.match(version.tags.get(key, "")) if version.state(policy) is state else None
    since = before["since"] if before else f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    text = f"{str(state).replace('_', ' ')} since {since}"
    reason = " ".join((reason.partition(", found ")[2] or reason).split())
    if reason:
        text += f": {reason if len(reason) <= _REASON else reason[:_REASON] + '…'}"
    if commit and state not in _BEFORE_THE_COMMIT:
        text += f" | commit {commit}"
    if run:
        text += f" | run {run}"
    return {key: text}
