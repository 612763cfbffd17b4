"""A Gaussian process of values over the unit cube, and partial dependence with its uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from analysis.statistics.intervals import Array

LENGTHS = (0.05, 20.0)
"""Bounds of the length scales: below, one point says nothing of its neighbours; above, a direction does not matter."""
NOISE = (1e-6, 2.0)
"""Bounds of the variance of the noise, in that of the values."""
DEVIATIONS = 1.96


@dataclass(frozen=True)
class Dependence:
    """The mean prediction at each place, ``(places,)``, and half the width of its 95 % interval."""

    means: Array
    half_widths: Array


class Surrogate:
    """A Gaussian process of ``values`` ``(n,)`` at ``points`` ``(n, columns)``: Matérn 5/2, a length for each column.

    Lengths, variance and noise are those of the largest likelihood. Raises ``ValueError`` for values that are not
    finite or all the same.
    """

    def __init__(self, points: Array, values: Array) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        if not np.isfinite(values).all() or np.ptp(values) == 0:
            raise ValueError("values must be finite, and not all the same")
        self.points = points
        self.middle, self.scale = float(values.mean()), float(values.std())
        signal = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(np.ones(points.shape[1]), LENGTHS, nu=2.5)
        kernel = signal + WhiteKernel(0.1, NOISE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: that direction does not matter
            self.process = GaussianProcessRegressor(kernel).fit(points, (values - self.middle) / self.scale)

    @property
    def _signal(self) -> Any:
        """The covariance of the function, without the noise."""
        return self.process.kernel_.k1

    def left_out(self) -> float:
        """The share of the variance that is predicted of each value when it is left out; 0 where none is.

        From the inverse of the covariance (Rasmussen and Williams, 2006, equation 5.12), with the fitted lengths.
        """
        y = np.asarray(self.process.y_train_)
        inverse = cho_solve((self.process.L_, True), np.eye(len(y)))
        missed = np.asarray(self.process.alpha_).ravel() / np.diag(inverse)
        return max(0.0, 1 - float(np.square(missed).sum() / np.square(y - y.mean()).sum()))

    def dependence(self, columns: Sequence[int], places: Array, background: Array) -> Dependence:
        """Partial dependence on some columns at ``places`` ``(places, columns)``, over ``background`` ``(m, columns)``.

        The mean over the background of the prediction, as Friedman (2001) has it, with the interval of the process for
        that mean (Moosbauer et al., NeurIPS 2021).
        """
        means, halves = [], []
        for place in places:
            at = background.copy()
            at[:, list(columns)] = place
            beside = self._signal(at, self.points).mean(axis=0)
            told = solve_triangular(self.process.L_, beside, lower=True)
            means.append(float(beside @ np.asarray(self.process.alpha_).ravel()))
            halves.append(DEVIATIONS * np.sqrt(max(float(self._signal(at).mean() - told @ told), 0.0)))
        return Dependence(self.middle + self.scale * np.array(means), self.scale * np.array(halves))
