"""`incumbent set-image`: a promotion's edit, by hand or in a pipe."""

import sys
from pathlib import Path

import click

from orchestration.cli.run import problems, say, writing


@click.command("set-image")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.argument("image")
@click.option("--container", metavar="NAME", required=True, help="The container, or init container, to edit.")
@click.option("--kind", metavar="KIND", help="The workload's kind, such as Deployment.  [default: any]")
@click.option("--namespace", metavar="NS", help="The workload's namespace.  [default: any]")
@click.option("--name", metavar="NAME", help="The workload's name.  [default: any]")
@click.option("--from", "expected", metavar="IMAGE", help="Edit only while the file has this image.")
def set_image(
    file: str,
    image: str,
    container: str,
    kind: str | None,
    namespace: str | None,
    name: str | None,
    expected: str | None,
) -> None:
    """Put IMAGE into the manifest FILE, and change no other byte.

    This is the edit that a promotion makes: comments, quotes, indentation and line ends stay as they are. Exactly one
    container must match. Anything that has more than one reading is refused, with file, line and reason, and the file
    stays untouched.

    FILE may have up to 4 MiB, and the document in it that holds the image up to 256 KiB. With FILE "-" the manifest
    is read from standard input and written to standard output, and messages go to standard error. Write -- before a
    name that begins with a dash.

    The file is replaced in one step and keeps its mode and owner. A symbolic link stays one. A file with several hard
    links is refused, because its other names would keep the old content; so is a read-only file.

    \b
    Examples:
      incumbent set-image manifests/applications/iris-classifier/deployment.yaml \\
          ghcr.io/team/model:v7 --container model-server --kind Deployment --name iris-classifier
      kustomize build . | incumbent set-image - ghcr.io/team/model:v7 --container model-server

    \b
    Exit code:
      0  edited, or the image was there already (the output says which)
      1  the output could not be written
      2  wrong usage
      3  refused; the reason is on standard error
    """
    with problems():
        from orchestration.commands.edit_manifest import edit_file, edit_stream
        from orchestration.promotion.manifest_place import Selector

        selector = Selector("standard input" if file == "-" else file, kind, namespace, name, container)
        if file == "-":
            _require_open_streams()
            with writing():
                done = edit_stream(sys.stdin.buffer, sys.stdout.buffer, selector, image, expected)
            click.echo(done, err=True)
        else:
            say(edit_file(Path(file), selector, image, expected))


def _require_open_streams() -> None:
    """Refuse to copy a manifest from or to a stream that was closed before the command began (`<&-`, `>&-`)."""
    from orchestration.promotion.problems import InvalidInputError, Problem

    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None:
            raise InvalidInputError(Problem(name, "an open stream", "a closed one", "Give FILE, or open the stream."))
