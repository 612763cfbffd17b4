"""The figures of the gallery, drawn by the lines that stand there."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

LINE = re.compile(r"^(?<!-->\n)```python\n(analysis\.(\w+)\(record.*\))\n```\n", re.MULTILINE)
"""A block of one line that makes a figure of the record that ships; one that is marked as not run is left out."""


def with_figures(markdown: str) -> str:
    """The page with a picture below each line that makes one.

    >>> print(with_figures("```python\\nanalysis.pareto(record)\\n```\\n"))
    ```python
    analysis.pareto(record)
    ```
    <BLANKLINE>
    ![pareto](images/gallery/pareto.png){ width="480" }
    <BLANKLINE>
    """
    return LINE.sub(r'\g<0>\n![\g<2>](images/gallery/\g<2>.png){ width="480" }\n', markdown)


def figures(markdown: str) -> dict[str, bytes]:
    """The pictures, by their paths in the site."""
    import analysis

    record, drawn = analysis.example(), {}
    with tempfile.TemporaryDirectory() as folder:
        for line, name in LINE.findall(markdown):
            (path,) = analysis.save(eval(line, {"analysis": analysis, "record": record}), Path(folder) / name, ("png",))
            drawn[f"images/gallery/{name}.png"] = path.read_bytes()
    return drawn
