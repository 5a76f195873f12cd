"""What a program asks of the host while it runs: on a GPU each such question waits for all that was begun before it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["touches"]

WAITS = frozenset(
    {
        "_local_scalar_dense", "_linalg_check_errors", "_unique", "_unique2", "bincount", "equal", "masked_select", "nonzero",
        "unique_consecutive", "unique_dim",
    }
)  # fmt: skip
"""Operations of torch whose result, or its shape, the host must know. ``.item()``, ``bool()`` and the like end in the first."""

MAKES: Mapping[Callable[..., Any], str] = {
    torch.tensor: "torch.tensor",
    torch.as_tensor: "torch.as_tensor",
    torch.asarray: "torch.asarray",
    torch.from_numpy: "torch.from_numpy",
    Tensor.new_tensor: "new_tensor",
    Tensor.tolist: "tolist",
    Tensor.numpy: "numpy",
}
"""Calls that copy between host and device, also where the operations below them do not show it."""

OURS = str(Path(__file__).resolve())
TORCH = str(Path(torch.__file__).resolve().parent)


def _whose() -> str:
    """The innermost place outside of torch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename.startswith(TORCH) or frame.f_code.co_filename == OURS):
        frame = frame.f_back
    if frame is None:
        return "torch"
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}, line {frame.f_lineno}"


def _masks(found: object) -> bool:
    """Whether it indexes by a mask: how many it takes only the values say."""
    return isinstance(found, Sequence) and any(isinstance(t, Tensor) and t.dtype == torch.bool for t in found)


def _crosses(name: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> bool:
    """Whether it copies from one kind of device to another."""
    here = arguments[0].device.type if arguments and isinstance(arguments[0], Tensor) else None
    if name == "_to_copy":
        there = options.get("device")
        return there is not None and torch.device(there).type != here
    return name == "copy_" and isinstance(arguments[1], Tensor) and arguments[1].device.type != here


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, found: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        counted = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None and isinstance(args[-1], Tensor)
        masked = name in ("index", "index_put", "index_put_") and _masks(args[1])
        if name in WAITS or counted or masked or _crosses(name, args, kwargs or {}):
            self.found.append(f"{name} in {_whose()}")
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in MAKES:
            self.found.append(f"{MAKES[func]} in {_whose()}")
        return func(*args, **(kwargs or {}))


@contextmanager
def touches() -> Iterator[list[str]]:
    """While it lasts, its list gets each question to the host: the operation, and where it stands.

    Such are values that the host reads (``.item()``, ``bool(tensor)``), shapes that depend on values (masks as an index),
    tensors made of numbers of the host, and copies between devices. A CPU shows what a GPU would wait for.
    """
    found: list[str] = []
    with _Operations(found), _Calls(found):
        yield found
