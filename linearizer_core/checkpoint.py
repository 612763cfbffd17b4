"""Saving and loading models as safetensors and JSON, so that files from elsewhere cannot run code."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from linearizer_core.errors import LinsweepError
from linearizer_core.files import whole, write_whole

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
DIGEST = "weights_sha256"
OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""The pattern in which safetensors reports an operating-system error."""
CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "float32": nn.Module.float,
    "float64": nn.Module.double,
    "float16": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
}
"""Converts a module's floating-point tensors, and no others, to one of the dtypes that checkpoints support."""

Built = TypeVar("Built", bound=nn.Module)


class CheckpointError(LinsweepError, ValueError):
    """A checkpoint cannot be read."""


def save(folder: Path | str, model: nn.Module, arguments: Mapping[str, Any]) -> None:
    """Write a model's weights, and the plain ``arguments`` that it was built from, into ``folder``.

    ``model.safetensors`` holds the weights, ``config.json`` the arguments, which must be JSON values. Networks that a
    model contains twice are written once. Raises ``TypeError`` for arguments that are not JSON values, for a model
    whose floating-point tensors do not all have the same dtype (float16, bfloat16, float32 or float64), and for complex
    tensors.

    >>> import json, tempfile, linearizer_core as lc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lc.checkpoint.save(folder, lc.flows.coupling((4,), depth=1, width=8), {"depth": 1})
    ...     record = json.loads((Path(folder) / "config.json").read_text())
    >>> record["dtype"], record["arguments"]
    ('float32', {'depth': 1})
    """
    write(folder, model, {"format": FORMAT}, {"arguments": dict(arguments)})


def load(folder: Path | str, build: Callable[..., Built], device: torch.device | str = "cpu") -> Built:
    """Load a model that ``save`` wrote, in evaluation mode: ``build(**arguments)`` with the saved weights.

    Raises ``CheckpointError`` naming the file and what is wrong with it.

    >>> import tempfile, torch, linearizer_core as lc
    >>> def build(dim, rank):
    ...     return lc.Linearizer(lc.flows.coupling((dim,), depth=2, width=8), lc.operators.low_rank(dim, rank))
    >>> arguments = {"dim": 4, "rank": 2}
    >>> f, x = build(**arguments), torch.randn(3, 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lc.checkpoint.save(folder, f, arguments)
    ...     again = lc.checkpoint.load(folder, build)
    >>> torch.equal(again(x), f(x))
    True
    """

    def model_of(record: dict[str, Any]) -> Built:
        return build(**record["arguments"])

    return read(folder, FORMAT, model_of).to(device).eval()


def write(folder: Path | str, model: nn.Module, head: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
    """Write a model's weights, and a JSON record: ``head``, the weights' dtype and digest, and the ``rest``.

    ``head`` has the key ``format``. Raises ``TypeError`` like ``save``, and ``OSError`` naming a file that cannot be
    written; the folder is then not a checkpoint.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder, nn.Linear(2, 1), {"format": 7}, {"name": "a"})
    ...     record = json.loads((Path(folder) / CONFIG).read_text())
    >>> list(record)
    ['format', 'dtype', 'weights_sha256', 'name']
    """
    folder = Path(folder)
    head = {**head, "dtype": _dtype_name(model)}
    json.dumps({**head, **rest})  # refuse values that are not JSON before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    # The configuration makes the folder a checkpoint, so it is removed first and written last.
    (folder / CONFIG).unlink(missing_ok=True)
    with whole(folder / WEIGHTS) as temporary:
        try:
            # A copy has its own tensors, whereas the model's can be views of a larger one, as in training. A network
            # shared by g_x and g_y is written once.
            save_model(copy.deepcopy(model), str(temporary))
        except SafetensorError as error:
            code = OS_ERROR.search(str(error))
            number = int(code[1]) if code else errno.EIO
            raise OSError(number, os.strerror(number) if code else str(error)) from None
        digest = _digest(temporary)
    write_whole(folder / CONFIG, json.dumps({**head, DIGEST: digest, **rest}, indent=2) + "\n")


def read(folder: Path | str, version: int, build: Callable[[dict[str, Any]], Built]) -> Built:
    """The model that ``build`` makes from the record, on the CPU, in the record's dtype and with the saved weights.

    Raises ``CheckpointError`` naming the file and what is wrong with it.

    >>> import tempfile
    >>> model = nn.Linear(2, 1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(folder, model, {"format": 7}, {"sides": [2, 1]})
    ...     again = read(folder, 7, lambda record: nn.Linear(*record["sides"]))
    >>> torch.equal(again.weight, model.weight)
    True
    """
    folder = Path(folder)
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text())
        if record["format"] != version:
            other = _reader_of_others(record, version)
            raise CheckpointError(f"{path}: format {record['format']}, this version reads format {version}{other}")
        if record["dtype"] not in CASTS:
            raise ValueError(f"dtype {record['dtype']!r} is not supported; use one of {', '.join(CASTS)}")
        model = build(record)
        CASTS[record["dtype"]](model)
    except CheckpointError:
        raise
    except (OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint's configuration: {error}") from error
    try:
        _check_digest(record, folder / WEIGHTS)
        _check_dtypes(model, folder / WEIGHTS)
        load_model(model, folder / WEIGHTS)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not the weights of the model in {CONFIG}: {error}") from error
    return model


def _dtype_name(model: nn.Module) -> str:
    """The common dtype of the model's floating-point tensors as a name, such as ``float32``, the default if it has
    none.

    Raises ``TypeError`` for tensors that ``read`` could not restore.
    """
    tensors = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    found: dict[torch.dtype, str] = {}
    for name, tensor in tensors.items():
        if tensor.is_complex():  # safetensors drops the conjugation of conjugated views, and has no complex128
            raise TypeError(f"{name} is {tensor.dtype}, but checkpoints hold real tensors only; use torch.view_as_real")
        if tensor.is_floating_point():
            found.setdefault(tensor.dtype, name)
    if len(found) > 1:
        several = " and ".join(f"{name} is {dtype}" for dtype, name in found.items())
        raise TypeError(f"{several}, but a checkpoint's floating-point tensors must have the same dtype")
    dtype = next(iter(found), torch.float32)
    short = str(dtype).removeprefix("torch.")
    if short not in CASTS:
        raise TypeError(
            f"{found[dtype]} is {dtype}, but a checkpoint's floating-point tensors must be {', '.join(CASTS)}"
        )
    return short


def _reader_of_others(record: Mapping[str, Any], version: int) -> str:
    """A hint at the right function when a library's checkpoint is read as a trial's, or the reverse."""
    if version == FORMAT and "config" in record:
        return "; this is a trial's checkpoint, use linearizer_core.experiment.checkpoint.load"
    if version != FORMAT and "arguments" in record:
        return "; this is a library's checkpoint, use linearizer_core.checkpoint.load"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(record: Mapping[str, Any], path: Path) -> None:
    """Raise ``ValueError`` if the weights are not those that were saved; older checkpoints have no digest."""
    if DIGEST in record and record[DIGEST] != _digest(path):
        raise ValueError("its SHA-256 differs from the saved one")


def _check_dtypes(model: nn.Module, path: Path) -> None:
    """Raise ``ValueError`` for weights that would be converted silently."""
    expected = model.state_dict()
    with safe_open(path, "pt") as file:
        names = file.keys()
        for name in names:
            dtype = file.get_tensor(name).dtype
            if name in expected and dtype != expected[name].dtype:
                raise ValueError(f"{name} is {dtype}, but the model's is {expected[name].dtype}")
