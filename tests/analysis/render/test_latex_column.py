"""Tables for a column of a paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import analysis
from analysis import Cell, Column, RecordError, Row, Table, load, paper_table, write_paper_table
from analysis.render.latex_column import TooWideError, latex_column
from tests.analysis.tables.ablations import small

EVERYTHING = ["best:5", "confirmed", "controls", "references"]
TWO_COLUMNS, ONE_COLUMN = 200, 345
"""Points of a column of LaTeX's article class."""


def names(table: Table) -> list[str]:
    return [str(row.cells[0].value) for row in table.rows]


def test_chosen_rows_and_columns_of_the_digits() -> None:
    table = paper_table(analysis.example(), ["depth", "rank", "test", "recall"], ["best:3", "controls"])
    assert latex_column(table, TWO_COLUMNS, caption=r"Digits, $g$ and \emph{A}", label="tab:best") == "\n".join([
        r"% \usepackage{booktabs, siunitx}",
        r"\begin{table}[t]",
        r"\centering",
        r"\setlength{\belowcaptionskip}{4pt}",
        r"\caption{Digits, $g$ and \emph{A}}",
        r"\label{tab:best}",
        r"\footnotesize",
        r"\sisetup{mode=text, reset-text-series=false, separate-uncertainty, group-separator={,}, "
        r"group-minimum-digits=4}",
        r"\setlength{\tabcolsep}{2.5pt}",
        r"\begin{tabular*}{\columnwidth}{@{\extracolsep{\fill}}lrrrr@{}}",
        r"\toprule",
        r"configuration & depth & rank & test $\downarrow$ & "
        r"\begin{tabular}[b]{@{}r@{}}recall\\collapsed $\uparrow$\end{tabular} \\",
        r"\midrule",
        r"\textbf{t011} & \textbf{\num{4}} & \textbf{\num{32}} & "
        r"\textbf{\num{46 +- 62}} & \textbf{\num{0.894 +- 0}} \\",
        r"t007 & \num{2} & \num{32} & \num{51 +- 11} & \num{0.90 +- 0.27} \\",
        r"t010 & \num{4} & \num{16} & \num{56 +- 81} & \num{0.851 +- 0.053} \\",
        r"\midrule",
        r"\multicolumn{5}{@{}l}{\emph{controls}} \\",
        r"g = identity & \num{4} & \num{64} & \num{207 +- 16} & \num{0.83 +- 0.14} \\",
        r"\bottomrule",
        r"\end{tabular*}",
        r"\par\smallskip",
        r"\scriptsize\raggedright",
        r"Bold: the best finished configuration by collapsed classifier FD.\par",
        r"$\pm$: half width of the 95 \% confidence interval over seeds (Student t).\par",
        r"With these seeds, a difference of 4.05e+03 is detected with 80 \% power (median). 11 comparisons are "
        r"undecided: if the differences are as estimated, 56 seeds would decide them.\par",
        r"\end{table}",
        "",
    ])  # fmt: skip


def test_rows_by_word_and_by_name_in_the_order_of_the_ablation_table(tmp_path: Path) -> None:
    record = load([small(tmp_path).path])
    every = ["configuration", "depth", "collapsed"]
    ranked = [row for row in analysis.configurations(record).rows if not row.block]
    assert names(paper_table(record, every, ["best:2"])) == [row.cells[0].value for row in ranked[:2]]
    # Who was stopped is not among the best, however few there are, and comes with what its sign means.
    assert not any(row.marker for row in paper_table(record, every, ["best:100"]).rows)
    named = paper_table(record, every, ["t004", "t002"])
    assert [(row.cells[0].value, row.marker) for row in named.rows] == [("t002", ""), ("t004", "†")]
    assert any(note.startswith("†") for note in named.notes)
    assert any(note.startswith("Failed") for note in named.notes)
    alone = paper_table(record, every, ["t000"])
    assert not any(note.startswith(("†", "Bold")) for note in alone.notes)
    # Nothing but its name tells a control from a configuration with the same values of the axes.
    assert paper_table(record, ["depth"], ["controls"]).columns[0].key == "configuration"
    assert [column.header for column in paper_table(record, ["depth"], ["best:2"]).columns] == ["depth"]


def test_wrong_names_are_told_at_once() -> None:
    record = analysis.example()
    with pytest.raises(RecordError, match=r"no column 'dept'; did you mean model.flow.depth\?\n.*'rnk'.*operator.rank"):
        paper_table(record, ["dept", "test", "rnk"])
    with pytest.raises(RecordError, match=r"no row 't099'.*t009.*\n.*no row 'control'; did you mean controls\?"):
        paper_table(record, ["depth"], ["t099", "best:2", "control"])
    with pytest.raises(RecordError, match="no column 'sweep'"):
        paper_table(record, ["sweep"])
    with pytest.raises(RecordError, match="no row 'best:0'"):
        paper_table(record, ["depth"], ["best:0"])


def test_what_does_not_fit_or_has_no_label_writes_nothing(tmp_path: Path) -> None:
    folder, file = small(tmp_path).path, tmp_path / "t.tex"
    with pytest.raises(RecordError, match=r"a column of the paper has 200; leave some out, or use lines as wide"):
        write_paper_table([folder], file, ["configuration", "state", "depth", "rank", "lr", *load([folder]).metrics])
    with pytest.raises(RecordError, match=r"'a b' is not a valid LaTeX label"):
        write_paper_table([folder], file, ["depth"], label="a b")
    assert not file.exists()
    assert write_paper_table([folder], file, ["depth"]).files == [file]


def compiled(folder: Path, tables: Sequence[str], options: str) -> str:
    """What LaTeX says of the tables in an article."""
    lines = [rf"\documentclass{options}{{article}}", r"\usepackage{booktabs, siunitx}", r"\begin{document}"]
    (folder / "t.tex").write_text("\n".join([*lines, *tables, r"\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return (folder / "t.log").read_text(errors="replace")


def full(points: int) -> str:
    """Wide numbers in bold, in as many columns as fit."""
    for count in range(20, 0, -1):
        columns = tuple(Column(f"wide WM {place} ↓", f"m{place}", spec=".3e") for place in range(count))
        cells = tuple(Cell(-8.888e-8 * 10**place, 0.9e-8, marker="≈") for place in range(count))
        note = "Failed and left out: 1 of 9 trials: t003 (/a/rather/long_path/of_a_file/that_goes/on_and_on/x.pt)."
        try:
            table = Table("full", "Full", columns, (Row(cells, "a block", "†", bold=True), Row(cells)), (note,))
            return latex_column(table, points)
        except TooWideError:
            continue
    raise AssertionError("no column fits")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize(("points", "options"), [(TWO_COLUMNS, "[twocolumn]"), (ONE_COLUMN, "")])
def test_it_fits_the_column_of_an_article(tmp_path: Path, points: int, options: str) -> None:
    record = analysis.example()
    chosen = ["depth", "rank", "test", "recall"]
    tables = [
        latex_column(paper_table(record), points),
        latex_column(paper_table(record, chosen, EVERYTHING), points, label="tab:a"),
        latex_column(paper_table(record, ["configuration", "test"], ["references"], ci="bootstrap"), points),
        full(points),
    ]
    log = compiled(tmp_path, tables, options)
    assert "Overfull" not in log, log
    assert not any("resizebox" in table or "landscape" in table for table in tables)
    # A column less than they need: what LaTeX says of it shows that it would have said so above.
    narrow = [table.replace(r"\columnwidth", rf"{points / 2:g}pt") for table in tables[-1:]]
    assert "Overfull" in compiled(tmp_path, narrow, options)
