"""Pages for a browser: one file, which asks nothing of a network."""

import base64
import io
from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

from l2nnn_lightning.evaluation.report.tables import Row

__all__ = ["figure_tag", "html_page", "html_table"]

_STYLE = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #0072B2; --bad: #D55E00 }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right }
th:first-child, td:first-child { text-align: left }
img { max-width: 100% } img.figure { background: #fff }
code, pre { background: var(--soft); padding: .1rem .3rem; white-space: pre-wrap }
"""
#: Nothing from elsewhere is loaded, whatever a label's name holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def html_page(title: str, body: Sequence[str], *, style: str = "", script: str = "") -> str:
    """Write a page from its parts, which are HTML; the title is text."""
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    head += '<meta name="viewport" content="width=device-width">'
    code = f"<script>{script}</script>" if script else ""
    head += f"<title>{escape(title)}</title><style>{_STYLE}{style}</style>"
    parts = "\n".join([f"<h1>{escape(title)}</h1>", *body, code])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{parts}</body></html>\n'


def html_table(header: Row, rows: Sequence[Row]) -> str:
    """Write a table; cells are text.

    Example:
        >>> html_table(("a",), [("<b>",)]).splitlines()[1]
        '<tr><td>&lt;b&gt;</td></tr>'
    """
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def figure_tag(figure: Figure, text: str) -> str:
    """Put a figure into a page, with a text for those who do not see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="figure" alt="{escape(text, quote=True)}" src="data:image/png;base64,{data}">'
