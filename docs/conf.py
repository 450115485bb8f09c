"""The documentation site: the repository's own Markdown, rendered by Sphinx (`make docs`).

The source folder is the checkout itself, so every link reads the same here and on GitHub, and a link from one page to
another is checked with its anchor. What a page links to that is not a page, such as code, becomes a link to GitHub.
"""

from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

CHECKOUT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/dycouzt/mlops-ai-platform"

project = "incumbent"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = [".*", "**/.*"]
nitpicky = True

myst_heading_anchors = 4  # the anchors that GitHub makes

highlight_language = "text"  # where a block names none

html_theme = "furo"
html_title = "incumbent"
html_copy_source = False
html_show_sphinx = html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["site"]  # the front page of the site leads to this one
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "",
}


def link_to_github(app: Sphinx, doctree: nodes.document) -> None:
    """Lead links to files and folders that are not pages to GitHub.

    MyST would offer a copy of a file to download, and does not know folders. A link that leads nowhere stays as it is,
    and MyST reports it.
    """
    for link in [*doctree.findall(addnodes.download_reference), *doctree.findall(addnodes.pending_xref)]:
        if link.get("refdomain") is not None:
            continue  # a page, which Sphinx links itself
        target = (Path(app.env.doc2path(link["refdoc"])).parent / link["reftarget"]).resolve()
        if target.exists() and target.is_relative_to(CHECKOUT):
            kind = "tree" if target.is_dir() else "blob"
            address = f"{REPOSITORY}/{kind}/main/{target.relative_to(CHECKOUT)}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=address, internal=False))


def setup(app: Sphinx) -> None:
    """Register the links with Sphinx."""
    app.connect("doctree-read", link_to_github, priority=400)  # before Sphinx collects files to download
