"""A network as a formula in the user's columns and units: text, LaTeX, and an expression of sympy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nasplug.compact import CompactNetwork
from nasplug.data.encoder import GAP, OTHER, Encoder
from nasplug.data.transforms import Transform, undone
from nasplug.errors import ConfigError
from nasplug.explain import writing
from nasplug.explain.terms import DAY, Atom, Terms
from nasplug.explain.unfolded import scale_words, unfold
from nasplug.records import output_names
from nasplug.tasks import FURTHEST, Task
from nasplug.tasks.metrics import labels_of

__all__ = ["Formula", "formula", "rounded"]

FAR = 20.0  # a mean that is so many spreads from 0 stays in the formula, as a difference: it would eat digits
MOST_DIGITS = 9
MOST_SAMPLES = 20_000
EXACT = 17  # digits with which a float64 is itself
KNOT = 6  # digits of the ends of ramps, counted from the first of their distance
SHARE = 0.01  # of a standard error that rounding may change a score by


@dataclass(frozen=True, slots=True)
class Formula(Terms):
    """What a network computes, with the scalings of inputs and targets folded into few rounded numbers.

    Neurons are ``h_m = f_m(bias_m + sum first_mi atom_i + sum later_mn h_n)``, sums ``z_o = shift_o + sum straight_oi atom_i +
    sum out_om h_m``, and what is served is the link of z.

    Attributes:
        atoms, plain, digits, record: see `nasplug.explain.terms.Terms`.
        scale: on which scale sums are, in words.
        rule: why so many digits, in words.
    """

    scale: str = ""
    rule: str = ""

    @property
    def numbers(self) -> int:
        """How many numbers stand in it, of those that are not 0."""
        parts = (self.plain.first, self.plain.later, self.plain.bias, self.plain.straight, self.plain.out, self.plain.shift)
        return sum(int((part != 0).sum()) for part in parts)

    def before_link(self, features: Tensor) -> Tensor:
        """``z (N, O)`` of raw features ``(N, I)``, before the link."""
        x = features.double()
        atoms = [
            ((x[:, a.number] - a.low) / (a.high - a.low)).clamp(0.0, 1.0)
            if a.kind == "ramp"
            else (x[:, a.place] - a.centre) / a.unit
            for a in self.atoms
        ]
        return self.plain.outputs(torch.stack(atoms, 1) if atoms else x[:, :0])

    def __call__(self, features: Tensor) -> Tensor:
        """What the network serves, ``(N, O)``, as `nasplug.compact.CompactNetwork.forward`: of raw features ``(N, I)``."""
        z, link = self.before_link(features), self.record["link"]
        if link == "sigmoid":
            return torch.sigmoid(z)
        if link == "softmax":
            return torch.softmax(z, 1)
        if link == "exp":
            scale, shift = (torch.tensor(self.record[f"output_{name}"]).to(z) for name in ("scale", "shift"))
            return torch.minimum(z, FURTHEST + scale.log()).exp() + shift
        if "transform" not in self.record:
            return z
        return undone(z, Transform.from_plain(self.record["transform"]).knots())

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """One line per output; neurons that are read more than once have lines of their own.

        ``ramp(x, a, b)`` is 0 below a, 1 above b and straight between; ``[colour = 'red']`` is 1 for that word, else 0.
        """
        return writing.text(self)

    def latex(self) -> str:
        """The same as an ``aligned`` block of LaTeX (amsmath)."""
        return writing.latex(self)

    def sympy(self) -> dict[str, Any]:
        """An expression of sympy per output, what is served: symbols are columns.

        ``colour = red`` and ``area is missing`` are symbols that are 0 or 1; dates are seconds since 1970-01-01 UTC.

        Raises:
            ConfigError: where sympy is not installed.
        """
        return writing.sympy(self)


def _atoms(network: CompactNetwork, *, exact: bool) -> tuple[Atom, ...]:
    """What layer 0 is, place by place; ends of ramps are rounded to 1e-5 of their distance, if they need not be exact."""
    record = network.record
    shifts, scales = (network.get_buffer(f"input_{name}").tolist() for name in ("shift", "scale"))
    kept: list[int] = record["kept_inputs"]
    if not record.get("encoder"):
        named = zip(kept, network.first_names, shifts, scales, strict=True)
        return tuple(Atom(name, "number", place, _centre(shift, scale)) for place, name, shift, scale in named)
    encoder = Encoder.from_plain(record["encoder"])
    starts: dict[int, int] = {}
    for place, group in enumerate(encoder.groups):
        starts.setdefault(group, place)
    found = []
    for place, shift, scale in zip(kept, shifts, scales, strict=True):
        column, at = encoder.columns[encoder.groups[place]], place - starts[encoder.groups[place]]
        if column.kind == "category":
            word = [*column.words, *([OTHER] if column.other else []), *([GAP] if column.gap else [])][at]
            missing = column.gap and at == column.width - 1
            found.append(Atom(column.name, "gap" if missing else "word", place, word=word))
        elif at == 0:
            centre = math.floor(shift / DAY) * DAY if column.kind == "date" else _centre(shift, scale)
            found.append(Atom(column.name, "date" if column.kind == "date" else "number", place, centre))
        elif column.gap and at == column.width - 1:
            found.append(Atom(column.name, "gap", place))
        else:
            low, high = column.knots[at - 1], column.knots[at]
            if not exact:
                low, high = (round(end, KNOT - 1 - math.floor(math.log10(high - low))) for end in (low, high))
            found.append(Atom(column.name, "ramp", place, low=low, high=high, number=starts[encoder.groups[place]]))
    return tuple(found)


def _centre(shift: float, scale: float) -> float:
    """A round number near the mean, where that is far from 0 beside its spread; else 0."""
    if abs(shift) <= FAR * scale:
        return 0.0
    return float(round(shift, -math.floor(math.log10(scale))))


def _significant(values: Tensor, digits: int) -> Tensor:
    """Rounded to significant digits: exactly what is written."""
    if digits >= EXACT:
        return values
    told = [float(f"{value:.{digits}g}") for value in values.flatten().tolist()]
    return torch.tensor(told, dtype=torch.float64).reshape(values.shape)


@torch.no_grad()
def formula(network: CompactNetwork, digits: int = EXACT) -> Formula:
    """The formula of a network, every number with that many significant digits (17: as it is).

    Scales and shifts are folded into weights and biases. Of a column whose mean is more than 20 spreads from 0 a round number
    near the mean is taken off first, as in ``(year - 1970)``; a date counts in days since one near its mean.

    Raises:
        ConfigError: for a network that cannot be explained.
    """
    if not 1 <= digits <= EXACT:
        raise ConfigError(f"formula: {digits} digits; needed: 1 to {EXACT}")
    plain, atoms = unfold(network), _atoms(network, exact=digits >= EXACT)
    shift, scale = network.get_buffer("input_shift").double(), network.get_buffer("input_scale").double()
    centre = torch.tensor([a.centre for a in atoms], dtype=torch.float64)
    unit = torch.tensor([a.unit for a in atoms], dtype=torch.float64)
    away = (centre - shift) / scale  # layer 0 where all atoms are 0
    folded = replace(
        plain,
        first=plain.first * (unit / scale),
        bias=plain.bias + plain.first @ away,
        straight=plain.straight * (unit / scale),
        shift=plain.shift + plain.straight @ away,
    )
    record: dict[str, Any] = {name: network.record[name] for name in ("targets", "link", "transform") if name in network.record}
    record["outputs"] = output_names(network.record)
    if record["link"] == "exp":
        record["output_scale"] = network.get_buffer("output_scale").tolist()
        record["output_shift"] = _significant(network.get_buffer("output_shift").double(), digits).tolist()
    numbers = replace(
        folded,
        first=_significant(folded.first, digits),
        later=_significant(folded.later, digits),
        bias=_significant(folded.bias, digits),
        straight=_significant(folded.straight, digits),
        out=_significant(folded.out, digits),
        shift=_significant(folded.shift, digits),
    )
    return Formula(atoms, numbers, digits, record, scale_words(network))


@torch.no_grad()
def rounded(network: CompactNetwork, task: Task) -> Formula:
    """The formula with the fewest digits that keep the network's score on validation samples (of folds: development samples).

    The rule: with so many digits, and with each larger number of them up to 9, neither the mean loss nor the error changes by
    more than 1 % of its own standard error on these samples (of more than 20,000 as many, evenly over them). Where 9 are not
    enough, numbers stay as they are.
    """
    split = task.valid if task.resamples is None else task.development
    some = torch.linspace(0, split.samples - 1, min(MOST_SAMPLES, split.samples), dtype=torch.float64).round().long()
    y = split.y[..., some]
    y = y if y.dtype == torch.long else y.double()
    weights = None if split.weights is None else split.weights[..., some]
    read = sorted({place for atom in _atoms(network, exact=True) for place in (atom.place, atom.number) if place >= 0})
    # Of the features, which may be thousands, those that it reads.
    own, place_of = torch.tensor(read, dtype=torch.long), {place: at for at, place in enumerate(read)}
    raw = split.x.index_select(0, own)[:, some].double()
    raw = (raw * task.input_scale.double()[own].unsqueeze(1) + task.input_shift.double()[own].unsqueeze(1)).T
    shift, scale = task.output_shift.double(), task.output_scale.double()

    def scores(made: Formula) -> list[Tensor]:
        atoms = [replace(a, place=place_of[a.place], number=place_of.get(a.number, -1)) for a in made.atoms]
        z = replace(made, atoms=tuple(atoms)).before_link(raw)
        if task.link == "exp":
            z = z - scale.log()
        elif task.link == "identity" and task.kind == "regression":
            z = (z - shift) / scale
        return _each(task, z.T.unsqueeze(0), y)

    return _fewest(network, scores, weights, "validation" if task.resamples is None else "development")


def _each(task: Task, outputs: Tensor, y: Tensor) -> list[Tensor]:
    """Loss and error of each sample, ``(N,)`` both."""
    if task.kind == "regression":
        errors = task.loss.error(outputs, y)[0]
    else:
        found, wanted = labels_of(task.loss.point(outputs), y)
        errors = (found != wanted)[0].double()
    return [task.loss(outputs, y)[0], errors]


def _fewest(
    network: CompactNetwork, scores: Callable[[Formula], list[Tensor]], weights: Tensor | None, samples: str
) -> Formula:
    exact = scores(formula(network))
    w = torch.ones_like(exact[0]) if weights is None or weights.dim() > 1 else weights.double()
    w = w / w.sum()
    allowed = [SHARE * float((w @ (each - w @ each).square() * w.square().sum()).sqrt()) for each in exact]
    best = EXACT
    for digits in range(MOST_DIGITS, 0, -1):
        found = scores(formula(network, digits))
        changes = [abs(float(w @ (new - old))) for new, old in zip(found, exact, strict=True)]
        if any(change > most + 1e-12 for change, most in zip(changes, allowed, strict=True)):
            break
        best = digits
    rule = f"the fewest that change neither loss nor error on the {samples} samples by more than 1 % of its standard error"
    return replace(formula(network, best), rule=rule)
