"""Terminal output as HTML for a notebook."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

WIDTH = 120
FORMAT = '<pre style="font-family: monospace; line-height: normal">{code}</pre>'


def html(shown: RenderableType) -> str:
    """A rich table or text as HTML that needs no style sheet.

    >>> html("1 < 2")
    '<pre style="font-family: monospace; line-height: normal">1 &lt; 2\\n</pre>'
    """
    console = Console(record=True, file=io.StringIO(), width=WIDTH)
    console.print(shown, highlight=False)
    return console.export_html(inline_styles=True, code_format=FORMAT)
