"""Inputs of one column counted as one: whoever asks first."""

from __future__ import annotations

import torch

from nasplug.groups import norms
from nasplug.signs import reflected


def test_what_is_kept_of_a_look_without_gradients_is_used_with_them() -> None:
    groups, ways = (0, 0, 1, 1, 1, 2, 0), (1, 0, -1, 1, 1, 0, 0)  # asked for by nobody before
    w = torch.ones(2, 3, 7)
    with torch.inference_mode():
        norms(w, groups)
        reflected(w, (1, 0), (7, 3), ways)
    w.requires_grad_()
    (norms(w, groups).sum() + reflected(w, (1, 0), (7, 3), ways).sum()).backward()
    assert w.grad is not None
    assert bool(torch.isfinite(w.grad).all())
