"""`incumbent set-image` and `incumbent set-model-uri`: a promotion's edit, by hand or in a pipe."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestration.cli.run import problems, say, tell, writing

if TYPE_CHECKING:
    from orchestration.promotion.manifest_place import Selector


_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
_kind = click.option("--kind", metavar="KIND", help="The workload's kind, such as Deployment.  [default: any]")
_namespace = click.option("--namespace", metavar="NS", help="The workload's namespace.  [default: any]")
_name = click.option("--name", metavar="NAME", help="The workload's name.  [default: any]")


@click.command("set-image")
@_file
@click.argument("image")
@click.option("--container", metavar="NAME", required=True, help="The container, or init container, to edit.")
@_kind
@_namespace
@_name
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
        from orchestration.promotion.manifest_place import Selector

        _edit(file, Selector(_called(file), kind, namespace, name, container), image, expected)


@click.command("set-model-uri", short_help="Put the ADDRESS of a model into the manifest FILE.")
@_file
@click.argument("address")
@click.option("--container", metavar="NAME", help="The container to edit; not with --storage-uri.")
@click.option("--variable", metavar="NAME", help="The variable that holds the address.  [default: MODEL_URI]")
@click.option("--argument", metavar="NAME", help="The argument that holds it, such as --model-uri.")
@click.option("--storage-uri", is_flag=True, help="It is the storageUri of an InferenceService.")
@_kind
@_namespace
@_name
@click.option("--from", "expected", metavar="ADDRESS", help="Edit only while the file has this address.")
def set_model_uri(
    file: str,
    address: str,
    container: str | None,
    variable: str | None,
    argument: str | None,
    storage_uri: bool,
    kind: str | None,
    namespace: str | None,
    name: str | None,
    expected: str | None,
) -> None:
    """Put the ADDRESS of a model into the manifest FILE, and change no other byte.

    This is the edit of a promotion whose policy says deploys: model_uri. The address is replaced where it stands, once,
    and never added: in a variable of the container's env, in an argument of its command or args (--model-uri=ADDRESS,
    or the text after it), or as the storageUri of an InferenceService. Everything else is as with set-image.

    \b
    Examples:
      incumbent set-model-uri apps/iris/deployment.yaml models:/iris/7 --container server
      incumbent set-model-uri apps/iris/deployment.yaml models:/iris/7 --container server --argument=--model-uri
      incumbent set-model-uri apps/iris/isvc.yaml s3://acme-models/iris/7 --storage-uri --name iris

    \b
    Exit code:
      0  edited, or the address was there already (the output says which)
      1  the output could not be written
      2  wrong usage
      3  refused; the reason is on standard error
    """
    if len([place for place in (variable, argument, storage_uri) if place]) > 1:
        raise click.UsageError("an address stands in one place: give one of --variable, --argument and --storage-uri")
    if storage_uri == (container is not None):
        raise click.UsageError("give --container, or --storage-uri without it")
    with problems():
        from orchestration.promotion.deployed import Slot
        from orchestration.promotion.manifest_place import Selector

        slot = Slot("argument", argument) if argument else Slot("variable", variable or "MODEL_URI")
        slot = Slot("storageUri") if storage_uri else slot
        _edit(file, Selector(_called(file), kind, namespace, name, container, slot=slot), address, expected)


def _called(file: str) -> str:
    return "standard input" if file == "-" else file


def _edit(file: str, selector: "Selector", text: str, expected: str | None) -> None:
    """Edit a file in its place, or a stream on its way."""
    from orchestration.commands.edit_manifest import edit_file, edit_stream

    if file == "-":
        _require_open_streams()
        with writing():
            done = edit_stream(sys.stdin.buffer, sys.stdout.buffer, selector, text, expected)
        tell(done)
    else:
        say(edit_file(Path(file), selector, text, expected))


def _require_open_streams() -> None:
    """Refuse to copy a manifest from or to a stream that was closed before the command began (`<&-`, `>&-`)."""
    from orchestration.promotion.problems import InvalidInputError, Problem

    for stream, name in ((sys.stdin, "standard input"), (sys.stdout, "standard output")):
        if stream is None:
            raise InvalidInputError(Problem(name, "an open stream", "a closed one", "Give FILE, or open the stream."))
