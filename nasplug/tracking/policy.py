"""What a version must keep to before ``nasplug promote`` gives it the alias ``champion``: a YAML file of limits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from nasplug import results
from nasplug.compact import CompactNetwork
from nasplug.config import check, read_mapping
from nasplug.config.sweeps import Strict
from nasplug.ensemble import Ensemble
from nasplug.export import FORMS, export
from nasplug.tracking.evidence import WRONG, Evidence
from nasplug.tracking.gate import LEVEL, Condition, told_error

__all__ = ["Policy", "conditions_of", "read_policy"]

STORED = ("error", "parameters", "edges", "calibration", "certificate")  # what test.parquet tells
REPRODUCED = "nasplug.reproduced"
Network = CompactNetwork | Ensemble
Limit = Annotated[float, Field(ge=0)] | None
Whole = Annotated[int, Field(ge=0)] | None


class Policy(BaseModel):
    """Limits: the largest values allowed, and what must be there. Everything that is not named is not asked for.

    Attributes:
        level: of the test against the champion (`nasplug.tracking.gate`).
        error: on the test rows: a share of wrong labels, or a mean squared error in the target's own units.
        parameters, edges: sizes.
        latency_us: microseconds per call with one row, measured on the machine that promotes.
        flash_bytes: code and constants of the network as C (``nasplug export --to c``), compiled with ``-Os``.
        calibration: expected calibration error of the probabilities on the test rows.
        certificate: ``required``: a ``certificate.json`` beside the model.
        reproduced: ``required``: a tag ``nasplug.reproduced`` of the version or its run, other than ``false``.
    """

    model_config = Strict
    words: ClassVar[str] = "a mapping of limits"

    level: float = Field(LEVEL, gt=0, lt=1)
    error: Limit = None
    parameters: Whole = None
    edges: Whole = None
    latency_us: Limit = None
    flash_bytes: Whole = None
    calibration: Limit = None
    certificate: Literal["required"] | None = None
    reproduced: Literal["required"] | None = None


def read_policy(path: Path) -> Policy:
    """A policy from its file.

    Raises:
        ConfigError: when it cannot be read, or is none.
    """
    return check(Policy, read_mapping(path, (), "a policy", Policy.model_fields), path.name)


def conditions_of(
    policy: Policy, evidence: Evidence | str, tags: Mapping[str, str], network: Callable[[], Network]
) -> list[Condition]:
    """Every condition of a policy, judged.

    Args:
        policy: the limits.
        evidence: of the version, or in words why there is none.
        tags: of the version and of its run.
        network: loads it; asked only for what must be measured.
    """
    found: list[Condition] = []
    if isinstance(evidence, str):
        wanted = [key for key in STORED if getattr(policy, key) is not None]
        found += [Condition(key, evidence, _limit(policy, key), False) for key in wanted]
    else:
        of = evidence.of
        if policy.error is not None:
            shown = f"{100 * policy.error:.2f} %" if of.metric == WRONG else f"{policy.error:.4g}"
            found.append(Condition("error", told_error(of), f"at most {shown}", of.error <= policy.error))
        for key, size in (("parameters", of.parameters), ("edges", of.edges)):
            if (most := getattr(policy, key)) is not None:
                found.append(Condition(key, f"{size}", f"at most {most}", size <= most))
        if policy.calibration is not None:
            sure = of.calibration
            words = "its outputs are not probabilities" if sure is None else f"expected calibration error {sure:.4g}"
            passed = sure is not None and sure <= policy.calibration
            found.append(Condition("calibration", words, f"at most {policy.calibration:.4g}", passed))
        if policy.certificate is not None:
            found.append(Condition("certificate", of.certificate or "none", "a certificate", of.certificate is not None))
    if policy.latency_us is not None:
        microseconds = results.latency(network())  # type: ignore[arg-type]
        words = f"{microseconds:.1f} us per row on this machine"
        found.append(Condition("latency", words, f"at most {policy.latency_us:g} us", microseconds <= policy.latency_us))
    if policy.flash_bytes is not None:
        found.append(_flash(network(), policy.flash_bytes))
    if policy.reproduced is not None:
        told = str(tags.get(REPRODUCED, ""))
        passed = told.strip().lower() not in ("", "false", "no")
        found.append(Condition("reproduced", told[:200] or "nobody has reproduced it", f"a tag {REPRODUCED}", passed))
    return found


def _limit(policy: Policy, key: str) -> str:
    value: Any = getattr(policy, key)
    return "a certificate" if value == "required" else f"at most {value:g}"


def _flash(network: Network, most: int) -> Condition:
    """The network written as C, run and compiled, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as there:
        (told,) = export(network, "network", [FORMS["c"]], Path(there)).forms
    size = told.figures.get("flash_bytes")
    words = f"{size} bytes" if size is not None else told.refused or "no compiler to measure it with"
    return Condition("flash", words, f"at most {most} bytes", size is not None and size <= most)
