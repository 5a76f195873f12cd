"""The recipe on the teacher, from its config: the architecture is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nasplug.discretize import ValidationLoss
from nasplug.networks import sizes
from nasplug.packs import load_networks
from nasplug.replicas import orthogonal
from nasplug.study import Study
from nasplug_sparcs import obs

CONFIG = Path(__file__).parents[3] / "configs" / "papers" / "sparcs_teacher.yaml"


@pytest.mark.slow
def test_the_teachers_neurons_are_found(tmp_path: Path) -> None:
    given = [f"store={tmp_path}", "mlflow=null", "seeds=3", "discretizers.0.r2=0.999", "discretizers.0.refit=0"]
    study = Study.from_yaml(CONFIG, given).run("serial")
    rows = study.frame
    assert (rows["layers"] == 1).all()
    assert (rows["neurons"] == 20).all()
    assert (rows["test_r2"] >= 0.999).all()
    assert (rows["relaxed_valid_r2"] >= 0.9997).all()  # debiased: the penalty is off on the support that it found
    nets = load_networks(study.folder / "packs" / "p0000")
    directions = orthogonal(torch.tensor([0]), "sparcs/teacher R1", 20, 20)[0].float()
    for k in range(3):
        found = nets.blocks[2, 0][k][nets.gates[2][k] > 0]
        likeness = torch.nn.functional.cosine_similarity(found.unsqueeze(0), directions.unsqueeze(1), dim=-1).abs()
        assert float(likeness.max(1).values.min()) > 0.99  # every direction of the teacher has a neuron


@pytest.mark.slow
def test_the_surgeon_needs_no_arithmetic_of_a_packs(tmp_path: Path) -> None:
    """Where numbers near 0 are kept, as in a notebook: the eigensolver gave up on this Gram matrix of mostly dead neurons."""
    given = [
        f"store={tmp_path}",
        "mlflow=null",
        "seeds=3",
        "discretizers=[]",
        "penalties=[]",
        "train.steps=300",
        "task.samples=5000",
    ]
    study = Study.from_yaml(CONFIG, given).run("serial")
    nets = replace(load_networks(study.folder / "packs" / "p0000"), gates={}, edge_gates={})
    found = obs(r2=0.95, refit=0)(nets, ValidationLoss(study.task.to("cpu", nets.blocks[1, 0].dtype)))
    assert bool((sizes(found)["neurons"] < 30).all())
