"""What algorithms promise beyond what all share: what is refused, what files hold and how large they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.networks.test_kohya_keys import sd15_unet, text_encoder
from tests.networks.test_network import EMB, X, build, randomize
from trainer_core.config import NetworkConfig
from trainer_core.errors import ConfigError
from trainer_core.families import SD1
from trainer_core.files.lora_file import save_lora
from trainer_core.networks import ALGORITHMS, Network, build_network

ALGOS = ALGORITHMS.names()
KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"


def gradients(network: Network, components, is_checkpointed: bool) -> dict[str, Tensor]:
    unet, x = components["unet"], X.clone().requires_grad_()
    network.begin(5)
    with network.attached():
        y = checkpoint(unet, x, EMB, use_reentrant=False) if is_checkpointed else unet(x, EMB)
        y.square().sum().backward()
    found = {name: each.grad for name, each in network.parameters_by_component()["unet"].items()}
    for each in network.parameters_by_component()["unet"].values():
        each.grad = None
    return found


@pytest.mark.parametrize("algo", ALGOS)
def test_a_recomputed_block_gives_the_same_gradients(algo: str, components) -> None:
    options = {"dropout": 0.3, "rank_dropout": 0.3, "module_dropout": 0.3, "train_text_encoder": False}
    network = randomize(build(components, algo=algo, preset="full", train_norm=True, **options))
    plain, recomputed = (gradients(network, components, is_checkpointed) for is_checkpointed in (False, True))
    assert any(each is not None and each.any() for each in plain.values())
    for name in plain:
        assert (plain[name] is None) == (recomputed[name] is None), name
        assert plain[name] is None or torch.equal(plain[name], recomputed[name]), name


@pytest.mark.parametrize("algo", ALGOS)
def test_neither_init_nor_forward_nor_delta_waits_for_the_device(algo: str, components) -> None:
    """On the meta device nothing has a value: what asks for one raises."""
    unet = components["unet"].to("meta")
    config = NetworkConfig(algo=algo, rank=4, preset="full", train_text_encoder=False, train_norm=True)
    network = build_network(config, {"unet": unet}, SD1, 1, "meta")
    with network.attached(), network.without_randomness():
        unet(X.to("meta"), EMB.to("meta")).square().sum().backward()
    assert all(each.grad is not None for each in network.parameters_by_component()["unet"].values())
    network.delta_weights()


# ---------------------------------------------------------------- (IA)³


def sd15() -> dict[str, nn.Module]:
    return {"unet": sd15_unet(), "te1": text_encoder(12, 768, 12)}


@pytest.mark.parametrize(
    ("settings", "kilobytes"),
    [
        ({"train_on_input": False, "train_text_encoder": False}, 147),
        ({"train_text_encoder": False}, 222),
        ({"train_on_input": False}, 215),
        ({}, 345),
    ],
)
def test_ia3_files_of_sd15_are_as_small_as_promised(settings: dict, kilobytes: int, tmp_path: Path) -> None:
    """ "About 200 KB", says the guide."""
    network = build_network(NetworkConfig(algo="ia3", **settings), sd15(), SD1, seed=0)
    save_lora(tmp_path / "x.safetensors", network.state_dict(torch.float16), {})
    assert (tmp_path / "x.safetensors").stat().st_size / 1000 == pytest.approx(kilobytes, rel=0.05)
    assert network.file_size(torch.float16) / 1000 == pytest.approx(kilobytes, rel=0.1)


def test_ia3_files_hold_what_lycoris_writes(components) -> None:
    saved = build(components, algo="ia3").state_dict(torch.float16)
    assert {key for key in saved if key.startswith("lora_unet")} == {
        f"{KEY}_{layer}.{suffix}" for layer in ("attn1_to_v", "ff_net_2") for suffix in ("weight", "on_input")
    }
    assert saved[f"{KEY}_attn1_to_v.on_input"].item() == 0 and saved[f"{KEY}_ff_net_2.on_input"].item() == 1
    outputs = build(components, algo="ia3", train_on_input=False).state_dict()
    assert outputs[f"{KEY}_ff_net_2.on_input"].item() == 0


# ---------------------------------------------------------------- rotations


def test_what_no_host_would_load_right_is_refused(components) -> None:
    for settings, words in (
        ({"algo": "diag-oft", "rescaled": True}, "lost when ComfyUI loads"),
        ({"algo": "diag-oft", "rank": 1}, "single ones, which cannot rotate"),
        ({"algo": "boft", "rank": 1}, "outputs of .* into blocks of at most 1; give a rank of 2 or more"),
        ({"algo": "glora", "rank": 8}, "give a smaller rank"),
        ({"algo": "norm", "train_text_encoder": True}, "trains the UNet alone"),
        ({"algo": "dylora", "rank": 6}, r"its rank \(6\) is not a multiple of block_size \(4\)"),
        ({"algo": "dylora", "dora_wd": True}, "does not go with dylora"),
        ({"algo": "ia3", "train_norm": True}, "finds no norm among the chosen layers"),
        ({"algo": "dylora", "conv_rank": 6}, r"conv1: its rank \(6\)"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(components, **settings)


@pytest.mark.parametrize("algo", ["diag-oft", "boft"])
def test_rotations_stay_rotations_within_their_constraint(algo: str) -> None:
    from trainer_core.networks.base import Layer

    module = nn.Linear(40, 40).double()
    deltas = {}
    for constraint in (0.0, 0.01):
        algorithm = ALGORITHMS.get(algo)(NetworkConfig(algo=algo, rank=10, constraint=constraint))
        layer = Layer(module, 10, 10.0, "x")
        start = algorithm.init(layer, torch.Generator())
        weights = {name: torch.randn(each.shape, dtype=torch.float64) for name, each in start.items()}
        deltas[constraint] = algorithm.delta(layer, weights)
        after = module.weight + deltas[constraint]
        torch.testing.assert_close(after.t() @ after, module.weight.t() @ module.weight)
        # what is saved needs no constraint any more
        saved = algorithm.exported(layer, weights)
        free = ALGORITHMS.get(algo)(NetworkConfig(algo=algo, rank=10))
        torch.testing.assert_close(free.delta(layer, saved), deltas[constraint])
        assert algorithm.constants(layer)["alpha"].item() == 0
    assert deltas[0.01].norm() < 0.2 * deltas[0.0].norm()


def test_a_rescale_is_saved_as_a_factor_and_precisely(components) -> None:
    network = randomize(build(components, algo="boft", rescaled=True))
    saved = network.state_dict(torch.float16)
    key = next(key for key in saved if key.endswith(".rescale"))
    assert saved[key].dtype == torch.float32
    assert saved[key].mean().item() == pytest.approx(1, abs=0.5)
    again = build(components, algo="boft", rescaled=True, seed=9)
    again.load_state_dict(network.state_dict())
    for name, delta in network.delta_weights().items():
        torch.testing.assert_close(again.delta_weights()[name], delta)


@pytest.mark.parametrize("number", [8, 40, 127, 250, 320, 360, 512, 640, 768, 1280, 3072])
@pytest.mark.parametrize("near", [1, 2, 4, 5, 8, 16, 24, 64, 1024])
def test_blocks_are_cut_as_lycoris_cuts_them(number: int, near: int) -> None:
    from lycoris.functional.general import factorization, power2factorization

    from trainer_core.networks.boft import butterfly
    from trainer_core.networks.oft import two_factors

    assert two_factors(number, near) == factorization(number, near)
    size, count = power2factorization(number, near)
    if count:
        rounds = sum(int(digit) for digit in f"{count - 1:b}") + 1
        assert butterfly(number, near) == (rounds, count, size)
    else:
        with pytest.raises(ConfigError):
            butterfly(number, near)


# ---------------------------------------------------------------- norms


def test_norms_without_weights_are_left_alone(components) -> None:
    attention = components["unet"].down_blocks[0].attentions[0]
    attention.norm = nn.LayerNorm(8, elementwise_affine=False)
    saved = build(components, algo="norm").state_dict()
    assert set(saved) == {f"lora_unet_down_blocks_0_resnets_0_norm1.{each}" for each in ("w_norm", "b_norm")}
    with_norms = build(components, train_norm=True, algo="locon").state_dict()
    assert set(saved) < set(with_norms)
