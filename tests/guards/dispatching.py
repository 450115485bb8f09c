"""Guards of the dispatcher, which starts workflows for alerts."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "A notification is answered with a success only once its alerts are on disk.",
        Mutant(
            "companion/dispatch.py",
            'raise RefusedRequestError(503, "storage", "the alerts could not be kept; send them again") from error',
            'return JSONResponse({"accepted": 0, "known": 0})',
        ),
        "companion/test_requests.py::test_what_could_not_be_kept_is_to_be_sent_again",
    ),
    Guard(
        "A commit of the outbox is flushed to the disk.",
        Mutant(
            "adapters/outbox.py",
            'connection.execute("PRAGMA synchronous = FULL")',
            'connection.execute("PRAGMA synchronous = NORMAL")',
        ),
        "dispatcher/test_outbox.py::test_it_is_written_safely",
    ),
    Guard(
        "An alert that is sent again starts no second run.",
        Mutant("adapters/outbox.py", "UNIQUE (fingerprint, starts_at, status)", "UNIQUE (id)"),
        "dispatcher/test_outbox.py::test_a_repeated_alert_is_known",
    ),
    Guard(
        "An alert that fires anew is not taken for the one before.",
        Mutant("adapters/outbox.py", "UNIQUE (fingerprint, starts_at, status)", "UNIQUE (fingerprint, status)"),
        "dispatcher/test_outbox.py::test_a_repeated_alert_is_known",
    ),
    Guard(
        "A request without the token is refused.",
        Mutant("companion/requests.py", "if not hmac.compare_digest(", "if False and not hmac.compare_digest("),
        "companion/test_requests.py::test_a_request_without_the_token_is_refused",
    ),
    Guard(
        "Without a token of its own the dispatcher lets nobody in.",
        Mutant("adapters/secret_files.py", "if not secret:", "if False:"),
        "companion/test_requests.py::test_without_a_token_of_its_own_nobody_is_let_in",
    ),
    Guard(
        "A body is not read beyond its limit.",
        Mutant("companion/requests.py", "if len(body) > largest:", "if False:"),
        "companion/test_requests.py::test_a_body_that_is_too_large_is_not_read_on",
    ),
    Guard(
        "A body that does not end is given up.",
        Mutant("companion/requests.py", "asyncio.timeout(BODY_SECONDS)", "asyncio.timeout(None)"),
        "companion/test_requests.py::test_a_body_that_does_not_end_is_given_up",
        raises="TimeoutError",
    ),
    Guard(
        "Alerts of one name start no more runs in an hour than the limit.",
        Mutant(
            "dispatcher/sending.py",
            "if self._outbox.ended_since(now - HOUR, now, name) >= limits.per_alert:",
            "if False:",
        ),
        "dispatcher/test_sending.py::test_a_storm_is_bounded_and_loses_nothing",
    ),
    Guard(
        "All alerts together start no more runs in an hour than the limit.",
        Mutant(
            "dispatcher/sending.py",
            "if self._outbox.ended_since(now - HOUR, now) >= limits.per_hour:",
            "if False:",
        ),
        "dispatcher/test_sending.py::test_all_alerts_together_are_bounded_too",
    ),
    Guard(
        "What GitHub refuses is a dead letter, and not asked for again.",
        Mutant("dispatcher/sending.py", "if failure.is_final:", "if False:"),
        "dispatcher/test_sending.py::test_refused_alerts_are_dead_letters",
    ),
    Guard(
        "Nothing is sent while GitHub asks to wait, or is out of reach.",
        Mutant("dispatcher/sending.py", "if 0 < pause <= LONGEST_WAIT:", "if False:"),
        "dispatcher/test_sending.py::test_troubles_of_the_whole_pause_everything",
    ),
    Guard(
        "No run is asked for whose outcome could not be kept.",
        Mutant("dispatcher/sending.py", "        self._outbox.begin_attempt(entry)\n", ""),
        "dispatcher/test_sending.py::test_nothing_is_sent_that_cannot_be_noted",
    ),
    Guard(
        "An acknowledgement that the disk did not take is written before anything else is sent.",
        Mutant("dispatcher/sending.py", "        self._unwritten = change\n", ""),
        "dispatcher/test_sending.py::test_an_acknowledged_run_is_not_repeated_when_the_disk_fills_up",
    ),
    Guard(
        "An outbox belongs to one process.",
        Mutant("adapters/outbox.py", "        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", ""),
        "dispatcher/test_outbox.py::test_a_second_process_is_refused",
    ),
    Guard(
        "A damaged outbox is moved aside, and never deleted.",
        Mutant("adapters/outbox.py", "            _move_aside(file)\n", "            file.unlink()\n"),
        "dispatcher/test_outbox.py::test_a_damaged_file_is_moved_aside",
    ),
    Guard(
        "An outbox with a row that cannot be read is opened anew, instead of stopping all sending for ever.",
        Mutant("adapters/outbox.py", "            _entry(row)\n", "            pass\n"),
        "dispatcher/test_outbox.py::test_a_row_that_cannot_be_read_is_damage",
    ),
    Guard(
        "No secret of an alert becomes an input of a workflow.",
        Mutant("dispatcher/routing.py", "redact(value(source))", "value(source)"),
        "dispatcher/test_routing.py::test_no_secret_becomes_an_input",
    ),
    Guard(
        "What others wrote into labels is cut, and steers neither a terminal nor a file.",
        Mutant("dispatcher/notification.py", "{plain(name): plain(value) for", "{name: value for"),
        "dispatcher/test_notification.py::test_hostile_values_are_made_plain",
    ),
    Guard(
        "GitHub's token goes to no other server, whatever a next page says.",
        Mutant(
            "adapters/host_api.py",
            "if url is not None and urlsplit(url)[:2] != urlsplit(self._api)[:2]:",
            "if False:",
        ),
        "adapters/test_github.py::test_a_next_page_elsewhere_is_not_followed",
    ),
)
