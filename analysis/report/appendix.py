"""An appendix of a paper about a sweep: LaTeX and Markdown, with tables and figures as separate files."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from analysis.configuration.configurations import Configurations, Recorded
from analysis.figures.style import Paper, save
from analysis.render.latex import escaped
from analysis.render.table import Table
from analysis.report.list_of_figures import ListedFigure
from analysis.report.summary import question, summary

PREAMBLE = r"""\documentclass{article}
\usepackage[margin=25mm]{geometry}
\usepackage{booktabs, siunitx, graphicx, lscape}
"""
PACKAGES = "booktabs, siunitx (3 or newer), graphicx and lscape"
FLOATS = 8
"""Tables and figures between two page breaks: LaTeX can hold only a limited number of floats."""


def write_appendix(
    record: Recorded,
    figures: Sequence[ListedFigure],
    tables: Sequence[Table],
    refused: Sequence[str],
    folder: Path,
    paper: Paper = "two-column",
) -> list[Path]:
    """Write the appendix into ``folder`` and return its files; this clears the figures.

    ``appendix.tex`` is for ``\\input`` in a paper, ``main.tex`` is a document with only the appendix, and
    ``appendix.md`` is the same in Markdown. Their contents are ``tables/*.tex`` and ``figures/*.pdf`` (and ``.png``),
    in the sizes for ``paper``.
    """
    configurations = Configurations.of(record)
    record = configurations.record
    for made_before in ("figures", "tables"):  # remove files of an earlier report
        shutil.rmtree(folder / made_before, ignore_errors=True)
    written = []
    for made in figures:
        written += save(made.chart, folder / "figures" / made.name, ("pdf", "png"), paper)
    for table in tables:
        written.append(_write(folder / "tables" / f"{table.name}.tex", _printable(table.to_latex())))
    written.append(_write(folder / "appendix.tex", _printable(_latex(configurations, figures, tables))))
    written.append(_write(folder / "main.tex", _main()))
    written.append(_write(folder / "appendix.md", _markdown(configurations, figures, tables, refused)))
    return written


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _main() -> str:
    return f"{PREAMBLE}\\begin{{document}}\n\\appendix\n\\input{{appendix}}\n\\end{{document}}\n"


def _latex(configurations: Configurations, figures: Sequence[ListedFigure], tables: Sequence[Table]) -> str:
    record = configurations.record
    floats = [f"\\input{{tables/{table.name}}}" for table in tables]
    floats += [_float(made) for made in figures]
    lines = [
        f"% Needs {PACKAGES}. \\input it from the folder of tables/ and figures/, or use the import package.",
        f"\\section{{{escaped(record.names)}}}",
        # Metric keys are long words.
        r"{\sloppy",
        escaped(question(record)),
        "",
        escaped(summary(configurations)),
        "",
        escaped(f"The record: {record.counts}."),
        r"\par}",
    ]
    for place, text in enumerate(floats, start=1):
        lines += [text, *([r"\clearpage"] if place % FLOATS == 0 else [])]
    return "\n".join([*lines, r"\clearpage"]) + "\n"


def _float(made: ListedFigure) -> str:
    lines = [
        r"\begin{figure}[tp]",
        r"\centering",
        rf"\includegraphics{{figures/{made.name}}}",
        rf"\caption{{{escaped(f'{made.title}. {made.caption}')}}}",
        rf"\label{{fig:{made.name}}}",
        r"\end{figure}",
    ]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """The text in ASCII, which TeX can set with any font: without accents and control characters."""
    plain = unicodedata.normalize("NFKD", text)
    return re.sub(r"[^\n\t\x20-\x7e]", "?", re.sub(r"[\u0300-\u036f]", "", plain))


def _markdown(
    configurations: Configurations, figures: Sequence[ListedFigure], tables: Sequence[Table], refused: Sequence[str]
) -> str:
    record = configurations.record
    parts = [f"## {record.names}", question(record), summary(configurations), f"The record: {record.counts}."]
    parts += [table.to_markdown().rstrip("\n") for table in tables]
    parts += [f"![{made.title}](figures/{made.name}.png)\n\n*{made.title}.* {made.caption}" for made in figures]
    if refused:
        parts.append("\n".join(["What the record does not support:", "", *(f"- {reason}" for reason in refused)]))
    return "\n\n".join(parts) + "\n"
