"""`python -m testbeds.story.client`: a client that uses the model throughout, and logs the outcome of each request.

Each request opens a connection of its own, so that it is routed as things stand at that moment, and leaves one JSON
line. No request is retried, because the people whom a bad version harms do not get a second answer either. The verifier
relies on this log (`verifier.py`), so nothing here knows about promotions.
"""

import argparse
import http.client
import json
import random
import signal
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

_IN_FLIGHT = 32
"""The most requests under way at once, so that a slow service slows down the client and not the machine."""
_TIMEOUT = 5.0
_SEED = 20
# The range of each feature that a model is sent: from the lowest to the highest value in its training data.
_RANGES = {
    "iris-classifier": ((4.3, 7.9), (2.0, 4.4), (1.0, 6.9), (0.1, 2.5)),
    "wine-quality": (
        (11.0, 14.8), (0.7, 5.8), (1.3, 3.2), (10.6, 30.0), (70.0, 162.0), (0.9, 3.9), (0.3, 5.1),
        (0.1, 0.7), (0.4, 3.6), (1.2, 13.0), (0.4, 1.7), (1.2, 4.0), (278.0, 1680.0),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LoggedRequest:
    """One request and its outcome: a line of the log."""

    at: float
    """When it was sent, seconds since the epoch."""
    seconds: float
    status: int
    """The HTTP status; 0 when no answer came."""
    version: str | None
    """The model version that answered, as the server says in `X-Model-Version`."""
    pod: str | None
    ok: bool
    """Whether the status was 200 and the body held a prediction."""
    error: str | None


def send_request(url: str, features: list[float], timeout: float = _TIMEOUT) -> LoggedRequest:
    """Send one request to `<url>/predict`; an error is an outcome like any other.

    Args:
        url: the service.
        features: the values that the model predicts from.
        timeout: seconds to wait for each part of the answer.
    """
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
    at, begun = time.time(), time.perf_counter()
    status, version, pod, ok, error = 0, None, None, False, None
    try:
        body = json.dumps({"features": features})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", f"{address.path.rstrip('/')}/predict", body, headers)
        answer = connection.getresponse()
        status, version, pod = answer.status, answer.getheader("X-Model-Version"), answer.getheader("X-Served-By")
        content = answer.read()
        parsed = json.loads(content)
        ok = status == 200 and isinstance(parsed, dict) and "prediction" in parsed
        error = None if ok else content[:200].decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    finally:
        connection.close()
    return LoggedRequest(at, round(time.perf_counter() - begun, 4), status, version, pod, ok, error)


def send(url: str, model: str, log: TextIO, per_second: float, stop: threading.Event) -> int:
    """Send requests at an even pace until `stop` is set, and return how many; all of them are logged by then."""
    draws, writing, room = random.Random(_SEED), threading.Lock(), threading.Semaphore(_IN_FLIGHT)
    sent, due = 0, time.monotonic()

    def send_and_log(features: list[float]) -> None:
        try:
            line = json.dumps(asdict(send_request(url, features)))
            with writing:
                log.write(f"{line}\n")
                log.flush()  # a killed client leaves whole lines
        finally:
            room.release()

    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / per_second, time.monotonic() - 1.0)  # no burst makes up for a stall
            if not room.acquire(timeout=_TIMEOUT):
                continue
            # Recorded requests have fewer than four decimals, so none of these is taken for a recorded one.
            pool.submit(send_and_log, [round(draws.uniform(*limits), 4) for limits in _RANGES[model]])
            sent += 1
    return sent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbeds.story.client", description=__doc__)
    parser.add_argument("url", help="the service, such as http://127.0.0.1:30808")
    parser.add_argument("--model", choices=sorted(_RANGES), default="iris-classifier")
    parser.add_argument("--log", type=Path, required=True, help="file to append one JSON line per request to")
    parser.add_argument("--per-second", type=float, default=25.0)
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with options.log.open("a", encoding="utf-8") as log:
        sent = send(options.url, options.model, log, options.per_second, stop)
    print(f"{sent} requests sent", flush=True)


if __name__ == "__main__":
    main()
