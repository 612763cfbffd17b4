"""Image sets with fixed splits, from files or from scikit-learn."""

from linearizer_core.experiment.data.errors import DataError
from linearizer_core.experiment.data.images import Images, StreamedImages, TensorImages
from linearizer_core.experiment.data.named import ImageData, load, locate, place_of, root_of
from linearizer_core.experiment.data.order import epoch_order

__all__ = [
    "DataError",
    "ImageData",
    "Images",
    "StreamedImages",
    "TensorImages",
    "epoch_order",
    "load",
    "locate",
    "place_of",
    "root_of",
]
