"""Guards of editing the manifest."""

from tests.guards.guard import Guard, Mutant

GUARDS = (
    Guard(
        "Exactly the image's scalar changes.",
        Mutant("promotion/manifest.py", "if before != after or documents[0].end != len(edited):", "if False:"),
        "promotion/test_manifest.py::test_an_edit_that_would_change_more_than_its_scalar_is_not_handed_out",
    ),
    Guard(
        "Two parsers agree on the document.",
        Mutant("promotion/manifest.py", "    confirm(stream, stream.document_of(place.node))\n", ""),
        "promotion/test_manifest.py::test_a_bundle_is_parsed_once_and_only_the_images_document_again",
    ),
    Guard(
        "An edit replaces only the image that it expects.",
        Mutant(
            "promotion/manifest.py", "if expected is not None and expected not in (old, place.node.value):", "if False:"
        ),
        "promotion/test_manifest.py::test_an_edit_can_expect_what_it_replaces",
    ),
    Guard(
        "A scalar that an alias may share is not edited.",
        Mutant("promotion/manifest_place.py", "if node.anchor is not None:", "if False:"),
        "promotion/test_manifest.py::test_what_is_not_clear_is_refused_with_its_reason",
    ),
    Guard(
        "A tag or digest with a merge key beside it is not edited.",
        Mutant("promotion/manifest_place.py", 'if "<<" in siblings:', "if False:"),
        "promotion/test_manifest.py::test_paths_that_lead_to_no_single_version_are_refused",
    ),
    Guard(
        "A key that may come from a merge is not taken for missing.",
        Mutant("promotion/yaml_text.py", "if merges:", "if False:"),
        "promotion/test_manifest.py::test_what_is_not_clear_is_refused_with_its_reason",
    ),
    Guard(
        "A mapping with a key twice is refused.",
        Mutant("promotion/yaml_text.py", "if key.value in names:", "if False:"),
        "promotion/test_manifest.py::test_what_is_not_clear_is_refused_with_its_reason",
    ),
    Guard(
        "Characters that parsers read differently are refused.",
        Mutant("promotion/yaml_text.py", "    _check_characters(text)\n    return", "    return"),
        "promotion/test_manifest.py::test_what_is_not_clear_is_refused_with_its_reason",
    ),
    Guard(
        "A huge file is refused unread.",
        Mutant("promotion/yaml_text.py", "if len(content) > MAX_BYTES:", "if False:"),
        "promotion/test_manifest.py::test_a_huge_file_is_refused_unread",
    ),
    Guard(
        "The document with the image has a limit of its own.",
        Mutant("promotion/yaml_text.py", "if len(text) > MAX_DOCUMENT:", "if False:"),
        "promotion/test_manifest.py::test_the_document_with_the_image_has_a_limit_of_its_own",
    ),
    Guard(
        "The repository beside a tag or digest is the image's.",
        Mutant(
            "promotion/manifest.py",
            "if reference.repository and place.repository not in (None, reference.repository):",
            "if False:",
        ),
        "promotion/test_manifest.py::test_a_part_is_written_only_when_the_rest_of_the_image_is_right",
    ),
    Guard(
        "A tag is not written beside a repository that has a version of its own.",
        Mutant(
            "promotion/manifest_fields.py",
            'if role in ("repository", "repo") and (image.tag or image.digest):',
            "if False:",
        ),
        "promotion/test_manifest.py::test_paths_that_lead_to_no_single_version_are_refused",
    ),
    Guard(
        "A version in two fields is not written by half.",
        Mutant("promotion/manifest.py", "if part in parts and text is None:", "if False:"),
        "promotion/test_manifest.py::test_a_version_in_two_fields_is_not_written_by_half",
    ),
    Guard(
        "Plain text that YAML would not read as text is put in quotes.",
        Mutant(
            "promotion/manifest.py",
            'quote = node.style or ("" if is_text_without_quotes(new) else \'"\')',
            "quote = node.style",
        ),
        "promotion/test_manifest.py::test_known_traps_of_plain_tags_are_quoted",
    ),
)
