"""Build with ``python -m sphinx -W docs docs/_build`` (the extra ``docs``). Building and reading need no network."""

import re
import shutil
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

HERE = Path(__file__).parent
# Sphinx sees no files outside its folder. The notebooks are shown as committed, with their outputs.
shutil.rmtree(HERE / "tutorials", ignore_errors=True)
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", ignore=shutil.ignore_patterns("*.py", ".*"))

project = "flda"
author = "The flda developers"
version = release = installed("flda")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "gallery"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
html_theme = "sphinx_book_theme"
html_title = "flda"
html_show_copyright = False
# The package django-static-mathjax holds the files of MathJax. This one needs no others: it draws formulas as SVG.
html_static_path = [str(Path(find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5" / "tex-svg.js")]
mathjax_path = "tex-svg.js"
autodoc_member_order = "bysource"
autodoc_typehints = "description"  # types stand with the parameters
# what scikit-learn adds to every estimator for its metadata routing
autodoc_default_options = {"exclude-members": "set_fit_request, set_predict_request, set_score_request"}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Returns"]  # text: what is returned, and what is written where


class LinkNames(SphinxTransform):
    """Link every documented name, such as ``flda.tl.flda``, that the text writes as code."""

    default_priority = 500

    def apply(self, **_):
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext()
            if re.fullmatch(r"flda(\.\w+)+", name) and not isinstance(literal.parent, addnodes.pending_xref):
                link = addnodes.pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=name, refdoc=self.env.docname, refwarn=False
                )
                literal.replace_self(link)
                link += literal


def link_to_the_copies(app, docname, source):
    """Turn links that hold in the repository into those between the pages, where the tutorials are in this folder."""
    if docname.startswith("tutorials/"):
        source[0] = source[0].replace("](../docs/", "](../")
    else:
        source[0] = source[0].replace("](../tutorials/", "](tutorials/")


def setup(app):
    app.add_transform(LinkNames)
    app.connect("source-read", link_to_the_copies)
