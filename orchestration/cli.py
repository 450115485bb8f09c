"""The command `incumbent`. Heavy imports stay inside the commands, so that `--help` answers at once."""

import sys
from pathlib import Path
from typing import NoReturn

import click

REFUSED = 3
"""Exit code of a command that looked, decided not to act, and changed nothing."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Promote MLflow models through Git and Argo CD, and keep the incumbent until its challenger has proved healthy."""


@main.command("set-image")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("image")
@click.option("--container", metavar="NAME", required=True, help="The container, or init container, to edit.")
@click.option("--kind", metavar="KIND", help="The workload's kind, such as Deployment.  [default: any]")
@click.option("--namespace", metavar="NS", help="The workload's namespace.  [default: any]")
@click.option("--name", metavar="NAME", help="The workload's name.  [default: any]")
@click.option("--from", "expected", metavar="IMAGE", help="Edit only while the file has this image.")
def set_image(
    file: Path,
    image: str,
    container: str,
    kind: str | None,
    namespace: str | None,
    name: str | None,
    expected: str | None,
) -> None:
    """Put IMAGE into the manifest FILE, and change not one other byte.

    This is the edit that a promotion makes: comments, quotes, indentation and line ends stay as they are. Exactly one
    container must match; what is not clear is refused, with file, line and reason, and the file stays untouched.

    \b
    Example:
      incumbent set-image manifests/applications/iris-classifier/deployment.yaml \\
          ghcr.io/team/model:v7 --container model-server --kind Deployment --name iris-classifier

    \b
    Exit code:
      0  edited, or the image was there already (the output says which)
      2  wrong usage
      3  refused; the reason is on stderr
    """
    from orchestration.promotion.manifest import Edited, EditRefused
    from orchestration.promotion.manifest import set_image as edit
    from orchestration.promotion.manifest_place import Selector
    from orchestration.promotion.yaml_text import MAX_BYTES

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)  # one more than is accepted, so that a huge file is refused unread
        outcome = edit(content, Selector(str(file), kind, namespace, name, container), image, expected=expected)
        if isinstance(outcome, EditRefused):
            _refuse(str(outcome.problem))
        if isinstance(outcome, Edited):
            _replace(file, content, outcome.content)
            click.echo(f"{file}, line {outcome.line}: {outcome.old} -> {image}")
        else:
            click.echo(f"{file}, line {outcome.line}: already {outcome.value}")
    except OSError as error:
        _refuse(f"{file}: expected a file that can be read and replaced, found {error.strerror}. Nothing was changed.")


def _replace(file: Path, old: bytes, new: bytes) -> None:
    """Put new content in the place of a file in one step; a reader sees the old file or the new one.

    A symbolic link stays one: the file that it leads to is replaced. Its mode is kept.

    Raises:
        OSError: the folder cannot be written, or the file changed since it was read; nothing was replaced.
    """
    import errno
    import os
    import shutil
    import tempfile

    target = file.resolve(strict=True)
    handle, path = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(new)
            written.flush()
            os.fsync(written.fileno())
        shutil.copymode(target, path)
        if target.read_bytes() != old:
            raise OSError(errno.EAGAIN, "that somebody changed it just now")
        Path(path).replace(target)
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def _refuse(reason: str) -> NoReturn:
    click.echo(reason, err=True)
    sys.exit(REFUSED)


if __name__ == "__main__":
    main()
