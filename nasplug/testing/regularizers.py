"""The laws of a regularizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nasplug import networks
from nasplug.contracts import Proximal, Regularizer
from nasplug.networks import PARTS, Edge, Networks
from nasplug.testing.comparing import TOLERANCE, calm, filled, row_of, same, spoil, tensors_of, with_gradients, without
from nasplug.testing.examples import example_networks
from nasplug.testing.laws import NeedsLaws

__all__ = ["RegularizerLaws"]


@dataclass(frozen=True, slots=True)
class _Forbidden(Mapping[Any, Tensor]):
    """A part that was not declared: any look at it fails."""

    part: str
    declared: frozenset[str]

    def _refuse(self) -> AssertionError:
        return AssertionError(
            f"needs law: reads {self.part!r} but declares needs = {sorted(self.declared)}; declare it, or read "
            "effective weights with nets.block(edge)"
        )

    def __getitem__(self, key: Any) -> Tensor:
        raise self._refuse()

    def __iter__(self) -> Iterator[Any]:
        raise self._refuse()

    def __len__(self) -> int:
        raise self._refuse()


@dataclass(frozen=True, slots=True)
class _Declared(Networks):
    """Networks that show the declared parts alone. Who declares blocks may read them gated: ``block`` is their meaning."""

    whole: Networks | None = field(default=None, kw_only=True)

    @property
    def replicas(self) -> int:
        """K: how many there are is no secret."""
        return self._whole.replicas

    @property
    def parts(self) -> frozenset[str]:
        """Which parts there are is none either."""
        return self._whole.parts

    @property
    def _whole(self) -> Networks:
        assert self.whole is not None, "made by _declared alone"
        return self.whole

    def block(self, edge: Edge) -> Tensor:
        """Effective weights, if blocks are declared."""
        return self.blocks[edge] if isinstance(self.blocks, _Forbidden) else self._whole.block(edge)


def _declared(nets: Networks, needs: frozenset[str]) -> Networks:
    """``nets`` with every part outside ``needs`` poisoned."""
    shown: dict[str, Any] = {part: getattr(nets, part) if part in needs else _Forbidden(part, needs) for part in PARTS}
    return _Declared(
        widths=nets.widths, candidates=nets.candidates, functions=nets.functions, stem=nets.stem, whole=nets, **shown
    )


class RegularizerLaws(NeedsLaws):
    """Laws of a `nasplug.contracts.Regularizer`."""

    kind = "regularizer"

    def component(self) -> Regularizer:
        """A fresh regularizer."""
        made: Regularizer = super().component()
        return made

    def corners(self) -> list[Networks]:
        """Soft examples, hard ones, and ones with every number 0, 1/2 or 1: where roots, norms and logarithms break."""
        return [
            corner
            for nets in self.examples()
            for corner in (nets, networks.harden(nets), filled(nets, 0.0), filled(nets, 0.5), filled(nets, 1.0))
        ]

    def test_value(self) -> None:
        """The value is ``(K,)``, in the networks' type, finite and at least 0."""
        component = self.component()
        for nets in self.corners():
            value = component(nets)
            like = next(iter(nets.blocks.values()))
            assert tuple(value.shape) == (nets.replicas,), (
                f"value law: shape {tuple(value.shape)} for K={nets.replicas}; a penalty is (K,), never reduced over rows"
            )
            assert value.dtype == like.dtype, f"value law: {value.dtype} from networks in {like.dtype}"
            assert bool((torch.isfinite(value) & (value >= 0)).all()), f"value law: {value.tolist()}; needed: finite and >= 0"

    def test_gradient_is_finite(self) -> None:
        """Gradients are finite, also at exact zeros and at hard gates."""
        for nets in self.corners():
            for name, gradient in with_gradients(self.component(), nets).items():
                assert bool(torch.isfinite(gradient).all()), (
                    f"gradient law: {name} is not finite at networks whose blocks are like "
                    f"{next(iter(nets.blocks.values())).flatten()[0]:.3g}; mind sqrt, norm and log at 0"
                )

    def test_reads_what_it_needs(self) -> None:
        """It reads no part that it does not declare (effective weights belong to ``blocks``)."""
        component = self.component()
        for nets in self.examples():
            component(_declared(nets, component.needs))

    def test_needs_are_enough(self) -> None:
        """Networks with the declared parts and no others (blocks always exist) give a value."""
        component = self.component()
        for widths in self.widths:
            nets = example_networks(5, 2, widths, component.needs)
            try:
                component(nets)
            except (KeyError, RuntimeError, IndexError) as error:
                raise AssertionError(
                    f"needs law: with {sorted(component.needs)} alone it raised {type(error).__name__}: {error}"
                ) from error

    def test_row_law(self) -> None:
        """A pack's values and gradients are its rows' alone."""
        component = self.component()
        for nets in self.examples():
            pack = with_gradients(component, nets)
            for k in range(nets.replicas):
                alone = with_gradients(component, networks.take(nets, torch.tensor([k])))
                same(row_of(pack, k), alone, f"row law, row {k}", TOLERANCE)

    def test_isolation(self) -> None:
        """A row that is NaN leaves the values and gradients of the others as they are, bit by bit."""
        component = self.component()
        for nets in self.examples():
            clean = with_gradients(component, nets)
            broken = nets.map(lambda t: spoil(t, 1))
            dirty = calm("isolation law, a NaN row", with_gradients, component, broken)
            same(without(dirty, 1), without(clean, 1), "isolation law")

    def test_control_flow_reads_no_data(self) -> None:
        """It runs without data (torch's meta device): compile-safe, and on the device of its networks."""
        component = self.component()
        for nets in self.examples():
            empty = nets.map(lambda t: t.to("meta"))
            value = calm("compile law, tensors without data", component, empty)
            assert value.device.type == "meta", f"compile law: networks on 'meta' gave a value on {value.device}"

    def test_norms(self) -> None:
        """What it offers engines as sums of norms is its value."""
        component = self.component()
        for nets in self.examples():
            if parts := component.norms(networks.take(nets, torch.tensor([0]))):
                found = torch.stack([part(nets) for part in parts]).sum(0)
                same({"value": found}, {"value": component(nets)}, "norms law", TOLERANCE)

    def test_changes_nothing(self) -> None:
        """Called twice it says the same, and the networks stay as they were."""
        component = self.component()
        for nets in self.examples():
            before = nets.map(torch.clone)
            first, second = component(nets), component(nets)
            same(tensors_of(nets), tensors_of(before), "purity law, its input")
            same({"value": second}, {"value": first}, "purity law, a second call")

    def test_shrinking(self) -> None:
        """`Proximal` alone: ``shrink`` moves only what it needs, row by row, and no small move from its result is better."""
        component = self.component()
        if not isinstance(component, Proximal):
            return
        for nets in self.corners():
            amount = torch.linspace(0.0, 2.0, nets.replicas, dtype=torch.float64)  # row 0 stays where it is
            before, shrunk = tensors_of(nets), component.shrink(nets, amount)
            after = tensors_of(shrunk)
            kept = {n: t for n, t in before.items() if n.split("[")[0] not in component.needs}
            same({n: after[n] for n in kept}, kept, "proximal law, a part it does not need")
            same(row_of(after, 0), row_of(before, 0), "proximal law, amount 0", TOLERANCE)
            for k in range(nets.replicas):
                alone = component.shrink(networks.take(nets, torch.tensor([k])), amount[k : k + 1])
                same(tensors_of(alone), row_of(after, k), f"row law of shrink, row {k}", TOLERANCE)
            broken = tensors_of(calm("isolation law, a NaN row", component.shrink, nets.map(lambda t: spoil(t, 1)), amount))
            same(without(broken, 1), without(after, 1), "isolation law of shrink")

            def cost(some: Networks, before: Mapping[str, Tensor] = before, amount: Tensor = amount) -> Tensor:
                moved = [(t - before[n]).square().flatten(1).sum(1) / 2 for n, t in tensors_of(some).items()]
                value: Tensor = torch.stack(moved).sum(0) + amount * component(some)
                return value

            generator = torch.Generator().manual_seed(0)
            for scale in (1e-3, 1e-1, 1.0):
                near = shrunk.map(
                    lambda t, scale=scale, generator=generator: (
                        t  # type: ignore[misc]
                        + scale * torch.randn(t.shape, dtype=t.dtype, generator=generator)
                    )
                )
                worse = cost(near) >= cost(shrunk) - 1e-12
                assert bool(worse.all()), f"proximal law: a move of {scale} from the result of shrink is better"
