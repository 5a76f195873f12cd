"""What to do where a law is broken: one sentence per law, which its message ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

__all__ = ["REMEDIES", "Kit"]

NO_ROWS = "Reduce over the axes after the first alone, never over K, and take no path that depends on another row"
PURE = "Make new tensors instead of changing those that are given"
SEEDED = "Draw with nasplug.replicas.uniform or normal, from the seeds that are given, and keep no state"
NO_LOOK = "Write torch.where instead of if, and no .item(), float() or bool() of a tensor"

REMEDIES: Mapping[str, str] = {
    "test_answers_for_help": "Give every command a docstring, and import what is heavy inside it",
    "test_architecture_names_parameters": "Name leaves that init makes in traits.architecture",
    "test_can_be_learned": "Drop or fill what is not finite, and cut the data into three parts that are not empty",
    "test_certified": "Give one mapping of plain data for each network, with verdict and sites",
    "test_changes_nothing": PURE,
    "test_constant_is_best": "Let constant give the outputs that make the weighted mean of the loss least, or inherit it",
    "test_contract": "Inherit the contract from nasplug, and write names as it has them",
    "test_control_flow_reads_no_data": NO_LOOK,
    "test_direct_is_the_same_function": "Let direct give the effective weights of what forward computes",
    "test_direction": "Set higher = True where more is better",
    "test_documents_its_options": "Write help=... for every option",
    "test_elementwise": "Compute each value from its own argument alone",
    "test_export_law": "Keep to activations, parts and shapes that nasplug.compact has",
    "test_export_law_in_other_runtimes": "Keep to activations, parts and shapes that nasplug.compact has",
    "test_finite": "Bound the function, or clamp its argument",
    "test_forward": "Give (K, O, B) for shared and for own inputs; nasplug.networks.forward does",
    "test_gradient_is_finite": "Avoid roots, logarithms and quotients at 0; the variance of one number needs correction=0",
    "test_has_hooks_of_an_observer": "Mark hooks with @nasplug.hookimpl; names and arguments are those of nasplug.hookspecs",
    "test_hears_a_study": "Read only what the event's folder holds, and expect files of any size",
    "test_hears_of_failures": "Implement only what you need: a hook may be called for a study of which nothing finished",
    "test_holds": "Let hold give back the leaves that relax made the parts of",
    "test_idempotent": "Let what is hard already stay as it is",
    "test_init_leads_with_replicas": "Make every leaf (K, ...), K = len(seeds)",
    "test_is_a_command": "Return a click.Command (@click.command or @click.group) from the factory",
    "test_is_documented": "Write a docstring whose first line says what it is",
    "test_is_soon_done": "Do in the background what takes long, or set patience_seconds on the observer",
    "test_isolation": NO_ROWS,
    "test_keeps_studies_apart": "Keep what belongs to a run by its folder",
    "test_leaves_results_alone": "Write beside the study's files, never into them",
    "test_loss_fits_the_kind": "Take mse, logistic or cross_entropy as the kind of task has it",
    "test_makes_the_same_digest": "Make the same data, scales and names from the same options, and read no clock",
    "test_needs_are_enough": "Declare every part that is read in needs",
    "test_norms": "Give the norms whose sum the value is, or None; a proximal penalty gives None",
    "test_options_are_plain_data": "Write options as a YAML file would hold them",
    "test_output_is_hard": "Make gates 0 or 1 and choices one-hot, in rows that are NaN too",
    "test_prints_nothing_to_the_output": "Log to standard error: the standard output is the command's answer",
    "test_per_sample": "Compute the value of each network and sample from its own outputs; reduce over targets alone",
    "test_progress_is_all_it_knows": "Compute the value from progress alone",
    "test_reads_what_it_needs": "Declare the part in needs, or read effective weights with nets.block(edge)",
    "test_rebuild": SEEDED,
    "test_rebuild_in_a_fresh_process": "Take all that decides the result from the options, nothing from this process",
    "test_refuses_what_it_does_not_know": "Leave the parsing of arguments to click",
    "test_relax_changes_nothing": PURE,
    "test_relax_makes_networks": "Keep gates in [0, 1], choices on the simplex, and every shape as the widths say",
    "test_row_law": NO_ROWS,
    "test_row_law_with_data_of_its_own": "Score subsets of rows with score.take(index), and take x (K, I, N) as well as (I, N)",
    "test_row_law_with_weights": "Weigh samples by split.weights, (N,) or (K, N), wherever targets or errors are read",
    "test_scores_all_rows_at_once": "Ask the score about the whole pack, not about rows in a loop",
    "test_seed_law": SEEDED,
    "test_shape": "Return (K, B) for outputs (K, O, B), and let point return (K, targets, B)",
    "test_shapes": "Make samples columns: x (I, N), y (O, N), or (N,) long for classes; nasplug.tasks.unscaled does",
    "test_shrinking": "Let shrink be the proximal map of the penalty, row by row",
    "test_splits_share_no_sample": "Cut the samples once, without overlap; nasplug.tasks.Split.cut does",
    "test_value": "Return (K,), >= 0, in the type of the networks",
    "test_weights": "Count each sample by its weight, (B,) or (K, B); nasplug.tasks.mean does",
    "test_values_are_finite_numbers": "Return a finite float for every progress in [0, 1]",
    "test_what_it_says_of_its_slope": "Leave non_decreasing away, or mend the function: monotone networks are built on it",
}
"""Law -> what its author does."""


class Kit:
    """Laws as test methods; the message of a broken one ends with whose component it is and what its author can do."""

    def whose(self) -> str:
        """The component in words, with plugin, distribution and version."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, law in list(vars(cls).items()):
            if name in REMEDIES:
                setattr(cls, name, _telling(law))


def _telling(law: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(law)
    def told(self: Kit) -> None:
        try:
            law(self)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.whose()}. {REMEDIES[law.__name__]}.") from error.__cause__

    return told
