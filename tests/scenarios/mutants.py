"""Pipelines without one of their guards: copies of `orchestration/` in which one piece of text is replaced."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from testbeds.common.tools import CHECKOUT


@dataclass(frozen=True)
class Mutant:
    file: str
    old: str
    new: str

    def write(self, folder: Path) -> Path:
        """Copy the pipeline into a folder and replace the text; fail unless the text occurs exactly once."""
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / "orchestration", folder / "orchestration", ignore=skipped)
        file = folder / "orchestration" / self.file
        text = file.read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.file} contains {self.old!r} {text.count(self.old)} times"
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return folder


NO_ROLLBACK = Mutant(
    "stages/rollback.py",
    "    reason, verdict = str(problem), ",
    '    return "left as it is"\n    reason, verdict = str(problem), ',
)
NO_COMPARISON = Mutant(
    "stages/judge_candidate.py",
    "judge_quality(promotion.policy, run, champion_run)",
    "judge_quality(promotion.policy, run, None)",
)
NO_PUBLICATION_CHECK = Mutant(
    "stages/judge_candidate.py",
    "    requested_at = parse_time(",
    "    from dataclasses import replace\n"
    '    believed = replace(chosen, digest=chosen.digest or "sha256:" + "0" * 64)\n'
    '    checklist.passed("image_published", "believed")\n'
    "    return ResolvedImage(believed, ())\n"
    "    requested_at = parse_time(",
)
NO_GATE = Mutant(
    "promotion/gate.py",
    "    begun_with = evaluations[0]",
    '    return _verdict(VerdictKind.PASSED, "believed")\n    begun_with = evaluations[0]',
)
