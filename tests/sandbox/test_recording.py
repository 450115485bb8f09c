"""The README's picture shows what a command wrote to a terminal, and nothing else."""

from pathlib import Path

import pytest

from testbeds.recording.cast import Output, Recording, load, record, save
from testbeds.recording.picture import draw

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"


def test_the_picture_is_drawn_from_the_recording_beside_it() -> None:
    """The picture in the repository is exactly what is drawn from its recording, so no one has retouched it."""
    assert (IMAGES / "demo.svg").read_text(encoding="utf-8") == draw(load(IMAGES / "demo.cast"))


def test_a_command_is_recorded_with_its_output_and_its_exit_code(tmp_path: Path) -> None:
    """A command runs in a terminal of the given width, and both its streams are recorded in order and read back."""
    recording, code = record(["bash", "-c", "echo $COLUMNS; echo é >&2; exit 3"], columns=100)
    assert code == 3
    assert "".join(output.text for output in recording.outputs) == "100\né\n"
    assert [output.at for output in recording.outputs] == sorted(output.at for output in recording.outputs)
    save(recording, tmp_path / "cast")
    assert load(tmp_path / "cast") == recording


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  1.0 s  started\n", "expected a line that begins with 'Promotions '"),
        ("\nPromotions (seconds)\n" + "x" * 101, "expected lines of at most 100 columns"),
    ],
)
def test_what_cannot_be_drawn_is_refused(text: str, reason: str) -> None:
    """Drawing fails for a recording of which the picture would leave something out."""
    with pytest.raises(ValueError, match=reason):
        draw(Recording("make demo", 100, (Output(0.0, text),)))
