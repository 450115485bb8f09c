"""`incumbent set-model-uri`: the edit of a promotion that deploys addresses, made to a file in place."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestration.cli import main

OLD, NEW = "models:/iris/2", "models:/iris/7"
MANIFEST = """\
kind: Deployment
metadata: {name: iris, namespace: ml}
spec:
  template:
    spec:
      containers:
        - name: server
          image: ghcr.io/acme/server:1 # for all versions
          args: [serve, --model-uri, models:/iris/2]
          env:
            - {name: MODEL_URI, value: models:/iris/2} # which
---
kind: InferenceService
metadata: {name: other, namespace: ml}
spec: {predictor: {model: {storageUri: 's3://acme/other/2'}}}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "iris.yaml"
    file.write_text(MANIFEST, encoding="utf-8")
    return file


def run(*arguments: str | Path, text: str = "") -> Result:
    return CliRunner().invoke(main, ["set-model-uri", *map(str, arguments)], input=text)


@pytest.mark.parametrize(
    ("options", "line", "old", "new"),
    [
        (("--container", "server"), 11, f"value: {OLD}", f"value: {NEW}"),
        (("--container", "server", "--argument=--model-uri"), 9, f"--model-uri, {OLD}", f"--model-uri, {NEW}"),
        (("--storage-uri", "--name", "other", "--from", "s3://acme/other/2"), 15, "'s3://acme/other/2'", f"'{NEW}'"),
    ],
)
def test_the_address_is_put_in_each_place(
    manifest: Path, options: tuple[str, ...], line: int, old: str, new: str
) -> None:
    """The file has the new address in the place that was asked for, and not one other change."""
    result = run(manifest, NEW, *options)
    assert result.exit_code == 0, result.output
    assert manifest.read_text(encoding="utf-8") == MANIFEST.replace(old, new)
    assert f"line {line}: " in result.stdout
    assert f" -> {NEW}" in result.stdout
    assert "already" in run(manifest, NEW, *options).stdout


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--container", "server", "--variable", "OTHER"), 3, "no variable OTHER in env"),
        (("--container", "server", "--from", "models:/iris/1"), 3, "expected the address models:/iris/1"),
        (("--container", "server", "--variable", "A", "--storage-uri"), 2, "stands in one place"),
        (("--container", "server", "--storage-uri"), 2, "--storage-uri without it"),
        ((), 2, "give --container, or --storage-uri"),
    ],
)
def test_what_is_not_clear_is_refused(manifest: Path, options: tuple[str, ...], code: int, reason: str) -> None:
    """A place that is missing, another address than expected and options that contradict each other change nothing."""
    result = run(manifest, NEW, *options)
    assert (result.exit_code, reason in result.stderr) == (code, True), result.stderr
    assert manifest.read_text(encoding="utf-8") == MANIFEST


def test_only_an_address_is_written(manifest: Path) -> None:
    """An image reference is no address, and the refusal says what one looks like."""
    result = run(manifest, "ghcr.io/acme/iris:v7", "--container", "server")
    assert result.exit_code == 3
    assert "expected the address of a model, such as models:/iris/7" in result.stderr


def test_a_stream_is_edited_on_its_way() -> None:
    """With FILE `-`, standard input goes to standard output with the new address."""
    result = run("-", NEW, "--container", "server", text=MANIFEST)
    assert result.stdout == MANIFEST.replace(f"value: {OLD}", f"value: {NEW}")
