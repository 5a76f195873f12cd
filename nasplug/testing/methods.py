"""The laws of a search method."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nasplug import networks
from nasplug.compact import compact, export, load, save
from nasplug.contracts import Params, SearchMethod
from nasplug.networks import Networks
from nasplug.optimizers import Adam
from nasplug.tasks import Task
from nasplug.testing.comparing import HARD, TOLERANCE, calm, fits, gradients, row_of, same, spoil, tensors_of, without
from nasplug.testing.examples import example_task, weighted
from nasplug.testing.laws import Laws

__all__ = ["SearchMethodLaws"]

EXPORTED = 1e-5


def _leaves(params: Params) -> Params:
    """Copies in float64, integers as they are."""
    return {n: (p.detach().double() if p.is_floating_point() else p.detach()).clone() for n, p in params.items()}


@dataclass(frozen=True, slots=True)
class _Pack:
    """Rows of a method on their way: what varies from row to row stands beside the parameters."""

    params: Params
    seeds: Tensor  # long (K,)
    tau: Tensor  # (K,)
    lr: Tensor  # (K,)

    def row(self, k: int) -> _Pack:
        """One row alone."""
        return _Pack(row_of(self.params, k), self.seeds[k : k + 1], self.tau[k : k + 1], self.lr[k : k + 1])


class SearchMethodLaws(Laws):
    """Laws of a `nasplug.contracts.SearchMethod`: init, relax, forward, direct, a few steps of training, and export."""

    kind = "method"
    task_options: ClassVar[tuple[str, Mapping[str, Any]] | None] = None
    """A registered task and its options, for a method that cannot learn `example_task`."""
    replicas: ClassVar[int] = 4
    steps: ClassVar[int] = 4

    def component(self) -> SearchMethod:
        """A fresh method."""
        made: SearchMethod = super().component()
        return made

    def task(self) -> Task:
        """What it learns here, in float64."""
        if self.task_options is None:
            return example_task()
        made: Task = self.plugins().build("task", *self.task_options)
        return made.to("cpu", torch.float64)

    def setting(self) -> dict[str, Any]:
        """The task."""
        return {"task": self.task_options}

    def seeds(self) -> Tensor:
        """Distinct seeds, in no order; long ``(K,)``."""
        return (torch.arange(self.replicas) * 7919 + 13) % 1009

    def pack(self) -> _Pack:
        """A fresh pack in float64 whose rows differ in seed, temperature and learning rate."""
        seeds = self.seeds()
        k = len(seeds)
        return _Pack(
            _leaves(self.component().init(self.task(), seeds)),
            seeds,
            torch.linspace(1.0, 0.2, k, dtype=torch.float64),
            torch.linspace(0.003, 0.01, k, dtype=torch.float64),
        )

    def relaxed(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The soft networks, with the activations that the plugins offer, as in a study."""
        return replace(self.component().relax(params, tau, noise), functions=self.plugins().functions)

    def _soft(self, pack: _Pack) -> list[Networks]:
        """The soft networks without and with noise, at the pack's temperatures and nearly hard."""
        return [self.relaxed(pack.params, pack.tau * scale, noise) for scale in (1.0, 0.02) for noise in (None, pack.seeds)]

    def _trained(self, pack: _Pack, task: Task | None = None) -> dict[str, Tensor]:
        """Parameters and loss after a few full-batch steps of Adam with noise, each row by itself."""
        method, task, optimizer = self.component(), self.task() if task is None else task, Adam()
        params = {name: p.clone() for name, p in pack.params.items()}
        state = optimizer.start(params)
        losses = pack.tau.new_zeros(len(pack.tau))
        for step in range(1, self.steps + 1):
            leaves = {n: p.detach().clone().requires_grad_(p.is_floating_point()) for n, p in params.items()}
            nets = self.relaxed(leaves, pack.tau, pack.seeds + step)
            outputs, seen = networks.observing(method.forward, nets, *task.train.batch[::2])
            losses = task.losses(outputs, *task.train.batch[1:])
            still = {*seen, *method.traits.untrained}
            moved = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad and name not in still}
            optimizer.update({name: params[name] for name in moved}, gradients(losses, moved), state, pack.lr)
            params |= {name: params[name].lerp(value, networks.PACE) for name, value in seen.items()}
            params = {name: p.clone() for name, p in method.project(params, step, self.steps).items()}
        return {**params, "loss": losses.detach()}

    def test_architecture_names_parameters(self) -> None:
        """``traits.architecture`` and ``untrained`` name leaves that `init` makes."""
        method = self.component()
        params = method.init(self.task(), self.seeds())
        unknown = (method.traits.architecture | method.traits.untrained) - set(params)
        assert not unknown, f"architecture law: {sorted(unknown)} are no parameters; there are {sorted(params)}"

    def test_init_leads_with_replicas(self) -> None:
        """Every leaf of `init` is ``(K, ...)`` and finite."""
        for name, leaf in self.component().init(self.task(), self.seeds()).items():
            assert leaf.dim() >= 1, f"init law: {name} has no replica axis"
            assert leaf.shape[0] == self.replicas, f"init law: {name} is {tuple(leaf.shape)} for K={self.replicas}"
            assert bool(torch.isfinite(leaf).all()), f"init law: {name} has values that are not finite"

    def test_seed_law(self) -> None:
        """Row k of `init` depends on ``seeds[k]`` alone, bit by bit; another seed gives another row."""
        method, task, seeds = self.component(), self.task(), self.seeds()
        pack = method.init(task, seeds)
        for k in range(1, len(seeds)):
            same(method.init(task, seeds[:k]), {n: p[:k] for n, p in pack.items()}, f"seed law, the first {k} rows")
        order = torch.arange(len(seeds)).flip(0)
        same(method.init(task, seeds[order]), {n: p[order] for n, p in pack.items()}, "seed law, rows in another order")
        differs = any(not torch.equal(p[0], p[1]) for p in pack.values())
        assert differs, "seed law: two seeds gave the same parameters"

    def test_relax_makes_networks(self) -> None:
        """The record fits itself and the task; gates are in [0, 1] and choices on the simplex, at any temperature."""
        task = self.task()
        for nets in self._soft(self.pack()):
            fits(nets, "relax law")
            ends = (nets.inputs, nets.widths[-1])
            assert ends == (task.inputs, task.outputs), f"relax law: {ends} inputs and outputs for {task.inputs, task.outputs}"
            assert nets.replicas == self.replicas, f"relax law: {nets.replicas} networks from {self.replicas} rows"
            for name, tensor in tensors_of(nets).items():
                assert bool(torch.isfinite(tensor).all()), f"relax law: {name} has values that are not finite"
                if name.split("[")[0] in HARD:
                    assert bool(((tensor >= 0) & (tensor <= 1)).all()), f"relax law: {name} leaves [0, 1]"
                if name.startswith("choices"):
                    total = tensor.sum(-1)
                    assert torch.allclose(total, torch.ones_like(total)), f"relax law: {name} is not on the simplex"

    def test_relax_changes_nothing(self) -> None:
        """Called twice with the same noise it gives the same networks, and the parameters stay as they were."""
        method, pack = self.component(), self.pack()
        before = {name: p.clone() for name, p in pack.params.items()}
        first, second = (tensors_of(method.relax(pack.params, pack.tau, pack.seeds)) for _ in range(2))
        same(second, first, "purity law, a second call of relax")
        same(pack.params, before, "purity law, the parameters")

    def test_holds(self) -> None:
        """With ``traits.holds`` alone: ``hold`` names leaves, and gives back the parameters that made the networks."""
        method, pack = self.component(), self.pack()
        if not method.traits.holds:
            return
        held = method.hold(self._soft(pack)[0])
        assert set(held) <= set(pack.params), f"holding law: {sorted(set(held) - set(pack.params))} are no parameters"
        same(held, {name: pack.params[name] for name in held}, "holding law, hold after relax")

    def test_forward(self) -> None:
        """``(I, B)`` shared or ``(K, I, B)`` -> ``(K, O, B)``, and both agree."""
        method, task = self.component(), self.task()
        x = task.valid.x
        for nets in self._soft(self.pack()):
            shared = method.forward(nets, x)
            wanted = (self.replicas, task.outputs, x.shape[-1])
            assert tuple(shared.shape) == wanted, f"forward law: shape {tuple(shared.shape)}, needed {wanted}"
            own = method.forward(nets, x.expand(self.replicas, *x.shape).contiguous())
            same({"outputs": own}, {"outputs": shared}, "forward law, (K, I, B) against (I, B)", 1e-9)

    def test_direct_is_the_same_function(self) -> None:
        """``direct`` gives networks whose canonical forward is the method's own forward."""
        method, x = self.component(), self.task().valid.x
        for nets in self._soft(self.pack()):
            plain = method.direct(nets)
            fits(plain, "direct law")
            found = {"outputs": networks.forward(plain, x)}
            same(found, {"outputs": method.forward(nets, x)}, "direct law, against the method's own forward", 1e-9)

    def test_row_law(self) -> None:
        """A pack equals its rows alone: the networks, direct space, and a few steps of training."""
        method, pack = self.component(), self.pack()

        def all_of(some: _Pack) -> dict[str, Tensor]:
            made = self._trained(some)
            for number, nets in enumerate(self._soft(some)):
                made.update({f"networks {number} {n}": t for n, t in tensors_of(nets).items()})
                made.update({f"direct {number} {n}": t for n, t in tensors_of(method.direct(nets)).items()})
            return {name: tensor.detach() for name, tensor in made.items()}

        together = all_of(pack)
        for k in range(self.replicas):
            same(row_of(together, k), all_of(pack.row(k)), f"row law, row {k}", TOLERANCE)

    def test_row_law_with_weights(self) -> None:
        """So it is where each row has its own sample weights: trained alone with its weights ``(N,)`` it is the same."""
        pack, task = self.pack(), weighted(self.task(), self.replicas)
        together = self._trained(pack, task)
        for k in range(self.replicas):
            one = task.take(torch.tensor([k]))
            train = replace(one.train, weights=one.train.weights[0] if one.train.weights is not None else None)
            alone = self._trained(pack.row(k), replace(one, train=train))
            same(row_of(together, k), alone, f"row law, sample weights, row {k}", TOLERANCE)

    def test_isolation(self) -> None:
        """A row that is NaN raises nothing, in training or on the way to direct space, and the others do not change a bit."""
        method, pack = self.component(), self.pack()
        spoiled = {n: spoil(p, 1) if p.is_floating_point() else p for n, p in pack.params.items()}
        broken = replace(pack, params=spoiled)

        def all_of(some: _Pack) -> dict[str, Tensor]:
            made = self._trained(some)
            for number, nets in enumerate(self._soft(some)):
                made.update({f"direct {number} {n}": t for n, t in tensors_of(method.direct(nets)).items()})
            return {name: tensor.detach() for name, tensor in made.items()}

        dirty = calm("isolation law, a NaN row", all_of, broken)
        same(without(dirty, 1), without(all_of(pack), 1), "isolation law")

    def test_control_flow_reads_no_data(self) -> None:
        """``relax`` and ``forward`` run without data (torch's meta device): compile-safe, and on the parameters' device."""
        method, pack, x = self.component(), self.pack(), self.task().train.x
        params = {name: p.to("meta") for name, p in pack.params.items()}

        def run(noise: Tensor | None) -> Tensor:
            return method.forward(self.relaxed(params, pack.tau.to("meta"), noise), x.to("meta"))

        for noise in (None, pack.seeds.to("meta")):
            outputs = calm("compile law, tensors without data", run, noise)
            assert outputs.device.type == "meta", f"compile law: parameters on 'meta' gave outputs on {outputs.device}"

    def hardened(self) -> Networks:
        """The soft networks in direct space, rounded: what discretizing leaves at the least."""
        return networks.harden(self.component().direct(self._soft(self.pack())[0]))

    def test_export_law(self) -> None:
        """`compact` of a row computes in float32 what the row computes, and comes back from its files as it was."""
        nets, x = self.hardened(), self.task().valid.x
        wanted = networks.forward(nets, x)  # (K, O, B)
        rows = x.T.float()
        for k in range(self.replicas):
            small = compact(nets, k)
            outputs = small(rows).detach()  # (B, O)
            same({"outputs": outputs.double()}, {"outputs": wanted[k].T}, f"export law, row {k} as a module", EXPORTED)
            with tempfile.TemporaryDirectory() as folder:
                save(small, Path(folder))
                again = load(Path(folder), nets.functions)
            same({"outputs": again(rows).detach()}, {"outputs": outputs}, f"export law, row {k} saved and loaded")

    def test_export_law_in_other_runtimes(self) -> None:
        """A compact row survives `torch.export` and ONNX Runtime, with any number of samples."""
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        x = self.task().valid.x.T.float()
        small = compact(self.hardened(), 0)
        wanted = {"outputs": small(x).detach()}
        program = calm("export law, torch.export", export, small, x)
        same({"outputs": program.module()(x).detach()}, wanted, "export law, torch.export", EXPORTED)
        made = calm("export law, ONNX", torch.onnx.export, program, ())
        assert made is not None, "export law, ONNX: the exporter made nothing"
        session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
        for count in (len(x), 1):
            (found,) = session.run(None, {session.get_inputs()[0].name: x[:count].numpy()})
            part = {"outputs": wanted["outputs"][:count]}
            same({"outputs": torch.from_numpy(found)}, part, f"export law, ONNX Runtime with {count} samples", EXPORTED)
