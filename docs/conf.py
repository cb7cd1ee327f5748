"""How Sphinx builds the book; ``scripts/make_book.py`` lays out its sources and calls it."""

from myst_nb.core.render import MimeData, NbElementRenderer

project = "Pruning labs"
copyright = "the authors of the labs; text and code MIT"
html_title = "Pruning labs"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nb_execution_mode = "off"  # the stored outputs are what was measured
nb_merge_streams = True
myst_heading_anchors = 3
myst_links_external_new_tab = False
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_show_sphinx = False
html_copy_source = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
exclude_patterns = ["build"]

drawn = NbElementRenderer.render_image


def render_image(renderer: NbElementRenderer, data: MimeData) -> list:
    """A figure with the text that ``labkit.show`` stored beside it, which myst-nb does not look for."""
    (image,) = drawn(renderer, data)
    image["alt"] = data.output_metadata.get("image/png", {}).get("alt", "")
    return [image]


NbElementRenderer.render_image = render_image
