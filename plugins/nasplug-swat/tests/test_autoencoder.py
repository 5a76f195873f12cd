"""Encoding, decoding, files: what the latent does not see, and files that are not what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nasplug.errors import ConfigError, NasplugError
from nasplug.networks import forward
from nasplug.replicas import uniform
from nasplug_swat.autoencoder import (
    PAPER,
    SIZES,
    Autoencoder,
    Sampling,
    Size,
    Space,
    arrange,
    decode,
    draw,
    encode,
    fresh,
    functional_error,
    load,
    networks_of,
    read,
    save,
    scores,
    shipped,
)

torch.set_num_threads(1)
SEEDS = torch.arange(5)
TINY = Space(width=3, deepest=2, inputs=1)


def tiny() -> Autoencoder:
    return fresh(TINY, SIZES["tiny"], Sampling())


def test_a_latent_lies_on_the_sphere() -> None:
    z = encode(tiny(), draw(TINY, 2, SEEDS))
    assert z.shape == (5, 3, 32)
    torch.testing.assert_close(z.mean(-1), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.square().mean(-1), torch.ones(5, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("latent", [8, 32, 48])
def test_latents_of_any_size(latent: int) -> None:
    model = fresh(TINY, Size(width=32, layers=1, heads=2, latent=latent), Sampling())
    z = encode(model, draw(TINY, 1, SEEDS))
    assert z.shape == (5, 3, latent)
    assert networks_of(decode(model, z, 2)).widths == (1, 3, 3, 1)


@pytest.mark.parametrize("latent", [8, 96, 120])
def test_one_latent_for_a_whole_network(latent: int) -> None:
    size = Size(width=32, layers=1, heads=2, latent=latent, tokens="network")
    model = fresh(TINY, size, Sampling())
    z = encode(model, draw(TINY, 1, SEEDS))
    assert z.shape == (5, 1, latent) == (5, *model.latent_shape)
    torch.testing.assert_close(z.square().mean(-1), torch.ones(5, 1), atol=1e-3, rtol=0)
    assert networks_of(decode(model, z, 2)).widths == (1, 3, 3, 1)


def test_what_there_was_before_whole_latents_keeps_its_digest() -> None:
    assert Size().model_dump() == {"width": 64, "layers": 2, "heads": 4, "mlp": 4, "latent": None}
    assert load(None).digest.startswith("4b4299c8a4ab")
    assert Size(tokens="network").model_dump()["tokens"] == "network"
    with pytest.raises(ValueError, match="'neurons' or 'network'"):
        Size.model_validate({"tokens": "layers"})
    with pytest.raises(ValueError, match="a latent of 2 numbers, which tells no networks apart; needed: 3 at least"):
        Size(latent=2, tokens="network")


def test_what_stands_in_masked_neurons_does_not_reach_the_latent() -> None:
    nets = draw(PAPER, 3, SEEDS)
    model = load(None)
    other = {edge: w.clone() for edge, w in nets.blocks.items()}
    off = nets.gates[2] == 0
    other[2, 1][off] = 77.0
    biases = nets.biases | {2: torch.where(off, torch.full_like(nets.biases[2], -9.0), nets.biases[2])}
    assert torch.equal(encode(model, replace(nets, blocks=other, biases=biases)), encode(model, nets))


def test_arranged_networks_have_one_latent_whatever_the_order() -> None:
    nets = draw(PAPER, 2, SEEDS)
    order = torch.tensor([3, 1, 0, 6, 5, 4, 2])
    moved = replace(
        nets,
        blocks={(1, 0): nets.blocks[1, 0][:, order], (2, 1): nets.blocks[2, 1][:, :, order], (3, 2): nets.blocks[3, 2]},
        biases=nets.biases | {1: nets.biases[1][:, order]},
        gates=nets.gates | {1: nets.gates[1][:, order]},
        choices=nets.choices | {1: nets.choices[1][:, order]},
    )
    model = load(None)
    torch.testing.assert_close(encode(model, arrange(moved, PAPER)), encode(model, arrange(nets, PAPER)), atol=1e-5, rtol=0)
    assert not torch.allclose(encode(model, moved), encode(model, nets), atol=0.1)  # without it, the order is seen


def test_the_shipped_autoencoder_does_what_its_file_says() -> None:
    model = load(None)
    assert model.space == PAPER
    assert sum(file.stat().st_size for file in shipped().values()) < 16 * 2**20
    assert all(load(name).digest == read(file).digest for name, file in shipped().items())
    found = scores(model, 200, seed=5)
    for depth in range(1, 5):
        told = model.about["soft"][f"{depth}->{depth}"]
        assert float(found[depth, depth].median()) < 2.0 * told["median"] + 1e-5
        assert told["median"] <= 0.002
        assert told["q90"] <= 0.021


def test_decoding_rows_alone_is_decoding_them_together() -> None:
    model = tiny().to("cpu", torch.float64)
    z = uniform(SEEDS, "z", (3, 32), -2.0, 2.0)
    whole = decode(model, z, 2).numbers
    for k in range(5):
        torch.testing.assert_close(decode(model, z[k : k + 1], 2).numbers, whole[k : k + 1], rtol=1e-10, atol=1e-10)


def test_error_is_relative_to_the_networks_own_size() -> None:
    nets = draw(PAPER, 1, SEEDS)
    x = uniform(torch.tensor([0]), "x", (2, 64), -1.0, 1.0)[0].float()
    y = forward(nets, x)
    assert functional_error(nets, x, y).max() == 0.0
    assert float(functional_error(nets, x, 2.0 * y).median()) == pytest.approx(0.25, rel=0.01)


# files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(tiny(), tmp_path / "deep" / "one.safetensors")
    return tmp_path / "deep" / "one.safetensors"


def test_a_file_holds_all_of_it(file: Path) -> None:
    again = read(file)
    assert (again.space, again.size, again.sampling, again.digest) == (TINY, SIZES["tiny"], Sampling(), tiny().digest)
    assert all(torch.equal(w, tiny().weights[name]) for name, w in again.weights.items())
    assert [p.name for p in file.parent.iterdir()] == ["one.safetensors"]


def test_a_file_that_changes_is_read_again(file: Path) -> None:
    first = load(str(file))
    assert load(str(file)) is first
    save(fresh(TINY, SIZES["tiny"], Sampling(), seed=1), file)
    assert load(str(file)).digest != first.digest


def test_broken_files_are_told(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be read as an autoencoder"):
        read(file)
    file.write_bytes(b"hello")
    with pytest.raises(ConfigError, match="cannot be read as an autoencoder"):
        read(file)
    file.write_bytes(whole[:-4] + b"\x00\x00\x80\x3f")  # one weight is another number
    with pytest.raises(ConfigError, match="weights are not the ones it was saved with"):
        read(file)
    with pytest.raises(ConfigError, match="No such file"):
        load(str(file.parent / "none.safetensors"))


def test_files_of_something_else_are_told(file: Path) -> None:
    save_file(load_file(file), file)
    with pytest.raises(ConfigError, match=r"format None; needed: 'nasplug.swat/1'"):
        read(file)
    save_file(load_file(shipped()["paper-7x64"]), file, metadata={"format": "nasplug.swat/1", "space": "{}"})
    with pytest.raises(ConfigError, match="its description is broken"):
        read(file)


def test_nothing_half_written_is_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("nasplug_swat.autoencoder.files.save_file", fail)
    with pytest.raises(NasplugError, match=r"cannot be written \(disk full"):
        save(fresh(TINY, SIZES["tiny"], Sampling(), seed=1), file)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == ["one.safetensors"]


def test_sizes_that_cannot_be_are_told() -> None:
    with pytest.raises(ValueError, match="heads divide"):
        Size(width=10, heads=4)
