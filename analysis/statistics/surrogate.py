"""A Gaussian process fitted to values over the unit cube, and partial dependence with its uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from analysis.statistics.intervals import Array

LENGTHS = (0.05, 20.0)
"""Bounds of the length scales: below, points are independent of their neighbours; above, a direction has no effect."""
NOISE = (1e-6, 2.0)
"""Bounds of the noise variance, relative to the variance of the values."""
DEVIATIONS = 1.96


@dataclass(frozen=True)
class Dependence:
    """The mean prediction at each place, ``(places,)``, and half the widths of the 95 % intervals."""

    means: Array
    half_widths: Array


class Surrogate:
    """A Gaussian process fitted to ``values`` ``(n,)`` at ``points`` ``(n, columns)``.

    The kernel is Matérn 5/2 with a length scale per column; length scales, variance and noise maximise the likelihood.
    Raises ``ValueError`` for values that are not finite or all the same.
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
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound: no effect
            self.process = GaussianProcessRegressor(kernel).fit(points, (values - self.middle) / self.scale)

    @property
    def _signal(self) -> Any:
        """The covariance of the function, without the noise."""
        return self.process.kernel_.k1

    def left_out(self) -> float:
        """The share of the variance that is predicted in leave-one-out cross-validation; at least 0.

        It is computed from the inverse covariance (Rasmussen and Williams, 2006, equation 5.12), with the length scales
        fitted to all values.
        """
        y = np.asarray(self.process.y_train_)
        inverse = cho_solve((self.process.L_, True), np.eye(len(y)))
        missed = np.asarray(self.process.alpha_).ravel() / np.diag(inverse)
        return max(0.0, 1 - float(np.square(missed).sum() / np.square(y - y.mean()).sum()))

    def dependence(self, columns: Sequence[int], places: Array, background: Array) -> Dependence:
        """Partial dependence on some columns at ``places`` ``(places, columns)``, over ``background`` ``(m, columns)``.

        This is the prediction averaged over the background (Friedman, 2001), with the process's interval for that mean
        (Moosbauer et al., NeurIPS 2021).
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
