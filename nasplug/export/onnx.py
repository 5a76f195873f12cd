"""The form ``onnx``: a graph with a named input per column and a named output per answer; only the batch has no fixed size."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.data.encoder import Column
from nasplug.data.transforms import LARGEST
from nasplug.errors import ConfigError
from nasplug.export.program import GAP_CODE, UNKNOWN, Feature, Program, Ran, spellings
from nasplug.export.rows import coded
from nasplug.rows import word_of
from nasplug.tasks import FURTHEST

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FUNCTIONS", "inputs_of", "run", "written"]

OPSET, ML_OPSET, IR = 17, 3, 8
REMEDY = "install it: pip install 'nasplug[export]'"
BATCH = "rows"
NUMBERS = "_numbers"  # of the file whose answers are numbers alone


class _Graph:
    """Nodes and constants, each with a name of its own."""

    def __init__(self, taken: Collection[str]) -> None:
        self.taken = taken
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.number = itertools.count()

    def new(self) -> str:
        """A name that no column and no answer has."""
        return next(name for name in (f"/nasplug/{at}" for at in self.number) if name not in self.taken)

    def constant(self, values: Any, kind: type = np.float64) -> str:
        """A tensor of fixed numbers, or words."""
        from onnx import TensorProto, helper, numpy_helper

        name, array = self.new(), np.asarray(values)
        if array.dtype.kind in "UO":
            words: Any = [str(word).encode() for word in array.ravel()]
            self.constants.append(helper.make_tensor(name, TensorProto.STRING, array.shape, words))
        else:
            self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def __call__(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """The name of what an operator gives."""
        from onnx import helper

        out = out or self.new()
        self.nodes.append(helper.make_node(operator, inputs, [out], **attributes))
        return out

    def cast(self, value: str, kind: type) -> str:
        from onnx import helper

        return self("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


Made = Callable[[_Graph, str], str]


def _one(operator: str, **attributes: Any) -> Made:
    return lambda graph, z: graph(operator, z, **attributes)


def _silu(graph: _Graph, z: str) -> str:
    return graph("Mul", z, graph("Sigmoid", z))


def _gelu(graph: _Graph, z: str) -> str:
    half, one, root = (graph.constant(value, np.float32) for value in (0.5, 1.0, np.sqrt(0.5)))
    return graph("Mul", graph("Mul", z, half), graph("Add", graph("Erf", graph("Mul", z, root)), one))


FUNCTIONS: Mapping[str, Made] = {
    "identity": lambda graph, z: z,
    "relu": _one("Relu"),
    "leaky_relu": _one("LeakyRelu", alpha=0.01),
    "tanh": _one("Tanh"),
    "sigmoid": _one("Sigmoid"),
    "elu": _one("Elu", alpha=1.0),
    "silu": _silu,
    "gelu": _gelu,
    "softplus": _one("Softplus"),
    "sin": _one("Sin"),
    "square": lambda graph, z: graph("Mul", z, z),
}
"""Activations in float32."""


def written(made: Program) -> dict[str, bytes]:
    """The file, by its name; of labels from numbers alone a second one, without text, for compilers to C.

    Raises:
        ConfigError: without onnx, for the activation of a plugin, and for a network that reads nothing.
    """
    try:
        import onnx  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigError(f"onnx is not here; {REMEDY}") from None
    made.known(FUNCTIONS, "onnx")
    if not made.features:
        raise ConfigError("onnx: the network reads nothing, so there is no input to count rows by; take another form")
    if "" in {*made.answers, *(column.name for column in made.columns)}:
        raise ConfigError("onnx: a column has no name, and an input needs one; name it, or take another form")
    found = {f"{made.name}.onnx": _model(made, text=True)}
    if made.labels and all(column.kind != "category" for column in made.columns):
        found[f"{made.name}{NUMBERS}.onnx"] = _model(made, text=False)
    return found


def _model(made: Program, *, text: bool) -> bytes:
    """The graph; without ``text`` the label is not among its answers."""
    from onnx import TensorProto, checker, helper

    graph = _Graph({*output_names_of(made), *(column.name for column in made.columns)})
    values = graph("Concat", *(_column(graph, made, at) for at in range(len(made.columns))), axis=1)
    scaled = graph("Sub", values, graph.constant([[feature.shift for feature in made.features]]))
    scaled = graph("Div", scaled, graph.constant([[feature.scale for feature in made.features]]))
    outputs = _served(graph, made, _layers(graph, made, graph.cast(scaled, np.float32)))
    labelled = text and bool(made.labels)
    first = bool(made.labels) and not text  # the label's place
    names = output_names_of(made)[first:]
    for name, value in zip(names, _answers(graph, made, outputs, labelled=labelled), strict=True):
        graph("Identity", value, out=name)
    inputs = [
        helper.make_tensor_value_info(c.name, TensorProto.STRING if c.kind == "category" else TensorProto.DOUBLE, [BATCH, 1])
        for c in made.columns
    ]
    kinds = [TensorProto.STRING if at == 0 and labelled else TensorProto.DOUBLE for at in range(len(names))]
    given = [helper.make_tensor_value_info(name, kind, [BATCH, 1]) for name, kind in zip(names, kinds, strict=True)]
    whole = helper.make_graph(graph.nodes, made.name, inputs, given, graph.constants, doc_string=made.title)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(
        whole,
        producer_name="nasplug",
        producer_version=metadata.version("nasplug"),
        opset_imports=opsets,
        ir_version=IR,
        doc_string=made.title,
    )
    about = {
        "nasplug.digest": made.digest,
        "nasplug.columns": json.dumps([column.model_dump(mode="json", exclude_defaults=True) for column in made.columns]),
        "nasplug.answers": json.dumps(names),
    }
    helper.set_model_props(model, about)
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def output_names_of(made: Program) -> list[str]:
    """Names of answers; one that a column has too gets an apostrophe."""
    taken, found = {column.name for column in made.columns}, []
    for name in made.answers:
        while name in taken:
            name += "'"
        taken.add(name)
        found.append(name)
    return found


def _column(graph: _Graph, made: Program, at: int) -> str:
    """What a column gives, ``(N, its features that are read)``."""
    column, features = made.columns[at], [feature for feature in made.features if feature.column == at]
    if column.kind == "category":
        return _words(graph, column, features)
    value, gaps = column.name, ""
    for code in column.codes:
        if not isinstance(code, str):
            value = graph("Where", graph("Equal", value, graph.constant(code)), graph.constant(np.nan), value)
    if column.fill is not None:
        gaps = graph("IsNaN", value)
        value = graph("Where", gaps, graph.constant(column.fill), value)
    parts, ramps = [], [feature for feature in features if feature.kind == "ramp"]
    if features[0].kind == "value":
        parts.append(value)
    if ramps:
        away = graph("Sub", value, graph.constant([[feature.low for feature in ramps]]))
        share = graph("Div", away, graph.constant([[feature.high - feature.low for feature in ramps]]))
        parts.append(graph("Clip", share, graph.constant(0.0), graph.constant(1.0)))
    if features[-1].kind == "gap":
        parts.append(graph.cast(gaps, np.float64))
    return graph("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _words(graph: _Graph, column: Column, features: Sequence[Feature]) -> str:
    gap = column.words.index(column.word) if column.word is not None and not column.gap else GAP_CODE
    keys = {word: at for at, word in enumerate(column.words)}
    for code in ("", *column.codes):
        keys.setdefault(str(code), gap)
        keys.setdefault(word_of(code), gap)
    keys = {**spellings(column.words), **keys}
    code = graph(
        "LabelEncoder",
        column.name,
        domain="ai.onnx.ml",
        keys_strings=list(keys),
        values_int64s=list(keys.values()),
        default_int64=UNKNOWN,
    )
    wanted = [[GAP_CODE if feature.kind == "gap" else feature.code for feature in features]]
    found = graph.cast(graph("Equal", code, graph.constant(wanted, np.int64)), np.float64)
    if gap != GAP_CODE or column.gap:
        return found
    odd = graph("Equal", code, graph.constant([[GAP_CODE]], np.int64))  # training had no gaps: no answer
    return graph("Where", odd, graph.constant(np.nan), found)


def _layers(graph: _Graph, made: Program, first: str) -> str:
    """The sums of the last layer: they begin with products, so that nothing is expanded to the batch."""
    values, widths = [first], [len(made.features), *(len(layer) for layer in made.layers)]
    for layer in made.layers:
        sources = sorted({source for neuron in layer for source, _, _ in neuron.terms}) or [0]
        total = ""
        for source in sources:
            weights = np.zeros((widths[source], len(layer)))
            for m, neuron in enumerate(layer):
                for at, place, w in neuron.terms:
                    if at == source:
                        weights[place, m] = w
            product = graph("MatMul", values[source], graph.constant(weights, np.float32))
            total = graph("Add", total, product) if total else product
        total = graph("Add", total, graph.constant([[neuron.bias for neuron in layer]], np.float32))
        values.append(_activated(graph, total, [neuron.activation for neuron in layer]))
    return values[-1]


def _activated(graph: _Graph, z: str, names: Sequence[str]) -> str:
    runs = [(name, len(list(group))) for name, group in itertools.groupby(names)]
    if len(runs) == 1:
        return FUNCTIONS[runs[0][0]](graph, z)
    parts, at = [], 0
    for name, count in runs:
        ends = (graph.constant([end], np.int64) for end in (at, at + count, 1))
        parts.append(FUNCTIONS[name](graph, graph("Slice", z, *ends)))
        at += count
    return graph("Concat", *parts, axis=1)


def _served(graph: _Graph, made: Program, z: str) -> str:
    """``(N, O)`` in float64."""
    if made.link == "sigmoid":
        z = graph("Sigmoid", z)
    elif made.link == "softmax":
        z = graph("Softmax", z, axis=1)
    elif made.link == "exp":
        z = graph("Exp", graph("Min", z, graph.constant(FURTHEST, np.float32)))
    y = graph("Mul", graph.cast(z, np.float64), graph.constant([made.scale]))
    y = graph("Add", y, graph.constant([made.shift]))
    if made.transform is None:
        return y
    if made.transform.use == "log":
        return graph("Exp", graph("Min", y, graph.constant(LARGEST)))
    parts = []
    for o, (values, scores) in enumerate(zip(made.transform.values, made.transform.scores, strict=True)):
        away = graph("Sub", _at(graph, y, o), graph.constant([scores[:-1]]))
        ramps = graph("Div", away, graph.constant([np.diff(scores)]))
        ramps = graph("Clip", ramps, graph.constant(0.0), graph.constant(1.0))
        rise = graph(
            "ReduceSum", graph("Mul", ramps, graph.constant([np.diff(values)])), graph.constant([1], np.int64), keepdims=1
        )
        parts.append(graph("Add", rise, graph.constant(values[0])))
    return graph("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _at(graph: _Graph, values: str, place: int) -> str:
    return graph("Slice", values, *(graph.constant([end], np.int64) for end in (place, place + 1, 1)))


def _answers(graph: _Graph, made: Program, y: str, *, labelled: bool) -> list[str]:
    given = [_at(graph, y, o) for o in range(len(made.outputs))] if len(made.outputs) > 1 else [y]
    last = given[-1]
    if made.labels and len(given) == 1 and made.link == "sigmoid":
        given = [graph("Sub", graph.constant(1.0), last), last]
    if not labelled:
        return given
    if len(made.outputs) == 1:
        code = graph.cast(graph("Greater", last, graph.constant(0.5)), np.int64)
    else:
        code = graph("ArgMax", y, axis=1, keepdims=1)
    return [graph("Gather", graph.constant(made.labels), code), *given]


def inputs_of(made: Program, rows: pd.DataFrame) -> dict[str, Any]:
    """Rows as the graph takes them, ``(N, 1)`` each: words are text, of a gap empty; dates are seconds, gaps of numbers NaN."""
    numbers, found = coded(made.columns, rows), {}
    for at, column in enumerate(made.columns):
        if column.kind == "category":
            words = ["" if value is None or value != value else word_of(value) for value in rows[column.name]]
            found[column.name] = np.array(words, dtype=object).reshape(-1, 1)
        else:
            found[column.name] = numbers[:, at : at + 1].copy()
    return found


def run(folder: Path, made: Program, rows: pd.DataFrame) -> Ran:
    """The answers of ONNX Runtime to rows of raw values.

    Raises:
        ConfigError: where it is not installed, or refuses the graph.
    """
    import pandas as pd

    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"onnxruntime, which runs a graph before it is written, is not here; {REMEDY}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    given = inputs_of(made, rows)

    def asked(file: Path) -> tuple[list[Any], float]:
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        session.run(None, given)
        start = time.perf_counter()
        found = session.run(None, given)
        return found, time.perf_counter() - start

    try:
        found, seconds = asked(folder / f"{made.name}.onnx")
        numbers = folder / f"{made.name}{NUMBERS}.onnx"
        also = asked(numbers)[0] if numbers.exists() else found[1:]
    except Exception as error:  # noqa: BLE001 - its errors have no common class
        raise ConfigError(f"onnx: ONNX Runtime refuses it: {str(error)[:300]}") from None
    if made.labels and any((one != other).any() for one, other in zip(also, found[1:], strict=True)):
        raise ConfigError(f"onnx: {numbers.name} answers otherwise than {made.name}.onnx")
    columns = {name: values[:, 0] for name, values in zip(made.answers, found, strict=True)}
    return Ran(pd.DataFrame(columns, index=rows.index), 1e6 * seconds / len(rows))
