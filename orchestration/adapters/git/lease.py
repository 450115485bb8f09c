"""A lease as a Git object: a commit of the empty tree whose message names the holder and the expiry (design rule 2)."""

import json
import math
import uuid
from typing import Any

from orchestration.adapters.git.authorship import Authorship
from orchestration.adapters.git.objects import one_line
from orchestration.adapters.git.remote import is_ref_name
from orchestration.promotion.ports import LeaseRecord
from orchestration.promotion.problems import InvalidInputError, Problem

MAX_LEASE_BYTES = 64 * 1024
_MAX_HOLDER = 500


def lease_ref(application: str) -> str:
    """Return the ref that holds an application's lease.

    Raises:
        InvalidInputError: the application's name cannot be part of a ref.
    """
    if "/" in application or not is_ref_name(application):
        raise InvalidInputError(
            Problem(
                f"application {application!r}",
                "a name that can be part of a Git ref",
                "characters, dots or an ending (.lock) that Git forbids",
                "Rename the Argo CD application.",
            )
        )
    return f"refs/incumbent/lease/{application}"


def lease_message(application: str, holder: str, expires_at: float, authorship: Authorship) -> str:
    """Return the text of a new lease object. A nonce makes each different: pushing an unchanged ref fences nobody.

    It is JSON alone, unless commits are worded by a setting: then a server may look at the message of this one, too.
    """
    content = {"application": application, "expires_at": expires_at, "holder": holder, "nonce": uuid.uuid4().hex}
    text = json.dumps(content, sort_keys=True)
    if authorship.is_plain:
        return text + "\n"
    return authorship.message(f"Lease application {application}", application, "chore", text, {})


def parse_lease(application: str, object_id: str, commit: bytes) -> LeaseRecord | str:
    """Parse a commit object's text as a lease; or return, as a string, why it is not one. The text is hostile input."""
    _, _, message = commit.partition(b"\n\n")
    try:
        data: Any = json.loads(_json_in(message.decode("utf-8")))
        if not isinstance(data, dict):
            return "not a JSON object"
        holder, expires_at = data.get("holder"), data.get("expires_at")
        if data.get("application") != application:
            return "it names another application"
        if not isinstance(holder, str) or not 0 < len(holder) <= _MAX_HOLDER or one_line(holder) != holder:
            return "it names no holder"
        if isinstance(expires_at, bool) or not isinstance(expires_at, int | float) or not math.isfinite(expires_at):
            return "it has no time of expiry"
        return LeaseRecord(application, holder, float(expires_at), object_id)
    except (ValueError, RecursionError, OverflowError):
        return "not JSON"


def _json_in(message: str) -> str:
    """The message itself, or the one paragraph of a worded message that is a JSON object."""
    if message.startswith("{"):
        return message
    objects = [paragraph for paragraph in message.split("\n\n") if paragraph.startswith("{")]
    return objects[0] if len(objects) == 1 else message
