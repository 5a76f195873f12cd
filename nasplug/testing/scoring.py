"""The laws of losses and metrics."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nasplug.replicas import normal
from nasplug.tasks import Kind, Loss, Metric, Split, Task, scored, variance
from nasplug.testing.comparing import TOLERANCE, row_of, same
from nasplug.testing.examples import example_task
from nasplug.testing.laws import Laws

__all__ = ["LossLaws", "MetricLaws"]

ROWS = 4


def _counted(split: Split) -> tuple[Tensor, Split]:
    """Counts 0, 1, 2, 0, ... of the samples, and the samples that often."""
    counts = torch.arange(split.samples) % 3
    return counts.double(), split.columns(torch.arange(split.samples).repeat_interleave(counts))


class LossLaws(Laws):
    """Laws of a `nasplug.tasks.Loss`."""

    kind = "loss"

    def component(self) -> Loss:
        """A fresh loss."""
        made: Loss = super().component()
        return made

    def tasks(self) -> list[Task]:
        """A task with this loss for each kind that it is for; targets of regressions are between 0 and 3."""
        found = []
        for kind in sorted(self.component().kinds):
            task = example_task(kind)
            if kind == "regression":
                parts = {
                    name: replace(getattr(task, name), y=getattr(task, name).y + 1.0) for name in ("train", "valid", "test")
                }
                task = replace(task, **parts)
            found.append(scored(task, self.component(), {}))
        return found

    def outputs(self, task: Task) -> Tensor:
        """Some of ``ROWS`` networks, ``(K, O, N)``."""
        return normal(torch.arange(ROWS), "outputs", (task.outputs, task.train.samples)).double()

    def test_shape(self) -> None:
        """One finite number per network and sample, also for large outputs."""
        for task in self.tasks():
            for scale in (1.0, 100.0):
                outputs = scale * self.outputs(task)
                point, targets = task.loss.point(outputs), task.outputs // len(task.loss.outputs)
                wanted = (ROWS, targets, task.train.samples)
                assert tuple(point.shape) == wanted, f"loss law: point has the shape {tuple(point.shape)}, needed {wanted}"
                value = task.loss(outputs, task.train.y)
                assert tuple(value.shape) == (ROWS, task.train.samples), f"loss law: shape {tuple(value.shape)}, needed (K, B)"
                assert bool(torch.isfinite(value).all()), f"loss law: not finite for outputs of the size {scale:g}"

    def test_per_sample(self) -> None:
        """The value of a network on a sample reads those alone."""
        for task in self.tasks():
            outputs, y = self.outputs(task), task.train.y
            whole = task.loss(outputs, y)
            for k in range(ROWS):
                same({"loss": task.loss(outputs[k : k + 1], y)}, {"loss": whole[k : k + 1]}, f"row law, row {k}", TOLERANCE)
            some = torch.tensor([5, 2])
            same({"loss": task.loss(outputs[..., some], y[..., some])}, {"loss": whole[:, some]}, "sample law", TOLERANCE)
            own = task.loss(outputs, y.expand(ROWS, *y.shape))
            same({"loss": own}, {"loss": whole}, "loss law, targets of each row's own", TOLERANCE)

    def test_gradient_is_finite(self) -> None:
        """Also where outputs equal targets, and where they are large."""
        for task in self.tasks():
            zero = torch.zeros_like(self.outputs(task))
            for outputs in (self.outputs(task), zero, 100.0 * self.outputs(task)):
                leaf = outputs.clone().requires_grad_()
                (slope,) = torch.autograd.grad(task.losses(leaf, task.train.y).sum(), leaf)
                assert bool(torch.isfinite(slope).all()), "gradient law: a slope is not finite"

    def test_constant_is_best(self) -> None:
        """No constant near `Loss.constant` has less loss, up to a thousandth of it, with weights and without."""
        for task in self.tasks():
            counts, _ = _counted(task.train)
            for weights in (None, counts):
                one = replace(task, train=replace(task.train, weights=weights))
                best = one.constant.double()
                assert tuple(best.shape) == (1, task.outputs), f"constant law: shape {tuple(best.shape)}, needed (O,)"
                moved = torch.cat([best, *(best + step * torch.eye(task.outputs) for step in (0.2, -0.2))])
                outputs = moved.unsqueeze(-1).expand(-1, -1, task.train.samples)
                loss = task.losses(outputs, task.train.y, weights)
                slack = 0.05 * variance(outputs.new_tensor([[0.0, 0.2]])) + 1e-3 * loss[0].abs()
                assert bool((loss[1:] >= loss[0] - slack).all()), "constant law: another constant has less loss"


class MetricLaws(Laws):
    """Laws of a `nasplug.tasks.Metric`."""

    kind = "metric"

    def component(self) -> Metric:
        """A fresh metric."""
        made: Metric = super().component()
        return made

    def cases(self) -> list[tuple[Kind, Tensor, Split]]:
        """Kind, what networks say ``(K, O, N)`` and the data, for each kind that it is for."""
        found = []
        for kind in sorted(self.component().kinds):
            task = example_task(kind)
            outputs = normal(torch.arange(ROWS), "outputs", (task.outputs, task.valid.samples)).double()
            found.append((kind, task.loss.point(outputs), task.valid))
        return found

    def test_value(self) -> None:
        """``(K,)``, finite for finite predictions; NaN, or what it is without them, for others."""
        for kind, said, split in self.cases():
            value = self.component()(said, split.y)
            assert tuple(value.shape) == (ROWS,), f"metric law: shape {tuple(value.shape)} on {kind}, needed (K,)"
            assert bool(torch.isfinite(value).all()), f"metric law: {value.tolist()} on {kind}"

    def test_row_law(self) -> None:
        """A network's value is its own."""
        for _, said, split in self.cases():
            weights = normal(torch.arange(ROWS), "weights", (split.samples,)).double().abs()
            for own in (None, weights):
                whole = {"metric": self.component()(said, split.y, own)}
                for k in range(ROWS):
                    alone = self.component()(said[k : k + 1], split.y, None if own is None else own[k])
                    same({"metric": alone}, row_of(whole, k), f"row law, row {k}", TOLERANCE)

    def test_weights(self) -> None:
        """A weight of 2 is a sample twice, and one of 0 no sample."""
        for _, said, split in self.cases():
            counts, many = _counted(split)
            index = torch.arange(split.samples).repeat_interleave(counts.long())
            found = self.component()(said, split.y, counts)
            same({"metric": found}, {"metric": self.component()(said[..., index], many.y)}, "weights law", TOLERANCE)

    def test_direction(self) -> None:
        """Right predictions are not worse than random ones, as ``higher`` has it."""
        for kind, said, split in self.cases():
            y = split.y
            right = torch.nn.functional.one_hot(y, said.shape[1]).T.double() if kind == "classes" else y
            best = self.component()(right.unsqueeze(0), y)
            value = self.component()(said, y)
            good = (best >= value - 1e-9) if self.component().higher else (best <= value + 1e-9)
            assert bool(good.all()), f"direction law: right predictions give {float(best[0]):g}, random ones {value.tolist()}"
