"""The laws of an activation."""

from __future__ import annotations

import torch

from nasplug.testing.comparing import TOLERANCE, calm, gradients, same
from nasplug.testing.laws import Laws, probe

__all__ = ["ActivationLaws"]


class ActivationLaws(Laws):
    """For an activation: elementwise, finite, and the same in any process."""

    kind = "activation"

    def test_elementwise(self) -> None:
        """Each value depends on its own argument alone; shape and type stay."""
        function, z = self.component(), probe()
        for dtype in (torch.float32, torch.float64):
            values = function(z.to(dtype))
            assert values.shape == z.shape, f"elementwise law: shape {tuple(z.shape)} became {tuple(values.shape)}"
            assert values.dtype == dtype, f"elementwise law: {dtype} became {values.dtype}"
        alone = torch.stack([function(one.view(1))[0] for one in z.flatten()]).view(z.shape)
        same({"values": function(z)}, {"values": alone}, "elementwise law", TOLERANCE)

    def test_finite(self) -> None:
        """Values and slopes are finite between -10 and 10."""
        z = probe().requires_grad_()
        values = self.component()(z)
        assert bool(torch.isfinite(values).all()), "finite law: a value is not finite between -10 and 10"
        slopes = gradients(values, {"z": z})["z"]
        assert bool(torch.isfinite(slopes).all()), "finite law: a slope is not finite between -10 and 10"

    def test_what_it_says_of_its_slope(self) -> None:
        """``function.non_decreasing = True`` is true: monotone networks are built on it."""
        function = self.component()
        values = function(torch.linspace(-100.0, 100.0, 4001, dtype=torch.float64))
        if getattr(function, "non_decreasing", False):
            fall = float(values.diff().min())
            assert fall >= -TOLERANCE, f"monotone law: it says that it never decreases, and falls by {-fall:g}"

    def test_control_flow_reads_no_data(self) -> None:
        """It runs without data (torch's meta device): compile-safe."""
        values = calm("compile law, tensors without data", self.component(), probe().to("meta"))
        assert values.device.type == "meta", f"compile law: an argument on 'meta' gave a value on {values.device}"
