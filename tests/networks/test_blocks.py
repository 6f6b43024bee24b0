"""Blocks are numbered as kohya numbers them, and each learns at its own rank, alpha and rate."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import UNet2DConditionModel

from trainer_core.config import DatasetConfig, NetworkConfig, OptimizerConfig, TrainConfig
from trainer_core.errors import ConfigError
from trainer_core.families import SD1, SDXL
from trainer_core.learner import Learner
from trainer_core.networks import Network, build_network
from trainer_core.networks.blocks import block_index, read_blocks

# worked out by hand from sd-scripts' networks/lora.py, get_block_index
SD_NUMBERS = {
    "lora_unet_conv_in": None,
    "lora_unet_time_embedding_linear_1": None,
    "lora_te_text_model_encoder_layers_0_mlp_fc1": None,
    "lora_unet_down_blocks_0_attentions_0_proj_in": 1,
    "lora_unet_down_blocks_0_resnets_1_conv1": 2,
    "lora_unet_down_blocks_0_downsamplers_0_conv": 3,
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q": 4,
    "lora_unet_down_blocks_2_attentions_1_proj_out": 8,
    "lora_unet_down_blocks_3_resnets_1_conv2": 11,
    "lora_unet_mid_block_attentions_0_proj_in": 12,
    "lora_unet_mid_block_resnets_1_conv1": 12,
    "lora_unet_up_blocks_0_resnets_0_conv1": 13,
    "lora_unet_up_blocks_0_upsamplers_0_conv": 15,
    "lora_unet_up_blocks_1_attentions_0_proj_in": 16,
    "lora_unet_up_blocks_3_attentions_2_proj_out": 24,
}
SDXL_NUMBERS = {
    "lora_unet_time_embed_0": None,
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": None,
    "lora_unet_input_blocks_0_0": 1,
    "lora_unet_input_blocks_4_1_proj_in": 5,
    "lora_unet_input_blocks_8_1_transformer_blocks_3_attn1_to_k": 9,
    "lora_unet_middle_block_1_proj_in": 11,
    "lora_unet_middle_block_2_in_layers_2": 12,
    "lora_unet_output_blocks_0_1_proj_in": 13,
    "lora_unet_output_blocks_8_0_in_layers_2": 21,
}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    """SD 1.5's structure, thin."""
    return UNet2DConditionModel(
        block_out_channels=(32, 32, 32, 32), cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8
    ).requires_grad_(False)


def network_of(unet, **settings) -> Network:
    config = NetworkConfig(**{"rank": 4, "alpha": 2.0, "train_text_encoder": False, **settings})
    return build_network(config, {"unet": unet}, SD1, seed=1)


def by_block(network: Network) -> dict[int | None, set[tuple[int, float]]]:
    found: dict[int | None, set[tuple[int, float]]] = {}
    for adapter in network.adapters:
        found.setdefault(block_index(adapter.key, False), set()).add((adapter.layer.rank, adapter.layer.alpha))
    return found


def listed(*numbers: float) -> str:
    return ",".join(str(number) for number in numbers)


def test_blocks_have_kohyas_numbers() -> None:
    assert {key: block_index(key, False) for key in SD_NUMBERS} == SD_NUMBERS
    assert {key: block_index(key, True) for key in SDXL_NUMBERS} == SDXL_NUMBERS


def test_every_block_has_its_own_rank_and_alpha(unet) -> None:
    ranks = [index % 3 for index in range(25)]
    network = network_of(unet, block_dims=listed(*ranks), block_alphas=listed(*(index / 2 for index in range(25))))
    expected = {index: {(ranks[index], index / 2)} for index in (1, 2, 4, 5, 7, 8, *range(16, 25)) if ranks[index]}
    assert by_block(network) == expected  # block 12, of rank 0, is left out
    assert 12 not in expected


def test_convolutions_follow_the_other_layers_unless_they_have_their_own(unet) -> None:
    ranks = listed(*[2] * 25)
    following = by_block(network_of(unet, algo="locon", block_dims=ranks))
    assert set.union(*following.values()) == {(2, 2.0)}
    own = by_block(network_of(unet, algo="locon", block_dims=ranks, conv_block_dims=listed(*[3] * 25), conv_alpha=1.5))
    assert own[1] == own[15] == {(2, 2.0), (3, 1.5)}
    usual = by_block(network_of(unet, algo="locon", block_dims=ranks, conv_rank=5))
    assert usual[15] == {(2, 2.0), (5, 2.0)}


def test_rs_lora_counts_for_every_blocks_rank(unet) -> None:
    network = network_of(unet, block_dims=listed(*[4, 16] * 12, 4), rs_lora=True)
    for adapter in network.adapters:
        assert adapter.layer.scale == pytest.approx(2 / math.sqrt(adapter.layer.rank))


def test_rates_make_groups_that_learn_at_a_share_of_their_components_rate(unet) -> None:
    network = network_of(
        unet, down_lr_weight=listed(*[0.5] * 6, *[1] * 6), mid_lr_weight="0", up_lr_weight="zeros+0.25"
    )
    rates = {group.name: group.rate for group in network.groups()}
    assert rates == {"unet x0.5": 0.5, "unet": 1.0, "unet x0.25": 0.25}
    assert 12 not in by_block(network)
    config = TrainConfig(
        output_name="x",
        output_dir=".",
        dataset=DatasetConfig(folder="."),
        optimizer=OptimizerConfig(optimizer="AdamW", learning_rate=0.1, unet_lr=0.01),
    )
    learner = Learner(config, network, torch.float32)
    assert {name: float(rate) for name, rate in learner.optimizer.effective_lr(1.0).items()} == pytest.approx(
        {"unet x0.5": 0.005, "unet": 0.01, "unet x0.25": 0.0025}
    )
    learner.buffer.grads.fill_(1e-6)
    before = network.state_dict()
    learner.step(1.0)
    for key, rate in (("down_blocks_0", 0.005), ("down_blocks_2", 0.01), ("up_blocks_3", 0.0025)):
        name = f"lora_unet_{key}_attentions_0_proj_in.lora_up.weight"
        moved = (before[name] - network.state_dict()[name]).abs().max().item()
        assert moved == pytest.approx(rate, rel=0.05)  # Adam's first step is as long as its rate
    assert {f"{group.name}/{name}" for group in network.groups() for name in group.parameters} == {
        f"{place.group}/{place.name}" for place in learner.buffer.places
    }


def test_a_copy_in_another_dtype_serves_every_group(unet) -> None:
    network = network_of(unet, up_lr_weight="linear")
    copies = {
        f"{group.name}/{name}": each.detach().bfloat16()
        for group in network.groups()
        for name, each in group.parameters.items()
    }
    network.bind(copies)
    assert all(each.dtype == torch.bfloat16 for adapter in network.adapters for each in adapter.active.values())


@pytest.mark.parametrize(
    ("word", "shares"),
    [
        ("sine", [math.sin(math.pi * (i / 11) / 2) for i in range(12)]),
        ("cosine", [math.sin(math.pi * (i / 11) / 2) for i in reversed(range(12))]),
        ("linear", [i / 11 for i in range(12)]),
        ("reverse_linear", [i / 11 for i in reversed(range(12))]),
        ("zeros", [0.0] * 12),
    ],
)
def test_words_are_kohyas_curves(word: str, shares: list[float]) -> None:
    rates = read_blocks(NetworkConfig(down_lr_weight=f"{word}+.25"), SD1).rates
    assert rates == pytest.approx([*(share + 0.25 for share in shares), *[1.0] * 13])


def test_rates_below_the_threshold_leave_the_block_out() -> None:
    blocks = read_blocks(NetworkConfig(down_lr_weight="linear", block_lr_zero_threshold=0.5), SD1)
    assert blocks.rates[:12] == pytest.approx([0] * 6 + [i / 11 for i in range(6, 12)])
    assert blocks.rank("lora_unet_down_blocks_0_attentions_0_proj_in", False, 8) == 0


def test_sdxl_has_nine_three_and_nine_with_the_edges_at_full_rate() -> None:
    blocks = read_blocks(
        NetworkConfig(down_lr_weight=listed(*[0.1] * 9), mid_lr_weight="0.2,0.3,0.4", up_lr_weight="linear"), SDXL
    )
    assert len(blocks.rates) == 23
    assert blocks.rate("lora_unet_input_blocks_8_1_proj_in") == 0.1
    assert blocks.rate("lora_unet_middle_block_1_proj_in") == 0.3
    assert blocks.rate("lora_unet_output_blocks_8_1_proj_in") == 1
    assert blocks.rates[0] == blocks.rates[22] == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"block_dims": "4,4"}, r'"network.block_dims" has 2 numbers; this model has 25 blocks'),
        ({"block_alphas": listed(*[1] * 24) + ",x"}, r'"network.block_alphas" has "x" in it'),
        ({"down_lr_weight": "cosinus"}, r'"network.down_lr_weight" has "cosinus" in it'),
        ({"up_lr_weight": "1,2,3"}, r'"network.up_lr_weight" has 3 numbers; this model has 12 blocks'),
    ],
)
def test_lists_that_do_not_fit_are_refused(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_blocks(NetworkConfig(**settings), SD1)
