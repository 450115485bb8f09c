"""A test that pretends to run in a pod: its cluster's API server, and the service account that Kubernetes mounts."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes.config import incluster_config
from pytest_httpserver import HTTPServer

from testbeds.common.certificates import self_signed


@contextmanager
def in_a_pod(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """Serve as the API server for the block; a folder has the account's `ca.crt`, and its `token`, which is `first`."""
    certificate, key = self_signed("localhost")
    for name, content in (("ca.crt", certificate), ("key", key), ("token", "first")):
        (folder / name).write_text(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    with HTTPServer(host="localhost", ssl_context=context) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "localhost")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        yield server
