"""One version tag per policy that tells a person at a glance where the version stands, since when and why.

MLflow's page of a version sorts tags by name and shows the first few, and its page of a model cuts each tag off after
about 17 characters. So the name sorts before all other tags of the pipeline, which have a dot where it has a space. And
the value begins with the state and is long: of two long texts, MLflow shortens the name most. Nothing reads the tag; no
page of MLflow makes a link of a tag's value, so addresses are written out.
"""

import re

from orchestration.promotion.model_version import ModelVersion, tag_key
from orchestration.promotion.moments import held_since
from orchestration.promotion.state import State
from orchestration.promotion.texts import one_line
from orchestration.promotion.timestamps import format_time, parse_time, show_time

_REASON = 140
"""Characters of the reason in the summary; the tag `reason` has all of it."""
_WAY_OUT = re.compile(r"goes on by itself(?: when [a-z ]+)?|incumbent [a-z]+ [^'.;()]*--reason '\.\.\.'")
_LEAST = 40
"""Characters of what was found that are always left beside the ways out."""
SINCE_TAG = "since"
"""Version tag: when the version came into its state."""
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
    """Return the tag for a state that is about to be written, and the one that says since when for programs.

    A state that is written again keeps the time at which it began; a request that is held again, when it was held
    first.

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
    since = _since(version, policy, state, now)
    text = f"{str(state).replace('_', ' ')} since {show_time(since)}"
    reason = _fit(_brief(reason))
    if reason:
        text += f": {reason}"
    if commit and state not in _BEFORE_THE_COMMIT:
        text += f" | commit {commit}"
    if run:
        text += f" | run {run}"
    return {key: text, tag_key(policy, SINCE_TAG): format_time(since)}


def _since(version: ModelVersion, policy: str, state: State, now: float) -> float:
    before = parse_time(version.tag(policy, SINCE_TAG)) if version.state(policy) is state else None
    if before is None and state is State.HELD:
        before = held_since(version, policy)
    return now if before is None else before


def _fit(reason: str) -> str:
    """Shorten a reason so that the ways out stay whole, whatever was found."""
    if len(reason) <= _REASON:
        return reason
    ways_out = ", or ".join(dict.fromkeys(_WAY_OUT.findall(reason)))
    ending = f"… Next: {ways_out}" if ways_out else "…"
    return reason[: max(_REASON - len(ending), _LEAST)].rstrip() + ending


def state_and_reason(state: State, reason: str | None) -> str:
    """Say a version's state and why it is in it, as a phrase: `refused: no run`, `rolled back to version 1 by ana`.

    Args:
        state: the state.
        reason: the version's tag `reason`; None when it has none.
    """
    words, why = str(state).replace("_", " "), _brief(reason or "no reason kept").rstrip(".")
    return words + why[len(words) :] if why.casefold().startswith(words) else f"{words}: {why}"


def _brief(reason: str) -> str:
    """Put a reason on one line; of the text of a `Problem`, what was found and what follows it."""
    return one_line(reason.partition(", found ")[2] or reason)
