"""A function that tests hand to a launch."""

from __future__ import annotations

from dataclasses import dataclass

from linearizer_core.experiment.function import Report


@dataclass(frozen=True)
class Settings:
    rate: float = 0.5


def train(config: Settings, report: Report) -> None:
    for step in range(1, report.steps + 1):
        report(step=step, accuracy=config.rate * step)
