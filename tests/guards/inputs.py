"""Guards of what comes from outside, and what must not get there."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Known forms of credentials are removed.",
        Mutant("promotion/redact.py", "        text = pattern.sub(replacement, text)\n", "        pass\n"),
        "promotion/test_redact.py::test_known_forms_of_credentials_are_removed",
    ),
    Guard(
        "A secret is recognised in every encoding in which a server repeats it.",
        Mutant("promotion/redact.py", "for layer in _layers(text):", "for layer in [next(_layers(text))]:"),
        "promotion/test_redact.py::test_a_secret_is_recognized_in_every_encoding_in_which_it_is_sent_or_repeated",
    ),
    Guard(
        "A secret is recognised in base64, whoever the user is.",
        Mutant("promotion/redact.py", "spans += _grown(text, sorted(_found(view, view.text, cores)))", "pass"),
        "promotion/test_redact.py::test_a_secret_is_recognized_in_every_encoding_in_which_it_is_sent_or_repeated",
    ),
    Guard(
        "What a replacement joins shows no secret.",
        Mutant(
            "promotion/redact.py",
            "return _without_remains(text, known)\n\n\ndef without_secrets",
            "return text\n\n\ndef without_secrets",
        ),
        "promotion/test_redact.py::test_a_secret_that_a_replacement_puts_together_does_not_survive",
    ),
    Guard(
        "The excerpt of an answer shows no secret.",
        Mutant("adapters/exchange.py", "line = redact(part, secrets)", "line = part"),
        "adapters/test_exchange.py::test_an_excerpt_shows_no_part_of_a_secret",
    ),
    Guard(
        "The excerpt of an answer shows no half of a secret.",
        Mutant("adapters/exchange.py", "line = line[: -10 * characters]", "pass"),
        "adapters/test_exchange.py::test_an_excerpt_shows_no_part_of_a_secret_that_came_near_because_of_what_was_removed",
    ),
    Guard(
        "An answer is bounded in size.",
        Mutant("adapters/exchange.py", "if len(body) > cap:", "if False:"),
        "adapters/test_service.py::test_a_body_above_the_cap_is_not_read_on",
    ),
    Guard(
        "What may change something is sent once.",
        Mutant("adapters/exchange.py", "attempts=ATTEMPTS if repeat else 1", "attempts=ATTEMPTS"),
        "adapters/test_exchange.py::test_what_may_change_something_is_sent_once",
    ),
    Guard(
        "The value of a secret header is removed from an answer.",
        Mutant("adapters/service.py", "without_header_secrets(reply.body, secrets)", "reply.body"),
        "adapters/test_service.py::test_a_secret_header_is_removed_from_the_answer",
    ),
    Guard(
        "An address with a password is refused.",
        Mutant("adapters/http.py", 'if "@" in parts.netloc:', "if False:"),
        "adapters/test_prometheus.py::test_an_address_with_a_password_is_refused",
    ),
    Guard(
        "Content of an image registry has the digest that was asked for.",
        Mutant("adapters/oci_host.py", "if is_digest(claimed) and claimed != actual:", "if False:"),
        "adapters/test_oci.py::test_content_that_is_not_its_digest_is_an_error",
    ),
    Guard(
        "Only the registry's own word means that an image is not published.",
        Mutant("adapters/oci_host.py", "if _said(reply) & _ABSENT or self._is_registry():", "if True:"),
        "adapters/test_oci.py::test_only_an_unknown_manifest_means_that_it_is_not_published",
    ),
    Guard(
        "A 404 with nothing in it counts only where there is a registry.",
        Mutant(
            "adapters/oci_host.py",
            "return reply.status == 401 and choose_challenge(",
            "return reply.status == 404 or choose_challenge(",
        ),
        "adapters/test_oci.py::test_an_address_that_is_no_registry_is_named",
    ),
    Guard(
        "Over plain HTTP, no login goes to another host than the registry's.",
        Mutant("adapters/oci_host.py", 'if login and realm.scheme == "http" and not is_own:', "if False:"),
        "adapters/test_oci.py::test_a_login_is_sent_to_no_realm_that_does_not_protect_it",
    ),
    Guard(
        "The program of a credential helper is one of PATH.",
        Mutant(
            "adapters/oci_logins.py",
            "if isinstance(helper, str) and _HELPER_NAME.fullmatch(helper) else None",
            "if isinstance(helper, str) else None",
        ),
        "adapters/test_oci_logins.py::test_a_helper_of_another_folder_is_not_run",
    ),
    Guard(
        "A login is for the repositories below its entry alone.",
        Mutant("adapters/oci_logins.py", 'name.startswith(f"{own}/")', "name.startswith(own)"),
        "adapters/test_oci_logins.py::test_keys_of_auths",
    ),
    Guard(
        "What VictoriaMetrics knew 30 s ago is not taken for what it knows now.",
        Mutant("adapters/prometheus.py", "form = _FRESH | dict(", "form = dict("),
        "adapters/test_prometheus.py::test_an_answer_is_as_of_now_and_parameters_go_with_each_query",
    ),
    Guard(
        "A store that Prometheus cannot read is no fault of the query.",
        Mutant("adapters/prometheus.py", 'if str(document.get("error")).startswith(_STORAGE_FAILED):', "if False:"),
        "adapters/test_prometheus.py::test_a_store_that_is_down_is_no_fault_of_the_query",
    ),
    Guard(
        "Artifacts are read and written only by the server, and below the places that a setting names.",
        Mutant(
            "adapters/mlflow_registry.py",
            "if not self._is_proxied(uri) and not self._is_below_a_root(uri):",
            "if False:",
        ),
        "adapters/test_mlflow_registry.py::test_a_place_beside_those_of_the_setting_is_refused[s3://models/mlflow-evil/1]",
        "DependencyError",
    ),
    Guard(
        "A place whose name only begins like one of these is another place.",
        Mutant("adapters/mlflow_registry.py", 'uri.startswith(f"{root}/")', "uri.startswith(root)"),
        "adapters/test_mlflow_registry.py::test_a_place_beside_those_of_the_setting_is_refused",
        "DependencyError",
    ),
    Guard(
        "A path that a server would unquote into another one is refused.",
        Mutant("adapters/mlflow_registry.py", " and not _QUOTED.search(path)", ""),
        "adapters/test_mlflow_registry.py::test_hostile_artifact_paths_are_refused",
        "DependencyError",
    ),
    Guard(
        "A copy has the metrics of no other logged model than the one whose files it has.",
        Mutant(
            "adapters/mlflow_registry.py",
            "return model if model is not None and model.artifact_location == uri else None",
            "return model",
        ),
        "adapters/test_mlflow_dialects.py::test_a_copys_metrics_are_those_of_the_model_whose_files_it_has",
    ),
    Guard(
        "A partial response of Prometheus is doubtful.",
        Mutant("adapters/prometheus.py", 'if document.get("isPartial") else ()', "if False else ()"),
        "adapters/test_prometheus.py::test_a_partial_response_of_victoriametrics_is_doubtful",
    ),
    Guard(
        "A 404 that is not the API server's does not mean that an object is missing.",
        Mutant("adapters/kube_api.py", "if reply.status == 404 and reply.is_status:", "if reply.status == 404:"),
        "adapters/test_clusters.py::test_a_missing_deployment_is_none",
    ),
    Guard(
        "A name in an API path names no other path.",
        Mutant("adapters/kube_api.py", 'if any(part in ("", ".", "..") for part in parts):', "if False:"),
        "adapters/test_clusters.py::test_names_that_are_folders_are_refused",
        raises="DependencyError",
    ),
    Guard(
        "A login at the model is not sent to the API server.",
        Mutant("adapters/clusters.py", 'if name.lower() != "authorization"}', "}"),
        "adapters/test_clusters.py::test_the_policys_headers_reach_the_pod",
    ),
    Guard(
        "A recording is bounded in size.",
        Mutant("promotion/recorded_requests.py", "if len(content) > MAX_BYTES:", "if False:"),
        "promotion/test_recorded_requests.py::test_what_is_not_a_recording_is_refused_with_its_fault",
    ),
    Guard(
        "A recording is bounded in depth.",
        Mutant("promotion/recorded_requests.py", "if is_deeper_than(raw, MAX_DEPTH):", "if False:"),
        "promotion/test_recorded_requests.py::test_what_is_not_a_recording_is_refused_with_its_fault",
    ),
    Guard(
        "A recording has no key twice.",
        Mutant("promotion/recorded_requests.py", "if len(unique) != len(pairs):", "if False:"),
        "promotion/test_recorded_requests.py::test_what_is_not_a_recording_is_refused_with_its_fault",
    ),
    Guard(
        "A tag of MLflow is a number only where it looks like a small one.",
        Mutant(
            "promotion/model_version.py",
            "if text.isascii() and text.isdigit() and len(text) < 6 else 1",
            "if text.isdigit() else 1",
        ),
        "promotion/test_branch_standing.py::test_what_is_no_small_number_asks_for_no_attempt[999999]",
    ),
    Guard(
        "A text from MLflow becomes no trailer of its own.",
        Mutant(
            "promotion/identity.py",
            '"MLflow-Run": one_line(version.run_id or "") or "none"',
            '"MLflow-Run": version.run_id or "none"',
        ),
        "promotion/test_identity.py::test_nothing_from_the_registry_becomes_a_trailer_of_its_own",
    ),
    Guard(
        "A promotion id is read as a whole.",
        Mutant("promotion/identity.py", "_PROMOTION_ID.fullmatch(text)", "_PROMOTION_ID.match(text)"),
        "promotion/test_identity.py::test_a_malformed_id_is_none",
    ),
    Guard(
        "A partition's key is read as a whole.",
        Mutant("promotion/identity.py", 're.fullmatch(r"([a-z0-9]', 're.match(r"([a-z0-9]'),
        "promotion/test_identity.py::test_a_malformed_partition_key_is_none",
    ),
    Guard(
        "What others wrote steers no terminal.",
        Mutant("cli/run.py", "    say_styled(printable(text))\n", "    say_styled(text)\n"),
        "orchestration/test_hostile_texts.py::test_what_others_wrote_steers_no_terminal",
    ),
    Guard(
        "A policy has two different aliases.",
        Mutant("promotion/policy.py", "if self.challenger_alias == self.champion_alias:", "if False:"),
        "promotion/test_policy.py::test_each_wrong_field_is_named",
    ),
    Guard(
        "A soak fits into the time for judging.",
        Mutant("promotion/policy.py", "if self.judge_within < self.soak:", "if False:"),
        "promotion/test_policy.py::test_each_wrong_field_is_named",
    ),
)
