"""A device that is not the CPU, for machines without one: tensors that hold numbers, say that they are elsewhere, and refuse to
meet those that are not.

Its name is ``meta``, a device that every torch has; here its tensors have values. As with a GPU, an operation on tensors of
two devices fails (but for a single number of the CPU's), ``.numpy()`` fails, and numbers cross by ``.to``, ``.cpu`` and
``.item`` alone. What it cannot show is a GPU's rounding, memory and speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
aten = torch.ops.aten
INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)


class Elsewhere(Tensor):
    """A tensor whose numbers are in ``held``, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        made: Elsewhere = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held!r})"

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.tolist:
            return args[0].held.tolist()
        if function is Tensor.numpy:
            raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first")
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


def run(function: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """An operation on the numbers, its result where its arguments are."""
    kwargs = dict(kwargs)
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    there = any(isinstance(t, Elsewhere) for t in tensors)
    moves = function in (aten._to_copy.default, aten.copy_.default)
    if there and not moves:
        stray = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim()]
        indices = function in (
            aten.index.Tensor,
            aten.index_put.default,
            aten.index_put_.default,
            aten._index_put_impl_.default,
        )
        if stray and not indices:  # a GPU's tensor may be indexed by the CPU's numbers
            raise RuntimeError(f"{function}: expected all tensors to be on one device, found {DEVICE} and cpu")
    wanted = kwargs.pop("device", None)
    if wanted is not None:
        kwargs["device"] = torch.device("cpu")
        there = torch.device(wanted).type == DEVICE
    elif function is aten.copy_.default:
        there = isinstance(args[0], Elsewhere)
    plain_args, plain_kwargs = tree_map(lambda t: t.held if isinstance(t, Elsewhere) else t, (args, kwargs))
    found = function(*plain_args, **plain_kwargs)
    first = function._schema.arguments[0].alias_info
    if first is not None and first.is_write:  # in place
        return args[0]
    if not there:
        return found
    return tree_map(lambda t: Elsewhere(t) if isinstance(t, Tensor) and not isinstance(t, Elsewhere) else t, found)


class _Factories(TorchDispatchMode):
    """Tensors that are made there at once."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


class _Given(TorchFunctionMode):
    """`torch.tensor` makes nothing of its numbers on this device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu").type == DEVICE:
            kwargs.pop("device")
            return function(*args, **kwargs).to(DEVICE)
        return function(*args, **kwargs)


@contextmanager
def other_device() -> Iterator[str]:
    """While it is open there is a second device, of that name."""
    with _Given(), _Factories():
        yield DEVICE
