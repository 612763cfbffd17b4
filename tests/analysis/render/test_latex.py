"""Tables for LaTeX."""

from __future__ import annotations

import math
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis import (
    Cell,
    Column,
    Row,
    Table,
    configurations,
    load,
    pivot,
)
from analysis.render.latex import escaped
from analysis.tables.one_factor import one_factor
from tests.analysis.record_factory import DEPTH, RANK
from tests.analysis.tables.ablations import gridded, one_cell, small


def test_latex_of_a_small_sweep(tmp_path: Path) -> None:
    text = configurations(load([small(tmp_path, name="a_b").path])).to_latex()
    assert text.startswith(
        "% \\usepackage{booktabs, siunitx, graphicx}\n\\begin{table}[t]\n\\centering\n\\caption{a\\_b: class"
    )
    assert "\\label{tab:configurations}\n" in text
    assert "\\sbox0{\\begin{tabular}{lrrrrlrr}\n\\toprule\n" in text
    assert (
        "\\textbf{t002} & \\textbf{\\num{4}} & \\textbf{\\num{16}} & \\textbf{\\num{0.002}} & \\textbf{\\num{1}}"
        in text
    )
    row = r"t004 $^\dagger$ & \num{2} & \num{16} & \num{0.002} & \num{1} & stopped @ 40 & \num{5.00} & -- \\"
    assert f"{row}\n" in text
    assert "\\midrule\n\\multicolumn{8}{l}{\\emph{controls}} \\\\\ng = identity & \\num{4}" in text
    assert "(ValueError: loss\\_a is \\textbar{} nan)" in text
    assert text.endswith("\\end{flushleft}\n\\end{table}\n")


@pytest.mark.parametrize(
    ("cell", "spec", "bold", "expected"),
    [
        (Cell(1.5e-7), ".2e", False, r"\num{1.50e-7}"),
        (Cell(1.5e-7), ".2e", True, r"\textbf{\num{1.50e-7}}"),
        (Cell(-2.0, 0.5), ".1f", False, r"\num{-2.00 +- 0.50}"),
        (Cell(1.5e-7, 2e-8), ".2e", False, r"\num{1.50 +- 0.20 e-7}"),
        (Cell(2.0, interval=(1.5, 2.6), count=3), ".1f", False, r"\num{2.00} [\num{1.50}, \num{2.60}] (3)"),
        (Cell(2.0, 0.5, count=2, of=3, marker="≈"), ".1f", False, r"\num{2.00 +- 0.50} (2/3) $\approx$"),
        (Cell(1234.0), ",.0f", False, r"\num{1234}"),
        (Cell(0.0), ".2e", False, r"\num{0}"),
        (Cell("50 % of a_b & {c} #1 $x^2$ ~ \\d"), "", False,
         r"50 \% of a\_b \& \{c\} \#1 \$x\textasciicircum{}2\$ \textasciitilde{} \textbackslash{}d"),
        (Cell(None), "", False, "--"),
        (Cell(math.nan), ".1f", False, "--"),
        (Cell(math.inf, count=3), ".1f", True, r"\textbf{$\infty$ (3)}"),
        (Cell(-math.inf), ".1f", False, r"$-$$\infty$"),
        (Cell(1.25, 0.5, marker="✗"), ".2f", False, r"\num{1.25 +- 0.50} $\otimes$"),
        (Cell(count=0, of=3, reason="failed"), ".1f", False, "-- failed"),
    ],
)  # fmt: skip
def test_latex_cells(cell: Cell, spec: str, bold: bool, expected: str) -> None:
    assert f"\\midrule\n{expected} \\\\\n\\bottomrule" in one_cell(cell, spec, bold=bold).to_latex()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_within_the_page(tmp_path: Path) -> None:
    files = gridded(tmp_path)
    files.control(0, "g = identity & {co} §", {DEPTH: 1, RANK: 4}, 99.0)
    record = load([files.path])
    names = [f"some/metric_{index}" for index in range(16)]
    wide = Table(
        "wide", "Wide", tuple(Column(f"a long header {name}", name, spec=".2e") for name in names),
        (Row(tuple(Cell(1.5e-7 * index, 2e-8, marker="≈") for index in range(16)), "block", "†", bold=True),),
        ("100 % of a_b: − · × ≥ ≤ η² ₂ ρ Δ …",),
    )  # fmt: skip
    long = Table("long", "Long", wide.columns[:3], tuple(Row(wide.rows[0].cells[:3]) for _ in range(100)), ("n",))
    tables = [configurations(record), long, pivot(record, DEPTH, RANK, ci="bootstrap"), one_factor(record), wide]
    body = "\n".join(table.to_latex() for table in tables)
    preamble = "\\documentclass{article}\\usepackage{booktabs,siunitx,graphicx,lscape}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{preamble}{body}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overfull" not in done.stdout
    assert "\\begin{landscape}" in tables[-1].to_latex()
    pages = long.to_latex().split("\\begin{table}[p]")[1:]
    assert [page.count(" \\\\\n") - 1 for page in pages] == [45, 45, 10]
    assert [page.count("(continued)") for page in pages] == [0, 1, 1]
    assert [page.count("\\par n") for page in pages] == [0, 0, 1]


def test_latex_escapes_every_special_character() -> None:
    assert escaped("±†–↓") == r"$\pm$$^\dagger$--$\downarrow$"
