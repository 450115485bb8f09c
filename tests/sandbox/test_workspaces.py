"""Both workspaces lead to the same definitions: one starts them itself, the other asks the code server of the docs."""

import shlex

from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths

from testbeds.common.tools import CHECKOUT


def origin(name: str) -> object:
    (found,) = location_origins_from_yaml_paths([str(CHECKOUT / name)])
    return found


def code_server_options() -> dict[str, str]:
    """Return the options of the code server's command on the page about the configuration."""
    page = (CHECKOUT / "docs" / "configuration.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("$ dagster api grpc ")]
    words = shlex.split(line)[4:]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_the_two_workspaces_differ_only_in_who_starts_the_code_server() -> None:
    """The location has the same name in both, and the documented command starts what the second one asks for."""
    managed, asked, options = origin("workspace.yaml"), origin("workspace-code-server.yaml"), code_server_options()
    assert isinstance(managed, ManagedGrpcPythonEnvCodeLocationOrigin)
    assert isinstance(asked, GrpcServerCodeLocationOrigin)
    assert managed.location_name == asked.location_name == options["--location-name"]
    assert managed.loadable_target_origin.module_name == options["-m"]
    assert (asked.host, str(asked.port)) == (options["-h"], options["-p"])
