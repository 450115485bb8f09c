"""MLflow's webhooks: which deliveries are believed, and which of them say that an alias has moved.

MLflow signs what it sends, after the conventions of Standard Webhooks (`mlflow/webhooks/delivery.py` of 3.17): its
HMAC-SHA256 of `<delivery id>.<timestamp>.<body>`, in base64, after `v1,`.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from orchestration.promotion.texts import read_json_object

LARGEST_DELIVERY = 64 * 1024
"""Bytes. One that says that an alias was set has three names."""
OLDEST_SECONDS = 300.0
"""How old a delivery may be, and how far ahead of ours its server's clock: the tolerance of Standard Webhooks."""
EVENTS = ("model_version_alias.created", "model_version_alias.deleted")
"""The events that can make the sensor find something. A tag is looked at when its promotion's time has come."""
_REMEMBERED = 10_000
_LONGEST_ID = 256


class UntrustedDeliveryError(Exception):
    """A delivery that is not believed; the text says why, and nothing of what was sent."""


class Deliveries:
    """Which deliveries were taken lately, so that none is taken twice."""

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}

    def take(self, headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
        """Check a delivery, and return False for one that was taken before.

        Args:
            headers: the request's, whatever the case of their names.
            body: the request's, as it came.
            secret: what MLflow signs with.
            now: seconds since the epoch.

        Raises:
            UntrustedDeliveryError: it is not from whoever knows the secret, or too old.
        """
        delivery, timestamp = headers.get("X-MLflow-Delivery-Id", ""), headers.get("X-MLflow-Timestamp", "")
        if not 0 < len(delivery) <= _LONGEST_ID or not (timestamp.isascii() and timestamp.isdecimal()):
            raise UntrustedDeliveryError("expected the headers X-MLflow-Delivery-Id and X-MLflow-Timestamp")
        if not timestamp[:20] == timestamp or abs(now - int(timestamp)) > OLDEST_SECONDS:
            raise UntrustedDeliveryError(f"expected a delivery that is not older than {OLDEST_SECONDS:.0f} s")
        signed = f"{delivery}.{timestamp}.".encode() + body
        digest = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest())
        given = headers.get("X-MLflow-Signature", "").encode()
        if not hmac.compare_digest(b"v1," + digest, given):
            raise UntrustedDeliveryError("expected the header X-MLflow-Signature with the signature of this delivery")
        self._forget(now)
        is_new = delivery not in self._taken
        self._taken[delivery] = now
        return is_new

    def _forget(self, now: float) -> None:
        """Forget what is too old to be accepted anyway, and of more than there ever are, the oldest."""
        old = [each for each, taken in self._taken.items() if abs(now - taken) > 2 * OLDEST_SECONDS]
        for each in [*old, *list(self._taken)[: max(0, len(self._taken) - len(old) - _REMEMBERED)]]:
            self._taken.pop(each, None)


def model_of_moved_alias(body: bytes) -> str | None:
    """Return the model of which a delivery says that an alias was set or removed; None for anything else."""
    sent = read_json_object(body)
    data = sent.get("data")
    if f"{sent.get('entity')}.{sent.get('action')}" not in EVENTS or not isinstance(data, dict):
        return None
    name = data.get("name")
    return name if isinstance(name, str) else None
