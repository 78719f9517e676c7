"""How Sphinx makes the site of the pages: ``make docs``.

The folder of the sources is the root of the repository, so that README, benchmarks and examples are pages where they
stand, and every relative link in them is checked by the build.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from atmoloss import __version__  # noqa: E402
from atmoloss.cli import build_parser  # noqa: E402

project = "atmoloss"
author = "The atmoloss developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
    "docs/**",
    "benchmarks/*/README.md",
    "benchmarks/*/results/*.md",
    "examples/*/README.md",
    "weights/*/README.md",
]
exclude_patterns = [".*", "build", "runs", "**/.ipynb_checkpoints"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links to headings, as GitHub makes them
nb_execution_mode = "off"  # outputs are committed: make notebooks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_custom_sections = ["Shape"]

html_theme = "furo"
html_title = f"atmoloss {release}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_additional_pages = {"index": "to_start.html"}
templates_path = ["templates"]
html_copy_source = False


class CommandHelp(SphinxDirective):
    """``.. command-help::``: what ``atmoloss --help`` and the help of every verb say."""

    def run(self) -> list[nodes.Node]:
        """Return a section a verb."""
        os.environ["COLUMNS"] = "90"  # argparse breaks lines for the terminal of whoever builds
        parser = build_parser()
        (verbs,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        return [self._section(each) for each in (parser, *verbs.choices.values())]

    def _section(self, parser: argparse.ArgumentParser) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(parser.prog)])
        help_text = parser.format_help()
        section += [nodes.title(text=parser.prog), nodes.literal_block(text=help_text, language="text")]
        return section


def title_results(app: Sphinx, name: str, source: list[str]) -> None:
    """Give the tables that benchmarks write a title, and a link to the page that explains them, which links to them."""
    if "/results/" in name:
        folder, table = Path(name).parents[1], Path(name).name
        page = 'Explained in "[](../README.md)".\n\n' if (ROOT / folder / "README.md").is_file() else ""
        source[0] = f"---\norphan: true\n---\n# {folder.name}: {table}\n\n{page}{source[0]}"


def setup(app: Sphinx) -> None:
    """Add what this file defines."""
    app.add_directive("command-help", CommandHelp)
    app.connect("source-read", title_results)
