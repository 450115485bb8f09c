"""Guards of the GitOps repository."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Every ref is pushed with the value that it must have.",
        Mutant(
            "adapters/git/push.py",
            "[f\"--force-with-lease={update.ref}:{update.old or ''}\" for update in updates]",
            '["--force"]',
        ),
        "adapters/test_git_contract.py::test_a_stale_owner_is_fenced",
    ),
    Guard(
        "A push is atomic: all of its refs or none.",
        Mutant("adapters/git/push.py", '"--porcelain", "--atomic", *expected', '"--porcelain", *expected'),
        "adapters/test_git_contract.py::test_a_stale_owner_is_fenced",
    ),
    Guard(
        "Everything is pushed together with a new lease, which fences a stale owner.",
        Mutant("adapters/git/fence.py", "self._push((*plan.updates, fence))", "self._push(plan.updates)"),
        "adapters/test_git_contract.py::test_a_stale_owner_is_fenced",
    ),
    Guard(
        "Each lease is an object of its own: an unchanged ref fences nobody.",
        Mutant("adapters/git/lease.py", '"nonce": uuid.uuid4().hex', '"nonce": ""'),
        "adapters/test_git_security.py::test_no_two_leases_are_one_object",
    ),
    Guard(
        "After a lost answer the server is asked what it has before another push.",
        Mutant(
            "adapters/git/fence.py",
            "if (landed := self._landed(attempts, lease)) is not None:",
            "if (landed := None) is not None:",
        ),
        "adapters/test_git_push.py::test_a_lost_acknowledgement_is_one_commit",
    ),
    Guard(
        "A lease that another one holds is not taken.",
        Mutant("adapters/git/fence.py", "if current is not None and is_anothers and not take_over:", "if False:"),
        "adapters/test_git_contract.py::test_a_lease_excludes_until_it_expires",
    ),
    Guard(
        "A lease that has expired is taken.",
        Mutant(
            "adapters/git/fence.py",
            "current.holder != holder and current.expires_at > self._clock.now()",
            "current.holder != holder",
        ),
        "adapters/test_git_contract.py::test_a_lease_excludes_until_it_expires",
    ),
    Guard(
        "A lease that cannot be read does not count as free.",
        Mutant("adapters/git/fence.py", "if isinstance(record, str):", "if False:"),
        "adapters/test_git_security.py::test_a_lease_that_is_not_a_commit_blocks",
    ),
    Guard(
        "A commit is not dated before its parent, so that a walk by date finds it.",
        Mutant("adapters/git/objects.py", "at = max(at, int(mirror", "at = min(at, int(mirror"),
        "adapters/test_git_push.py::test_the_commits_date_never_goes_back",
    ),
    Guard(
        "A text from the registry writes no trailer.",
        Mutant(
            "adapters/git/objects.py",
            'f"{key}: {one_line(value)}" for key, value in trailers.items()',
            'f"{key}: {value}" for key, value in trailers.items()',
        ),
        "adapters/test_git_security.py::test_text_from_the_registry_writes_no_trailer",
        raises="DependencyError",
    ),
    Guard(
        "Only a regular file is edited.",
        Mutant("adapters/git/objects.py", 'if kind != "blob" or mode not in _REGULAR:', "if False:"),
        "adapters/test_git_security.py::test_only_regular_files_are_edited",
    ),
    Guard(
        "A path leads into the repository.",
        Mutant(
            "adapters/git/objects.py",
            'if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or not path.isprintable():',
            "if False:",
        ),
        "adapters/test_git_security.py::test_hostile_paths_are_refused[a//b]",
    ),
    Guard(
        "A policy's history is its own.",
        Mutant("adapters/git/history.py", '.startswith(f"{policy}/")', ".startswith(policy)"),
        "adapters/test_git_contract.py::test_history_is_the_policys_alone",
    ),
    Guard(
        "A promotion of another policy is not one of ours.",
        Mutant(
            "promotion/branch_standing.py",
            "if identity is not None and identity.policy == policy:",
            "if identity is not None:",
        ),
        "promotion/test_branch_standing.py::test_foreign_trailers_are_ignored",
    ),
    Guard(
        "An index of trailers that is broken is made again.",
        Mutant("adapters/git/history.py", "if digest != _digest(text):", "if False:"),
        "adapters/test_git_mirror.py::test_the_index_of_trailers_is_verified",
    ),
    Guard(
        "A tag of another commit is not taken for ours.",
        Mutant("adapters/git/repository.py", "if existing is not None and existing[1] != commit:", "if False:"),
        "adapters/test_git_contract.py::test_a_tag_is_created_once",
    ),
    Guard(
        "A credential in the repository's address is refused.",
        Mutant("adapters/git/remote.py", "if _has_secret(parts):", "if False:"),
        "adapters/test_git_security.py::test_unsafe_addresses_are_refused",
    ),
    Guard(
        "A branch's name is no pattern.",
        Mutant("adapters/git/remote.py", "if not is_branch_name(branch):", "if False:"),
        "adapters/test_git_security.py::test_unsafe_branch_names_are_refused",
    ),
    Guard(
        "The token of the settings goes to no other host that a policy names.",
        Mutant(
            "adapters/git/settings.py",
            'return is_same_origin(url, settings["INCUMBENT_GIT_URL"])',
            "return True",
        ),
        "adapters/test_git_hosts.py::test_a_policys_own_repository",
    ),
    Guard(
        "A token for the API goes to the API of its own host, whichever repositories policies name.",
        Mutant(
            "adapters/git/settings.py",
            'return is_same_origin(web, web_address(settings["INCUMBENT_GIT_URL"])) and _is_api_of(web, api)',
            "return _is_api_of(web, api)",
        ),
        "adapters/test_git_settings.py::test_a_token_for_the_api_counts_on_its_host_and_nowhere_else",
    ),
    Guard(
        "The token of the settings goes to no other server's API, whatever address a policy gives it.",
        Mutant(
            "adapters/git/settings.py",
            'return api_host == host or api_host.endswith(f".{host}")',
            "return True",
        ),
        "adapters/test_git_hosts.py::test_where_the_settings_token_goes",
    ),
    Guard(
        "No setting adds a trailer that the pipeline reads.",
        Mutant("adapters/git/authorship.py", "if key.lower() in _READ_TRAILERS:", "if False:"),
        "adapters/test_git_settings.py::test_a_trailer_that_cannot_be_added_says_why",
    ),
    Guard(
        "A shallow repository is refused: in it, former promotions cannot be seen.",
        Mutant("adapters/git/access.py", "if told.status == 0 and is_shallow(told.error):", "if False:"),
        "adapters/test_git_hosts.py::test_a_shallow_repository_is_refused_by_name",
    ),
    Guard(
        "A host is believed over ssh by its key alone.",
        Mutant("adapters/git/login.py", '"StrictHostKeyChecking=yes"', '"StrictHostKeyChecking=no"'),
        "adapters/test_git_hosts.py::test_ssh_is_told_its_key_and_its_known_hosts",
        needs_programs=True,
    ),
    Guard(
        "A lease that is worded by a setting is read as well as any other.",
        Mutant("adapters/git/lease.py", "return objects[0] if len(objects) == 1 else message", "return message"),
        "adapters/test_git_hosts.py::test_a_worded_lease_is_read_and_excludes",
        raises="DependencyError",
    ),
    Guard(
        "A pointer of Git LFS is not taken for the manifest.",
        Mutant("promotion/manifest.py", "if content.startswith(_LFS_POINTER):", "if False:"),
        "adapters/test_git_hosts.py::test_a_pointer_of_lfs_is_refused_by_name",
    ),
    Guard(
        "No hook runs in the mirror.",
        Mutant("adapters/git/mirror.py", '    "core.hooksPath=/dev/null",\n', ""),
        "adapters/test_git_security.py::test_hooks_and_foreign_configuration_do_not_run",
        raises="DependencyError",
    ),
    Guard(
        "Redirects of the Git server are not followed: the token goes to the host that a person named.",
        Mutant("adapters/git/mirror.py", '"http.followRedirects=false"', '"http.followRedirects=true"'),
        "adapters/test_git_security.py::test_redirects_are_not_followed",
    ),
    Guard(
        "Git's settings in the environment do not reach the mirror.",
        Mutant(
            "adapters/git/mirror.py",
            'unset = [part for name in unwanted for part in ("-u", name)]',
            "unset = list[str]()",
        ),
        "adapters/test_git_security.py::test_hooks_and_foreign_configuration_do_not_run",
    ),
    Guard(
        "A Git that waits for a silent server is ended with all of its session.",
        Mutant("adapters/git/mirror.py", "os.killpg(process.pid, signal.SIGKILL)", "process.kill()"),
        "adapters/test_git_mirror.py::test_all_of_a_session_is_ended_when_its_time_is_over",
    ),
)
