"""The laws of a discretizer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nasplug import networks
from nasplug.contracts import Certifying, Discretizer, Score
from nasplug.networks import Networks
from nasplug.tasks import Task, stack
from nasplug.testing.comparing import HARD, TOLERANCE, calm, equal, filled, fits, row_of, same, spoil, tensors_of, without
from nasplug.testing.examples import ExampleScore, example_networks, example_score, weighted
from nasplug.testing.laws import NeedsLaws

__all__ = ["DiscretizerLaws"]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A score that writes down how many networks it was asked about."""

    score: Score
    asked: list[int]

    @property
    def task(self) -> Task:
        return self.score.task

    def take(self, index: Tensor) -> Score:
        return _Watched(self.score.take(index), self.asked)

    def __call__(self, nets: Networks) -> Tensor:
        self.asked.append(nets.replicas)
        return self.score(nets)


class DiscretizerLaws(NeedsLaws):
    """Laws of a `nasplug.contracts.Discretizer`."""

    kind = "discretizer"

    def component(self) -> Discretizer:
        """A fresh discretizer."""
        made: Discretizer = super().component()
        return made

    def score(self, nets: Networks) -> Score:
        """The validation loss for these networks: a function of each row alone."""
        return example_score(nets.widths)

    def broken(self, nets: Networks, row: int) -> list[Networks]:
        """The networks with one row broken: all NaN, a NaN weight, and weights so large that its loss overflows."""
        edge = next(iter(nets.blocks))
        one = nets.blocks[edge].clone()
        one[row, 0, 0] = torch.nan
        huge = {e: w.clone() for e, w in nets.blocks.items()}
        for w in huge.values():
            w[row] *= 1e200
        return [
            nets.map(lambda t: spoil(t, row)),
            replace(nets, blocks={**nets.blocks, edge: one}),
            replace(nets, blocks=huge),
        ]

    def _touched(self, before: Networks, after: Networks) -> dict[str, Tensor]:
        """Gates and choices that it needs, made or changed."""
        needs = self.component().needs
        old = tensors_of(before)
        return {
            name: tensor
            for name, tensor in tensors_of(after).items()
            if (part := name.split("[")[0]) in HARD and (part in needs or name not in old or not equal(old[name], tensor))
        }

    def test_output_is_hard(self) -> None:
        """Gates it touches are exactly 0 or 1 and choices one-hot, in broken rows too; the record fits its skeleton."""
        component = self.component()
        for nets in self.examples():
            for case in (nets, filled(nets, 0.5), *self.broken(nets, 1)):
                after = calm("discretizer law", component, case, self.score(case))
                fits(after, "discretizer law")
                assert after.widths == nets.widths, f"discretizer law: widths {nets.widths} became {after.widths}"
                for name, tensor in self._touched(case, after).items():
                    hard = (tensor == 0) | (tensor == 1)
                    assert bool(hard.all()), f"discretizer law: {name} has entries that are neither 0 nor 1"
                    if name.startswith("choices"):
                        assert bool((tensor.sum(-1) == 1).all()), f"discretizer law: {name} is not one-hot"

    def test_idempotent(self) -> None:
        """Running it twice changes nothing more."""
        component = self.component()
        for nets in self.examples():
            for case in (nets, *self.broken(nets, 1)):
                once = component(case, self.score(case))
                twice = component(once, self.score(case))
                same(tensors_of(twice), tensors_of(once), "idempotence law")

    def test_row_law(self) -> None:
        """A pack's result is its rows' alone."""
        component = self.component()
        for nets in self.examples():
            pack = tensors_of(component(nets, self.score(nets)))
            for k in range(nets.replicas):
                alone = component(networks.take(nets, torch.tensor([k])), self.score(nets))
                same(row_of(pack, k), tensors_of(alone), f"row law, row {k}", TOLERANCE)

    def test_row_law_with_data_of_its_own(self) -> None:
        """So it is where each network has its own data, ``x (K, I, N)``; subsets of rows are scored by ``score.take``."""
        component = self.component()
        for nets in self.examples():
            k = nets.replicas
            own = ExampleScore(stack([example_score(nets.widths, seed=row).task for row in range(k)], range(k)))
            pack = tensors_of(calm("row law, data of its own", component, nets, own))
            for row in range(k):
                alone = component(networks.take(nets, torch.tensor([row])), own.take(torch.tensor([row])))
                same(row_of(pack, row), tensors_of(alone), f"row law, data of its own, row {row}", TOLERANCE)
                shared = component(networks.take(nets, torch.tensor([row])), example_score(nets.widths, seed=row))
                same(
                    tensors_of(alone), tensors_of(shared), f"row law, data of its own against shared data, row {row}", TOLERANCE
                )

    def test_row_law_with_weights(self) -> None:
        """So it is where each network has its own sample weights, ``(K, N)``: alone with its ``(N,)`` it is the same."""
        component = self.component()
        for nets in self.examples():
            task = weighted(example_score(nets.widths).task, nets.replicas)
            pack = tensors_of(calm("row law, sample weights", component, nets, ExampleScore(task)))
            for row in range(nets.replicas):
                index = torch.tensor([row])
                one = task.take(index)
                own = [replace(split, weights=w[0]) for split in one.splits[:2] if (w := split.weights) is not None]
                alone = component(networks.take(nets, index), ExampleScore(replace(one, train=own[0], valid=own[1])))
                same(row_of(pack, row), tensors_of(alone), f"row law, sample weights, row {row}", TOLERANCE)

    def test_isolation(self) -> None:
        """A row with weights or a loss that are not finite raises nothing and leaves the others as they are, bit by bit."""
        component = self.component()
        for nets in self.examples():
            clean = tensors_of(component(nets, self.score(nets)))
            for case in self.broken(nets, 1):
                dirty = calm("isolation law, a broken row", component, case, self.score(case))
                same(without(tensors_of(dirty), 1), without(clean, 1), "isolation law")

    def test_certified(self) -> None:
        """`Certifying` alone: ``certified`` makes what the call makes, and says of each network a verdict in plain data."""
        component = self.component()
        if not isinstance(component, Certifying):
            return
        for nets in self.examples():
            for case in (nets, *self.broken(nets, 1)):
                after, found = calm("certificate law", component.certified, case, self.score(case))
                same(tensors_of(after), tensors_of(component(case, self.score(case))), "certificate law, against the call")
                assert len(found) == nets.replicas, f"certificate law: {len(found)} for {nets.replicas} networks"
                for one in found:
                    wanted = isinstance(one.get("verdict"), str) and isinstance(one.get("sites"), list)
                    assert wanted, f"certificate law: needed verdict, a text, and sites, a list; it has {sorted(one)}"
                    try:
                        back = json.loads(json.dumps(one, allow_nan=False))
                    except (TypeError, ValueError) as error:
                        raise AssertionError(f"certificate law: not plain data: {error}") from error
                    assert back == one, "certificate law: it changes on its way through JSON"

    def test_needs_are_enough(self) -> None:
        """Networks with the declared parts and no others (blocks always exist) can be made hard."""
        component = self.component()
        for widths in self.widths:
            nets = example_networks(5, 2, widths, component.needs)
            try:
                component(nets, self.score(nets))
            except (KeyError, RuntimeError, IndexError) as error:
                raise AssertionError(
                    f"needs law: with {sorted(component.needs)} alone it raised {type(error).__name__}: {error}"
                ) from error

    def test_scores_all_rows_at_once(self) -> None:
        """Every scoring takes the whole pack, and six equal rows need no more of them than two."""
        component = self.component()
        for nets in self.examples():
            counts = {}
            for k in (2, 6):
                asked: list[int] = []
                score = self.score(nets)

                component(networks.take(nets, torch.zeros(k, dtype=torch.long)), _Watched(score, asked))
                assert set(asked) <= {k}, f"one-program law: scored packs of {sorted(set(asked))} rows out of {k}"
                counts[k] = len(asked)
            assert counts[2] == counts[6], f"one-program law: {counts[2]} scorings for 2 rows, {counts[6]} for 6 equal ones"

    def test_changes_nothing(self) -> None:
        """The networks that are given stay as they were."""
        component = self.component()
        for nets in self.examples():
            before = nets.map(torch.clone)
            component(nets, self.score(nets))
            same(tensors_of(nets), tensors_of(before), "purity law, its input")
