"""Guards of notifications and the exporter."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "A destination that failed pauses.",
        Mutant(
            "promotion/delivery.py",
            "due = [destination for destination in lacking if not self._is_paused(destination, now)]",
            "due = lacking",
        ),
        "orchestration/test_notifications.py::test_a_receiver_that_is_out_is_tried_ever_more_rarely",
    ),
    Guard(
        "What ended before the first look is not told.",
        Mutant("promotion/notifying.py", "and seen is None and (ended_at or 0.0) < since", "and False"),
        "orchestration/test_notifications.py::test_ends_from_before_the_first_look_are_not_told",
    ),
    Guard(
        "What waits to be told is bounded.",
        Mutant("promotion/notification_watch.py", "[-_MOST_UNTOLD:]", ""),
        "promotion/test_notifying.py::test_what_waits_to_be_told_is_bounded",
    ),
    Guard(
        "A text from the registry is shown without secrets.",
        Mutant("promotion/notifying.py", 'line = redact(" ".join(', 'line = (" ".join('),
        "promotion/test_notifying.py::test_a_text_from_the_registry_stays_a_text",
    ),
    Guard(
        "After a failed look, metrics say nothing that may have changed.",
        Mutant(
            "exporter/watcher.py",
            "stale = replace(before, record_is_fresh=False, champion=None, live=None, quality=None)",
            "stale = before",
        ),
        "exporter/test_watcher.py::test_what_cannot_be_read_is_not_reported",
    ),
    Guard(
        "The exporter says that there is evidence only when its digest is the one in Git.",
        Mutant("exporter/watcher.py", "return named is not None and named[1] == digest", "return named is not None"),
        "exporter/test_watcher.py::test_evidence_that_no_longer_agrees_is_reported",
    ),
    Guard(
        "One policy that cannot be looked at stops no other in the exporter.",
        Mutant(
            "exporter/watcher.py",
            "            except Exception as error:  # noqa: BLE001 - whatever",
            "            except ZeroDivisionError as error:  # whatever",
        ),
        "exporter/test_watcher.py::test_one_broken_policy_stops_no_other",
        raises="InvalidInputError",
    ),
    Guard(
        "A deleted policy is reported no longer.",
        Mutant(
            "exporter/watcher.py",
            "for name, findings in self.findings.items() if name in names}",
            "for name, findings in self.findings.items()}",
        ),
        "exporter/test_watcher.py::test_a_deleted_policy_is_no_longer_reported",
    ),
    Guard(
        "No part of a notification's address is in a log.",
        Mutant("adapters/notifier.py", "        if secrets is not None:\n", "        if False:\n"),
        "orchestration/test_notifications.py::test_no_part_of_an_address_is_shown_anywhere",
    ),
    Guard(
        "A tag of a merge that is left over from before tells nothing.",
        Mutant("promotion/notifying.py", 'and _MERGES[asked["what"]](state) else ""', 'else ""'),
        "promotion/test_notifying.py::test_a_wait_for_a_merge_is_told",
    ),
)
