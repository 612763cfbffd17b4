"""Figures of one trial: what is drawn are the numbers that it left."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from analysis.figures.trial_figures import _lines, _panels, _spectrum, trial_figures
from analysis.record.artifacts import CURVES, RANKS, SPECTRA
from linearizer_core.experiment.artifacts import write_curves, write_spectra
from linearizer_core.experiment.evaluation import Curve

STEPS = [1, 8, 100]
QUALITY = {"nfe/swd": [0.5, 0.25, 0.2], "nfe/classifier_fd": [900.0, 60.0, 5.0]}
SPECTRUM = {"collapsed": [4.0, 1.0, 0.25], "early": [2.0, 2.0, 2.0]}


def artifacts(folder: Path, curves: bool = True, spectra: bool = True) -> Path:
    if curves:
        write_curves(folder, {metric: Curve(STEPS, values) for metric, values in QUALITY.items()})
    if spectra:
        write_spectra(folder, {name: torch.tensor(values) for name, values in SPECTRUM.items()})
    return folder


def test_each_metric_has_a_panel_of_its_values_against_steps(tmp_path: Path) -> None:
    chart = _panels(_lines(artifacts(tmp_path) / CURVES, ("metric", "steps", "value")), "sampling steps")
    for panel, (metric, values) in zip(chart.axes, QUALITY.items(), strict=True):
        (line,) = panel.get_lines()
        np.testing.assert_array_equal(line.get_xdata(), STEPS)
        np.testing.assert_array_equal(line.get_ydata(), values)
        assert panel.get_title() == metric.removeprefix("nfe/").replace("_", " ")
        assert panel.get_xscale() == "log"
    # Over more than a factor of ten, a linear axis would show the worst alone.
    assert [panel.get_yscale() for panel in chart.axes] == ["linear", "log"]


def test_each_operator_has_a_line_of_its_singular_values_from_the_first(tmp_path: Path) -> None:
    chart = _spectrum(_lines(artifacts(tmp_path) / SPECTRA, ("operator", "index", "singular_value")))
    (panel,) = chart.axes
    drawn = {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}  # type: ignore[arg-type]
    assert drawn == {name: ([1.0, 2.0, 3.0], values) for name, values in SPECTRUM.items()}
    assert panel.get_legend() is not None


def test_the_files_are_pictures_and_the_same_each_time(tmp_path: Path) -> None:
    folder = artifacts(tmp_path)
    found = trial_figures(folder)
    assert sorted(found) == ["spectrum.png", "steps.png"]
    assert all(min(Image.open(io.BytesIO(content)).size) > 400 for content in found.values())
    assert found == trial_figures(folder)


def test_what_a_trial_left_no_numbers_of_is_not_drawn(tmp_path: Path) -> None:
    assert sorted(trial_figures(artifacts(tmp_path, curves=False))) == ["spectrum.png"]
    assert trial_figures(tmp_path / "nothing") == {}


def test_curves_over_rank_have_a_figure_of_their_own(tmp_path: Path) -> None:
    curves = {"nfe/swd": Curve([1, 4], [0.5, 0.25]), "rank/test_swd": Curve([1, 64], [0.9, 0.3])}
    write_curves(tmp_path, curves)
    found = trial_figures(tmp_path)
    assert sorted(found) == ["ranks.png", "steps.png"]
    # As records were written that have both in one table.
    (tmp_path / RANKS).unlink()
    rows = [f"{metric},{x},{y}" for metric, curve in curves.items() for x, y in zip(curve.steps, curve.values)]  # noqa: B905
    (tmp_path / CURVES).write_text("\n".join(["metric,steps,value", *rows]))
    assert trial_figures(tmp_path) == found


def test_tables_without_a_number_are_not_drawn(tmp_path: Path) -> None:
    (tmp_path / CURVES).write_text("metric,steps,value\n")
    (tmp_path / SPECTRA).write_text("")
    assert trial_figures(tmp_path) == {}
