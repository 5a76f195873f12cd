"""Deliberately broken plugins: the defect, where it is caught, what is said. `docs/plugins.md` has the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "BROKEN",
    "LAWLESS",
    "PLANNED",
    "REGISTERED",
    "STOPPED",
    "TRIED",
    "UNKIND",
    "BrokenPlugin",
    "penalty",
    "put",
    "registering",
]


@dataclass(frozen=True)
class BrokenPlugin:
    """One module that is all of a plugin; ``said`` stands in the message as it is here."""

    defect: str
    caught: str
    said: str
    code: str
    more: Mapping[str, Any] = field(default_factory=dict)
    """What a study that uses it says beside the rest; of what the kit catches, the class of the kit and its law."""

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.defect.lower().replace("`", ""))[:50].strip("-")


def put(folder: Path, distribution: str, code: str, *, version: str = "1.0", entry: str = "", module: str = "") -> str:
    """A distribution with one plugin module, as pip would leave it in a folder on the path; returns the module's name."""
    module = module or distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[nasplug]\n{entry or distribution} = {module}\n")
    return module


HEAD = "from nasplug import hookimpl\n"


def registering(hook: str, call: str, before: str = "") -> str:
    """A plugin that makes one call of ``register`` in one hook."""
    return f"{HEAD}{before}\n@hookimpl\ndef {hook}(register):\n    {call}\n"


def penalty(parameters: str, before: str = "") -> str:
    """A plugin with one penalty whose factory has these parameters."""
    return registering(
        "register_regularizers", "register('odd', make)", f"{before}\ndef make({parameters}):\n    'A penalty.'\n"
    )


def method(body: str, base: str = "SearchMethod") -> str:
    """A plugin with one search method of one linear layer, and ``body`` in its class."""
    return (
        f"import torch\nfrom nasplug import Networks, SearchMethod, Traits, hookimpl\n\nclass Odd({base}):\n    {body}\n"
        "    def init(self, task, seeds):\n        return {'w': torch.ones(len(seeds), task.outputs, task.inputs)}\n"
        "    def relax(self, params, tau, noise=None):\n        w = params['w']\n"
        "        return Networks((w.shape[2], w.shape[1]), {(1, 0): w})\n\n"
        "@hookimpl\ndef register_search_methods(register):\n    register('odd', lambda: Odd())\n"
    )


def regularizer(body: str) -> str:
    """A plugin with one penalty, and ``body`` in its class."""
    return (
        "from nasplug import Regularizer, hookimpl\n\nclass Odd(Regularizer):\n    needs = frozenset({'blocks'})\n"
        f"    {body}\n    def __call__(self, nets):\n        return nets.blocks[1, 0].square().sum((1, 2))\n\n"
        "@hookimpl\ndef register_regularizers(register):\n    register('odd', lambda: Odd())\n"
    )


REGISTERED = (
    BrokenPlugin(
        "a module that is not installed", "loading", "No module named 'nowhere_to_be_found'", "import nowhere_to_be_found"
    ),
    BrokenPlugin("an exception while it is imported", "loading", "ZeroDivisionError: division by zero", f"{HEAD}1 / 0"),
    BrokenPlugin("text that is not Python", "loading", "failed to import", "def broken(:"),
    BrokenPlugin("`sys.exit` while it is imported", "loading", "SystemExit: 3", "import sys\nsys.exit(3)"),
    BrokenPlugin(
        "what is no Exception while it is imported",
        "loading",
        "PanicException: unwrap",
        "class PanicException(BaseException): ...\nraise PanicException('unwrap')",
    ),
    BrokenPlugin(
        "what is no Exception in a hook",
        "registration",
        "broke in register_regularizers with asyncio.exceptions.CancelledError",
        registering("register_regularizers", "import asyncio; raise asyncio.CancelledError"),
    ),
    BrokenPlugin("an entry point that leads elsewhere", "registration", "has no hook of nasplug", "register = print"),
    BrokenPlugin(
        "a misspelt hook",
        "registration",
        "unknown hook 'register_regularisers'",
        registering("register_regularisers", "pass"),
    ),
    BrokenPlugin(
        "a hook with other arguments",
        "registration",
        "has a hook that nasplug does not know, or with other arguments",
        f"{HEAD}@hookimpl\ndef register_tasks(registre): pass",
    ),
    BrokenPlugin(
        "a hook without `@hookimpl`",
        "registration",
        "has register_tasks without the mark of a hook: it would never be called",
        "def register_tasks(register): pass",
    ),
    BrokenPlugin(
        "a hook that wraps the others'",
        "registration",
        "wraps the hooks of others (study_started)",
        f"{HEAD}@hookimpl(wrapper=True)\ndef study_started(study, folder):\n    return (yield)",
    ),
    BrokenPlugin(
        "an async hook",
        "registration",
        "has async hooks (study_finished), which nobody awaits",
        f"{HEAD}@hookimpl\nasync def study_finished(folder): pass",
    ),
    BrokenPlugin(
        "a patience that is no number of seconds",
        "registration",
        "has patience_seconds = 'long'",
        f"{HEAD}patience_seconds = 'long'\n@hookimpl\ndef study_finished(folder): pass",
    ),
    BrokenPlugin(
        "an exception in a hook",
        "registration",
        "broke in register_tasks with KeyError: 'no'",
        registering("register_tasks", "{}['no']"),
    ),
    BrokenPlugin(
        "a hook that is a generator",
        "registration",
        "returns something from register_tasks",
        registering("register_tasks", "yield"),
    ),
    BrokenPlugin(
        "a factory that is not a function",
        "registration",
        "registers 'odd' with 5",
        registering("register_tasks", "register('odd', 5)"),
    ),
    BrokenPlugin(
        "an empty name, or one with odd characters",
        "registration",
        "registers the task 'a name', which is not a valid name",
        registering("register_tasks", "register('a name', lambda: None)"),
    ),
    BrokenPlugin(
        "one name twice",
        "registration",
        "registers the task 'odd' twice",
        registering("register_tasks", "[register('odd', lambda: None) for _ in range(2)]"),
    ),
    BrokenPlugin(
        "a name that nasplug has itself",
        "registration",
        "offers the schedule 'linear', which is nasplug's own",
        registering("register_schedules", "register('fine', dict); register('linear', lambda: None)").replace(
            "dict", "lambda: None"
        ),
    ),
    BrokenPlugin(
        "a positional parameter",
        "registration",
        "the factory of 'odd' has the parameter 'share', which is not keyword-only and annotated",
        penalty("share: float = 1.0"),
    ),
    BrokenPlugin(
        "a parameter without a type",
        "registration",
        "has the parameter 'share', which is not keyword-only",
        penalty("*, share=1.0"),
    ),
    BrokenPlugin(
        "a type that its module does not import",
        "registration",
        "the parameters of the factory of 'odd' cannot be read: NameError: name 'Unknown' is not defined",
        penalty("*, share: 'Unknown' = 1.0"),
    ),
    BrokenPlugin(
        "an option of a type such as `torch.Tensor`",
        "registration",
        "option 'weights' of 'odd' has the type torch.Tensor, which no config can hold",
        penalty("*, weights: torch.Tensor", "import torch"),
    ),
    BrokenPlugin(
        "an option that is a function",
        "registration",
        "which no config can hold (it has no JSON schema)",
        penalty("*, of: Callable[[float], float]", "from collections.abc import Callable"),
    ),
    BrokenPlugin(
        "a default that no YAML can hold",
        "registration",
        "option 'most' of 'odd' has the default inf, which no config can hold",
        penalty("*, most: float = float('inf')"),
    ),
    BrokenPlugin(
        "a default that does not fit its type",
        "registration",
        "option 'size' of 'odd' has the default None, which does not fit its type int",
        penalty("*, size: int = None"),
    ),
    BrokenPlugin(
        "an option with a name that is taken (`use`, `level`)",
        "registration",
        "has the option 'level', a key that means something else in a config",
        penalty("*, level: float = 1.0"),
    ),
    BrokenPlugin(
        "a command that nasplug has itself",
        "registration",
        "registers the command 'run', which nasplug has itself",
        registering("register_commands", "register('run', lambda: None)"),
    ),
    BrokenPlugin(
        "a factory of a command or an activation with options",
        "registration",
        "command 'odd' has the parameters size, which no config could give",
        registering("register_commands", "register('odd', make)", "def make(*, size: int):\n    'A command.'\n"),
    ),
    BrokenPlugin(
        "an activation that is not a function",
        "registration",
        "activation 'odd' is not a function: its factory returned NoneType",
        registering("register_activations", "register('odd', lambda: None)"),
    ),
    BrokenPlugin(
        "a misspelt trait",
        "loading",
        "TypeError: Traits.__init__() got an unexpected keyword argument 'simpelx'",
        method("traits = Traits(simpelx=frozenset())"),
    ),
)
"""Caught while plugins are loaded: none of it is there then, and everything else goes on."""

PLANNED = (
    BrokenPlugin(
        "a component that does not inherit its contract",
        "planning",
        "the plugin returned Odd; a nasplug.SearchMethod is needed: write class Odd(SearchMethod), from nasplug",
        method("", base="object"),
    ),
    BrokenPlugin(
        "a misspelt optional method",
        "planning",
        "Odd has 'projekt', which nasplug does not read; write project",
        method("def projekt(self, params, step, steps):\n        return params"),
    ),
    BrokenPlugin(
        "a trait outside of `traits`",
        "planning",
        "Odd has 'stochastic', which nasplug does not read; write traits = Traits(stochastic=...)",
        method("stochastic = True"),
    ),
    BrokenPlugin(
        "the name of a contract that it does not inherit",
        "planning",
        "Odd has 'shrink', which nasplug does not read; inherit nasplug.Proximal",
        regularizer("def shrink(self, nets, amount):\n        return nets"),
    ),
    BrokenPlugin(
        "`needs` that are not parts of `Networks`",
        "planning",
        "needs: weights are not parts of Networks; parts: blocks,",
        regularizer("needs = frozenset({'weights'})"),
    ),
    BrokenPlugin(
        "architecture that `init` does not make",
        "planning",
        "traits.architecture names logits, which init does not make; it makes: w",
        method("traits = Traits(architecture=frozenset({'logits'}))"),
    ),
)
"""Caught when a study is planned that uses the name ``odd``, and by the kit."""


def component(kind: str, hook: str, body: str) -> str:
    """A plugin with one component, ``odd``, whose class has this body."""
    return f"""
import torch
from nasplug import Discretizer, Networks, Regularizer, SearchMethod, hookimpl

class Odd({kind}):
{body}

def odd():
    "A component."
    return Odd()

@hookimpl
def {hook}(register):
    register("odd", odd)
"""


def penalty_of(value: str) -> str:
    """A plugin with a penalty of this value; ``weights`` holds each layer's, ``(K, n)``."""
    weights = "weights = [w.flatten(1) for w in nets.blocks.values()]"
    body = f"    needs = frozenset({{'blocks'}})\n    def __call__(self, nets):\n        {weights}\n        return {value}"
    return component("Regularizer", "register_regularizers", body)


def discretizer_of(made: str) -> str:
    """A plugin with a discretizer that makes this of ``nets``."""
    body = f"    needs = frozenset({{'blocks'}})\n    def __call__(self, nets, score):\n        return {made}"
    return component("Discretizer", "register_discretizers", body)


LINEAR = "torch.einsum('koi,...ib->kob', nets.blocks[1, 0], x)"


def method_of(init: str, relax: str = "w", forward: str = LINEAR) -> str:
    """A plugin with a linear search method."""
    body = f"""
    def init(self, task, seeds):
        shape = len(seeds), task.outputs, task.inputs
        return {{"weight": {init}}}

    def relax(self, params, tau, noise=None):
        w = params["weight"]
        return Networks(widths=(w.shape[2], w.shape[1]), blocks={{(1, 0): {relax}}})

    def forward(self, nets, x):
        return {forward}

    def direct(self, nets):
        return nets
"""
    return component("SearchMethod", "register_search_methods", body)


PENALIZED = {"penalties": [{"use": "odd", "level": 0.1}]}
HARDENED = {"discretizers": [{"use": "odd"}]}
SEARCHED = {"method": {"use": "odd"}}
SEEDED = "seeds.view(-1, 1, 1).to(torch.float32).expand(shape) * 0.1"

LAWLESS = (
    BrokenPlugin(
        "a penalty that mixes networks",
        "planning",
        "breaks the row law: the penalty of one network changes when another joins its pack",
        penalty_of("sum(w.abs().sum(1) for w in weights) / sum(w.abs().sum() for w in weights)"),
        PENALIZED,
    ),
    BrokenPlugin(
        "a penalty below 0",
        "planning",
        "below 0, so training could lower it for ever",
        penalty_of("-sum(w.square().sum(1) for w in weights)"),
        PENALIZED,
    ),
    BrokenPlugin(
        "a penalty that is NaN where a layer has one neuron",
        "planning",
        "A layer of one neuron may have one weight: the variance of one needs correction=0",
        penalty_of("sum(w.var(1) for w in weights)"),
        PENALIZED | {"method": {"use": "edges", "mode": "l1", "hidden": [1]}},
    ),
    BrokenPlugin(
        "a penalty whose slope is not finite",
        "planning",
        "breaks the needs law: its slope in blocks[(1, 0)] is not finite",
        penalty_of("sum((w - w).square().sum(1).sqrt() for w in weights)"),
        PENALIZED,
    ),
    BrokenPlugin(
        "a discretizer that is not done after one call",
        "planning",
        "breaks the idempotence law: what it has made hard changes when it is called again",
        discretizer_of("nets.map(lambda t: 0.5 * t)"),
        HARDENED,
    ),
    BrokenPlugin(
        "a discretizer that mixes networks",
        "planning",
        "breaks the row law: what it makes of one network changes when another joins its pack",
        discretizer_of("nets.map(lambda t: torch.where(t.abs() >= t.abs().mean(), t, 0.0))"),
        HARDENED,
    ),
    BrokenPlugin(
        "a discretizer that returns nothing",
        "planning",
        "returned NoneType; needed: nasplug.Networks",
        discretizer_of("None"),
        HARDENED,
    ),
    BrokenPlugin(
        "a method whose noise is not its seeds'",
        "planning",
        "breaks the seed law: leaves that init draws for one seed changes when another joins its pack",
        method_of("torch.randn(shape)"),
        SEARCHED,
    ),
    BrokenPlugin(
        "a method that mixes networks",
        "planning",
        "breaks the row law: what relax makes of one network changes when another joins its pack",
        method_of(SEEDED, "w - w.mean(0)"),
        SEARCHED,
    ),
    BrokenPlugin(
        "a forward pass that mixes networks",
        "planning",
        "breaks the row law: what forward makes of one network changes when another joins its pack",
        method_of(SEEDED, forward=f"{LINEAR}.softmax(0)"),
        SEARCHED,
    ),
)
"""Caught when a study that uses them is planned; ``--fast`` leaves these trials out."""

ACTIVE = {"method": {"use": "edges", "mode": "l1", "hidden": [2], "activation": "odd"}}

TRIED = (
    BrokenPlugin(
        "a factory that returns nothing",
        "planning",
        "the plugin returned NoneType; a nasplug.Regularizer is needed",
        penalty(""),
        PENALIZED,
    ),
    BrokenPlugin(
        "a penalty that raises", "planning", "broke on one network with KeyError: 'no'", penalty_of("{}['no']"), PENALIZED
    ),
    BrokenPlugin(
        "a penalty that is one number for all networks",
        "planning",
        "returned shape (); needed: shape (1,), one number per network",
        penalty_of("sum(w.square().sum() for w in weights)"),
        PENALIZED,
    ),
    BrokenPlugin(
        "a method without parameters",
        "planning",
        "init returned None for one seed; needed: a dict of tensors",
        method_of(SEEDED).replace("return {", "{"),
        SEARCHED,
    ),
    BrokenPlugin(
        "outputs of another shape",
        "planning",
        "forward returned shape (1, 1); needed: shape (1, 1, 2), (K, O, B)",
        method_of(SEEDED, forward=f"{LINEAR}.mean(2)"),
        SEARCHED,
    ),
    BrokenPlugin(
        "an activation that looks at other neurons",
        "planning",
        "its value at a number changes with the numbers beside it; an activation is elementwise",
        registering("register_activations", "register('odd', lambda: lambda z: z - z.mean())"),
        ACTIVE,
    ),
    BrokenPlugin(
        "an activation that is not finite",
        "planning",
        "its value or slope is not finite at",
        registering("register_activations", "register('odd', lambda: lambda z: z.exp())"),
        ACTIVE,
    ),
)
"""Caught when a study that uses them is planned, also with ``--fast``: its one network is made, and everything called once."""

OBSERVER = f"{HEAD}@hookimpl\ndef study_finished(folder):\n    {{}}"

UNKIND = (
    BrokenPlugin(
        "a penalty that reads data in its control flow",
        "kit",
        "compile law, tensors without data: raised",
        penalty_of("weights[0].sum(1) ** 2 if weights[0].sum() > 0 else 2 * weights[0].sum(1) ** 2"),
        {"RegularizerLaws": "test_control_flow_reads_no_data"},
    ),
    BrokenPlugin(
        "a penalty that reads what it does not declare",
        "kit",
        "needs law: reads 'gates' but declares needs = ['blocks']",
        penalty_of("sum(g.sum(1) for g in nets.gates.values())"),
        {"RegularizerLaws": "test_reads_what_it_needs"},
    ),
    BrokenPlugin(
        "a discretizer whose gates stay soft",
        "kit",
        "has entries that are neither 0 nor 1",
        discretizer_of(
            "nets if not nets.gates else Networks(**{**{f: getattr(nets, f) for f in nets.__dataclass_fields__}, "
            "'gates': {k: g * 0.5 for k, g in nets.gates.items()}})"
        ),
        {"DiscretizerLaws": "test_output_is_hard"},
    ),
    BrokenPlugin(
        "a schedule that keeps state",
        "kit",
        "purity law: asked backwards it says something else; it must keep no state",
        registering("register_schedules", "register('odd', lambda: lambda progress, seen=[]: seen.append(1) or len(seen))"),
        {"ScheduleLaws": "test_progress_is_all_it_knows"},
    ),
    BrokenPlugin(
        "a command that takes any option",
        "kit",
        "refusal law: `nasplug odd --no-such-option` ended with 0, not 2",
        registering(
            "register_commands",
            "register('odd', lambda: click.Command('odd', context_settings=ANY))",
            "import click\nANY = {'ignore_unknown_options': True, 'allow_extra_args': True}",
        ),
        {"CommandLaws": "test_refuses_what_it_does_not_know"},
    ),
    BrokenPlugin(
        "an observer that prints",
        "kit",
        "output law: it printed",
        OBSERVER.format("print('done')"),
        {"ObserverLaws": "test_prints_nothing_to_the_output"},
    ),
    BrokenPlugin(
        "an observer that writes into results",
        "kit",
        "results law: it changed report.html",
        OBSERVER.format("(folder / 'report.html').write_text('mine')"),
        {"ObserverLaws": "test_leaves_results_alone"},
    ),
)
"""Caught by the kit: by this law of this class."""

STOPPED = (
    BrokenPlugin("an observer that raises", "run", "broke in study_finished with KeyError", OBSERVER.format("{}['no']")),
    BrokenPlugin(
        "a penalty that becomes NaN while networks train",
        "run",
        "penalties.0: regularizer 'odd' of plugin 'bad' (nasplug-bad 1.2) is nan at step",
        penalty_of("sum(w.abs().sum(1) * torch.where(w.abs().amax(1) > 1.5, torch.nan, 1.0) for w in weights)"),
        {"penalties": "[{use: odd, level: 0.001}]", "train": "{steps: 10, lr: 3}"},
    ),
    BrokenPlugin(
        "a command that raises",
        "run",
        "command 'odd' of plugin 'bad' (nasplug-bad 1.2) broke with KeyError: 'no'",
        registering(
            "register_commands", "register('odd', lambda: click.Command('odd', callback=lambda: {}['no']))", "import click"
        ),
    ),
    BrokenPlugin(
        "a command's factory that returns no command",
        "run",
        "its factory returned int; needed: a click.Command",
        registering("register_commands", "register('odd', lambda: 5)"),
    ),
)
"""Caught where it happens; what was trained is kept."""

BROKEN = REGISTERED + PLANNED + TRIED + LAWLESS + UNKIND + STOPPED
