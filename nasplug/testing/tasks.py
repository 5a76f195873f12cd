"""The laws of a task."""

from __future__ import annotations

import torch

from nasplug.errors import ConfigError
from nasplug.tasks import Split, Task
from nasplug.testing.comparing import same
from nasplug.testing.laws import Laws

__all__ = ["TaskLaws"]


class TaskLaws(Laws):
    """Laws of a factory of `nasplug.tasks.Task`."""

    kind = "task"

    def component(self) -> Task:
        """The task, made afresh."""
        made: Task = super().component()
        return made

    def test_can_be_learned(self) -> None:
        """`Task.check` has nothing to say: no empty split, all numbers finite, a target that varies."""
        try:
            self.component().check()
        except ConfigError as error:
            raise AssertionError(f"task law: {error}") from error

    def test_shapes(self) -> None:
        """Samples are columns; names, shifts and scales are as many as inputs and outputs; scales are positive."""
        task = self.component()
        targets = {"regression": task.outputs, "binary": 2, "classes": task.outputs}[task.kind]
        if task.kind == "binary":
            assert task.outputs == 1, f"task law: a binary task has one output, not {task.outputs}"
        assert len(task.features) == task.inputs, f"task law: {len(task.features)} features for {task.inputs} inputs"
        assert len(task.targets) == targets, f"task law: {len(task.targets)} targets, needed {targets}"
        for name, split in (("train", task.train), ("valid", task.valid), ("test", task.test)):
            assert split.x.is_floating_point(), f"task law: {name}.x is {split.x.dtype}"
            assert tuple(split.x.shape) == (task.inputs, split.samples), f"task law: {name}.x is {tuple(split.x.shape)}"
            if task.kind == "classes":
                assert split.y.dtype == torch.long, f"task law: {name}.y holds classes and is {split.y.dtype}, not long"
                assert tuple(split.y.shape) == (split.samples,), f"task law: {name}.y is {tuple(split.y.shape)}"
                inside = (split.y >= 0) & (split.y < task.outputs)
                assert bool(inside.all()), f"task law: {name}.y has classes outside 0..{task.outputs - 1}"
            else:
                assert split.y.is_floating_point(), f"task law: {name}.y is {split.y.dtype}"
                wanted = (task.outputs, split.samples)
                assert tuple(split.y.shape) == wanted, f"task law: {name}.y is {tuple(split.y.shape)}, needed {wanted}"
            if task.kind == "binary":
                assert bool(((split.y == 0) | (split.y == 1)).all()), f"task law: {name}.y has labels other than 0 and 1"
            if split.weights is not None:
                found = tuple(split.weights.shape)
                assert found == (split.samples,), f"task law: {name}.weights is {found}, needed {(split.samples,)}"
        for what, tensor, size in (
            ("input_shift", task.input_shift, task.inputs),
            ("input_scale", task.input_scale, task.inputs),
            ("output_shift", task.output_shift, task.outputs),
            ("output_scale", task.output_scale, task.outputs),
        ):
            assert tuple(tensor.shape) == (size,), f"task law: {what} is {tuple(tensor.shape)}, needed {(size,)}"
            assert bool(torch.isfinite(tensor).all()), f"task law: {what} is not finite"
        assert bool((task.input_scale > 0).all() and (task.output_scale > 0).all()), "task law: a scale is not positive"

    def test_loss_fits_the_kind(self) -> None:
        """The loss is one the kind can have, and is ``(K,)`` and finite for the zero predictor on every split."""
        task = self.component()
        fits = sorted(task.loss.kinds)
        assert task.kind in fits, f"task law: loss {task.loss} on a {task.kind} task; it is for {fits}"
        for split in (task.train, task.valid, task.test):
            loss = task.losses(split.x.new_zeros(2, task.outputs, split.samples), *split.batch[1:])
            assert tuple(loss.shape) == (2,), f"task law: losses of 2 networks have shape {tuple(loss.shape)}"
            assert bool(torch.isfinite(loss).all()), f"task law: the zero predictor's loss is {loss.tolist()}"

    def test_makes_the_same_digest(self) -> None:
        """Made twice it is the same content: numbers, shifts, scales and names; that is what a study is resumed by."""
        one, other = self.component(), self.component()
        assert one.digest == other.digest, "digest law: made twice from the same options it has two digests"
        for name in ("features", "targets", "kind", "loss", "image"):
            first, second = getattr(one, name), getattr(other, name)
            assert first == second, f"digest law: {name} is {first!r} once and {second!r} then"
        for name in ("input_shift", "input_scale", "output_shift", "output_scale"):
            same({name: getattr(other, name)}, {name: getattr(one, name)}, "digest law")

    def test_splits_share_no_sample(self) -> None:
        """Where no training sample occurs twice, none of them is in another split: else the scores are not held out."""
        task = self.component()

        def rows(split: Split) -> list[bytes]:
            y = split.y.view(-1, split.samples).to(split.x.dtype)
            return [row.numpy().tobytes() for row in torch.cat([split.x, y]).T.contiguous()]

        seen = set(found := rows(task.train))
        if len(seen) < len(found):
            return  # data of few distinct samples, as a truth table: they come again everywhere
        for name, split in (("valid", task.valid), ("test", task.test)):
            again = sum(row in seen for row in rows(split))
            assert again == 0, f"split law: {again} of {split.samples} samples of {name} are training samples too"
