"""Pipelines without one of their guards, for the stories: a person sees in Git and the registry what goes wrong."""

from tests.guards.guard import Mutant

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
    '    checklist.passed("image_signed", "believed")\n'
    "    return ResolvedImage(believed, ())\n"
    "    requested_at = parse_time(",
)
NO_GATE = Mutant(
    "promotion/gate.py",
    "    begun_with = evaluations[0]",
    '    return _verdict(VerdictKind.PASSED, "believed")\n    begun_with = evaluations[0]',
)
