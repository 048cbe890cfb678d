"""Checkpoints as files: tensors and plain values are read, no code is run, and what is something else is called by name."""

import re
import zipfile
from typing import Any

import torch

from vdet_ssl.errors import CheckpointError

# Where a checkpoint has its weights: ours and detectron2's, Lightning's and many others', PySlowFast's and pycls'.
_WEIGHTS = ("model", "state_dict", "model_state", "model_state_dict")
_WHAT_TO_DO = "save its weights alone, torch.save(model.state_dict(), path), and give that file"
_MAGIC = (  # first bytes -> what the file is, and what to do
    (b"version https://git-lfs", "is Git LFS' pointer to a file, not the file: fetch that with git lfs pull"),
    (b"\x89HDF", "is an HDF5 file (Keras, say): convert it to a state dict of torch's"),
    (b"\x1f\x8b", "is compressed with gzip: unpack it"),
    (b"<", "is a web page: what was downloaded is not the checkpoint"),
    (b"\x93NUMPY", "is a numpy array: a checkpoint has the name of each"),
)


def read_checkpoint(path: str, name: str = "") -> dict[str, Any]:
    """Read a checkpoint of torch's onto the CPU: a dict with the weights as "model", and what else it holds.

    The weights may also be called "state_dict" (Lightning), "model_state" (PySlowFast) or be all that there is; what
    stands beside these is left out.

    Args:
        path: of a file on this machine.
        name: of the file in messages; default: its path.
    Raises:
        CheckpointError: it is not such a file; the message says what it is, and what to do.
    """
    name = name or path
    _refuse_other_formats(path, name)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{name}: {_problem(error)}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{name} holds a {type(loaded).__name__}, not a state dict (name -> tensor): {_WHAT_TO_DO}"
        )
    key = next((key for key in _WEIGHTS if key in loaded), None)
    return loaded if key == "model" else {"model": loaded if key is None else loaded[key]}


def check_weights(weights: Any, name: str) -> dict[str, torch.Tensor]:
    """Return a state dict without the prefixes of torch.compile ("_orig_mod.") and DistributedDataParallel ("module.").

    Raises:
        CheckpointError: it is not a state dict.
    """
    if not isinstance(weights, dict) or not weights:
        raise CheckpointError(f"{name}: its weights are not a state dict (name -> tensor): {_WHAT_TO_DO}")
    for key, value in weights.items():
        if not isinstance(key, str) or not _is_plain_tensor(value):
            raise CheckpointError(
                f"{name}: its weights are not a state dict (name -> tensor): {key!r} is {_kind(value)}; {_WHAT_TO_DO}"
            )
    return {re.sub(r"^(module\.)+", "", key.replace("_orig_mod.", "")): tensor for key, tensor in weights.items()}


def _is_plain_tensor(value: Any) -> bool:
    """Whether a value can be copied into a parameter."""
    if not isinstance(value, torch.Tensor) or value.is_nested or value.is_meta or value.is_quantized:
        return False
    return value.layout == torch.strided and not value.is_complex()


def _kind(value: Any) -> str:
    return (
        "a tensor of another kind than a parameter" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
    )


def _refuse_other_formats(path: str, name: str) -> None:
    """Raise CheckpointError for what is not a file of torch.save, going by its ending and its first bytes."""
    with open(path, "rb") as file:
        head = file.read(64)
    what = next((what for magic, what in _MAGIC if head.lstrip().startswith(magic)), "")
    if not head:
        what = "is empty: its writing was interrupted; take another copy"
    elif path.endswith(".onnx"):
        what = "is an ONNX graph: give the checkpoint of torch's that it was exported from"
    elif path.endswith(".safetensors") or head[8:9] == b"{":
        what = "is a safetensors file: save safetensors.torch.load_file(path) with torch.save, and give that file"
    elif head.startswith(b"PK"):
        what = _other_archive(path)
    if what:
        raise CheckpointError(f"{name} {what}")


def _other_archive(path: str) -> str:
    """Say what a zip archive is, if it is not one of torch.save; "" if it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.partition("/")[2] or entry for entry in archive.namelist()}
    except Exception:  # noqa: BLE001 - zipfile raises many kinds for a damaged file, and torch.load says what is wrong
        return ""
    if "constants.pkl" in entries or any(entry.startswith("code/") for entry in entries):
        return "is a TorchScript archive (torch.jit.save), which holds code: " + _WHAT_TO_DO
    return "" if "data.pkl" in entries else "is a zip archive, not one of torch.save: unpack it, or " + _WHAT_TO_DO


def _problem(error: Exception) -> str:
    """Say in one line why torch.load could not read a file; its own advice, to load it unsafely, is not given."""
    unsafe = re.search(r"GLOBAL ([\w.]+)", str(error))
    if unsafe:
        return f"it holds objects of {unsafe[1]}, and reading these could run any code: {_WHAT_TO_DO}"
    return "not a checkpoint of tensors and plain values, or a damaged one: take another copy of it"
