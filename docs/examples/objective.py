"""A function of your own: a scikit-learn perceptron on the digits."""

from dataclasses import dataclass

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from linearizer_core import plugins
from linearizer_core.experiment.function import Report


@dataclass(frozen=True)
class Settings:
    rate: float = plugins.setting(1e-3, "learning rate", gt=0, le=1)
    width: int = plugins.setting(32, "hidden units", ge=1, le=1024)


def train(config: Settings, report: Report) -> dict[str, float]:
    """Accuracy on the last 450 digits after each pass over the others."""
    images, labels = load_digits(return_X_y=True)
    images = images / 16
    model = MLPClassifier((config.width,), learning_rate_init=config.rate, random_state=report.seed)
    for step in range(1, report.steps + 1):
        model.partial_fit(images[:-450], labels[:-450], classes=range(10))
        report(step=step, accuracy=model.score(images[-450:], labels[-450:]), loss=model.loss_)
    return {"parameters": float(sum(each.size for each in [*model.coefs_, *model.intercepts_]))}
