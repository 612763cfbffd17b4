"""A callback that records the size of the weights in every epoch, and lists the largest at the end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linearizer_core import plugins
from linearizer_core.experiment.callbacks import Callback


@plugins.callback("weights")
class Weights(Callback):
    """Records train/weights/norm by epoch and weights/largest at the end, and writes weights/largest.txt."""

    keys = ("largest",)

    def epoch(self, epoch: int, metrics: Mapping[str, float], model: Any) -> Mapping[str, float]:
        return {"norm": sum(float(each.detach().square().sum()) for each in model.parameters()) ** 0.5}

    def end(self, summary: Mapping[str, float], model: Any, folder: Path) -> Mapping[str, float]:
        largest = {name: float(each.detach().abs().max()) for name, each in model.named_parameters()}
        ranked = sorted(largest.items(), key=lambda pair: -pair[1])
        (folder / "largest.txt").write_text("\n".join(f"{value:.4g} {name}" for name, value in ranked[:10]))
        return {"largest": ranked[0][1]}
