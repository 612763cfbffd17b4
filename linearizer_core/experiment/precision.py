"""Full float32: measurements and inverses are computed without TensorFloat-32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def whole_float32() -> Iterator[None]:
    """Within the context, float32 products and convolutions keep all 24 bits on every GPU; the setting is then
    restored.

    TensorFloat-32 keeps 11, and PyTorch lets convolutions use it by default.

    >>> with whole_float32():
    ...     torch.backends.cudnn.allow_tf32
    False
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
