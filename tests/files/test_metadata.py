"""The metadata says what was trained, under the keys and in the words that the UIs and tools read."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
import torch
from safetensors.torch import save

from trainer_core.config import DatasetConfig, LossConfig, NetworkConfig, OptimizerConfig, TrainConfig
from trainer_core.families import SD1, SD2, SDXL
from trainer_core.files.metadata import MAX_TAG_FREQUENCY_BYTES, RunFacts, build_metadata, capped_tag_frequency

FACTS = RunFacts(
    output_name="cat-000003",
    epoch=3,
    step=300,
    total_steps=1000,
    batches_per_epoch=100,
    num_train_images=200,
    prediction="epsilon",
    started_at=datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    finished_at=datetime(2024, 1, 2, 4, 4, 5, tzinfo=timezone.utc),
    session_id="123",
    bucket_info={"buckets": {0: {"resolution": [512, 512], "count": 200}}, "mean_img_ar_error": 0.0},
    dataset_dirs={"10_cat": {"n_repeats": 10, "img_count": 20}},
    tag_frequency={"10_cat": {"cat": 20, "猫": 3}},
    model_name="v1-5-pruned.safetensors",
    host="ComfyUI 0.3.64",
)
CONFIG = TrainConfig(output_name="cat", output_dir="out", dataset=DatasetConfig(folder="pictures", batch_size=2))

# every key that sd-scripts 0.10.1 writes for one dataset folder, but for its own commit hash
KOHYAS = """session_id training_started_at output_name learning_rate text_encoder_lr unet_lr num_train_images
num_validation_images num_reg_images num_batches_per_epoch num_epochs gradient_checkpointing
gradient_accumulation_steps max_train_steps lr_warmup_steps lr_scheduler network_module network_dim network_alpha
network_dropout mixed_precision full_fp16 v2 base_model_version clip_skip max_token_length cache_latents seed lowram
noise_offset multires_noise_iterations multires_noise_discount adaptive_noise_scale zero_terminal_snr training_comment
optimizer max_grad_norm caption_dropout_rate caption_dropout_every_n_epochs caption_tag_dropout_rate
face_crop_aug_range prior_loss_weight min_snr_gamma scale_weight_norms ip_noise_gamma debiased_estimation
noise_offset_random_strength ip_noise_gamma_random_strength loss_type huber_schedule huber_scale huber_c fp8_base
fp8_base_unet validation_seed validation_split max_validation_steps validate_every_n_epochs validate_every_n_steps
resize_interpolation batch_size_per_device total_batch_size resolution color_aug flip_aug random_crop shuffle_caption
enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso keep_tokens dataset_dirs reg_dataset_dirs
tag_frequency bucket_info sd_model_name epoch steps training_finished_at"""


def metadata(config: TrainConfig = CONFIG, family=SD1, facts: RunFacts = FACTS, **changes: Any) -> dict[str, str]:
    return build_metadata(replace(config, **changes), family, facts)


def test_every_key_of_kohyas_is_there_and_all_is_text() -> None:
    found = metadata()
    assert {f"ss_{key}" for key in re.findall(r"\w+", KOHYAS)} == {key for key in found if key.startswith("ss_")}
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.items())


def test_what_a1111_shows_and_matches_by() -> None:
    found = metadata()
    assert found["ss_output_name"] == "cat-000003"
    assert found["ss_v2"] == "False" and found["ss_base_model_version"] == "sd_v1"
    assert json.loads(found["ss_tag_frequency"]) == {"10_cat": {"cat": 20, "猫": 3}}
    assert json.loads(found["ss_dataset_dirs"])["10_cat"]["img_count"] == 20
    assert json.loads(found["ss_bucket_info"])["buckets"]["0"]["resolution"] == [512, 512]
    assert datetime.fromtimestamp(float(found["ss_training_started_at"]), timezone.utc) == FACTS.started_at
    assert ast.literal_eval(found["ss_resolution"]) == (512, 512)


@pytest.mark.parametrize(
    ("family", "prediction", "version", "architecture"),
    [
        (SD1, "epsilon", "sd_v1", "stable-diffusion-v1/lora"),
        (SD1, "v_prediction", "sd_v1", "stable-diffusion-v1/lora"),
        (SD2, "epsilon", "sd_v2", "stable-diffusion-v2-512/lora"),
        (SD2, "v_prediction", "sd_v2_v", "stable-diffusion-v2-768-v/lora"),
        (SDXL, "epsilon", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
    ],
)
def test_families_are_told_apart(family, prediction: str, version: str, architecture: str) -> None:
    found = metadata(family=family, facts=replace(FACTS, prediction=prediction))
    assert found["ss_base_model_version"] == version
    assert found["ss_v2"] == str(family is SD2)
    assert found["modelspec.architecture"] == architecture
    assert found["modelspec.prediction_type"] == ("v" if prediction == "v_prediction" else "epsilon")


def test_modelspec_has_what_it_must() -> None:
    found = metadata(dataset=replace(CONFIG.dataset, trigger_word="ohwx"), loss=LossConfig(min_timestep=100))
    assert found["modelspec.sai_model_spec"] == "1.0.1"
    assert found["modelspec.title"] == "cat-000003"
    assert found["modelspec.resolution"] == "512x512"
    assert found["modelspec.date"] == "2024-01-02T04:04:05+00:00"
    assert found["modelspec.trigger_phrase"] == "ohwx"
    assert found["modelspec.timestep_range"] == "100,1000"
    assert "ComfyUI 0.3.64" in found["modelspec.implementation_version"]


def test_networks_are_named_as_their_loaders_know_them() -> None:
    lora = metadata(network=NetworkConfig(rank=8, alpha=4))
    assert (lora["ss_network_module"], lora["ss_network_dim"], lora["ss_network_alpha"]) == ("networks.lora", "8", "4")
    assert "ss_network_args" not in lora
    locon = metadata(network=NetworkConfig(algo="locon", rank=8, alpha=4, conv_rank=2))
    assert locon["ss_network_module"] == "networks.lora"
    assert json.loads(locon["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "4"}
    dora = metadata(network=NetworkConfig(rank=8, alpha=4, dora_wd=True))
    assert dora["ss_network_module"] == "lycoris.kohya"
    assert json.loads(dora["ss_network_args"]) == {"algo": "lora", "preset": "attn-mlp", "dora_wd": "True"}
    blocks = metadata(network=NetworkConfig(mid_lr_weight="0.5", module_dropout=0.1))
    assert blocks["ss_network_module"] == "networks.lora"
    assert json.loads(blocks["ss_network_args"]) == {"mid_lr_weight": "0.5", "module_dropout": "0.1"}
    loha = metadata(network=NetworkConfig(algo="loha", rank=8, alpha=4))
    assert loha["ss_network_module"] == "lycoris.kohya"
    assert json.loads(loha["ss_network_args"])["algo"] == "loha"


def test_settings_are_written_as_they_were() -> None:
    optimizer = OptimizerConfig(optimizer="Prodigy", optimizer_args="weight_decay=0.01 d_coef=2", unet_lr=0.5)
    found = metadata(optimizer=optimizer, gradient_accumulation_steps=3, loss=LossConfig(min_snr_gamma=5))
    assert found["ss_optimizer"] == "Prodigy(weight_decay=0.01,d_coef=2)"
    assert (found["ss_learning_rate"], found["ss_unet_lr"], found["ss_text_encoder_lr"]) == ("1.0", "0.5", "None")
    assert (found["ss_batch_size_per_device"], found["ss_total_batch_size"]) == ("2", "6")
    assert found["ss_min_snr_gamma"] == "5"
    assert (found["ss_epoch"], found["ss_steps"], found["ss_max_train_steps"]) == ("3", "300", "1000")
    assert metadata(family=SDXL)["ss_clip_skip"] == "None"  # SDXL ignores it


def test_the_model_is_named_only_as_far_as_it_is_known() -> None:
    assert metadata()["ss_sd_model_name"] == "v1-5-pruned.safetensors"
    unknown = metadata(facts=replace(FACTS, model_name=""))
    assert not {"ss_sd_model_name", "ss_new_sd_model_hash", "ss_vae_name"} & set(unknown)
    assert metadata(facts=replace(FACTS, model_hash="ab" * 32))["ss_new_sd_model_hash"] == "ab" * 32


def test_small_tag_counts_are_kept_whole() -> None:
    assert capped_tag_frequency(FACTS.tag_frequency) == FACTS.tag_frequency


def test_large_tag_counts_lose_their_rarest_tags_and_fit_comfyuis_limit() -> None:
    many = {f"{n}_dir": {f'tag "{i}" 猫': i for i in range(30_000)} for n in range(3)}
    capped = capped_tag_frequency(many)
    assert all(min(tags.values()) > 20_000 for tags in capped.values())
    found = metadata(facts=replace(FACTS, tag_frequency=many))
    in_header = len(json.dumps(found["ss_tag_frequency"], ensure_ascii=False).encode())
    assert 0.5 * MAX_TAG_FREQUENCY_BYTES < in_header <= MAX_TAG_FREQUENCY_BYTES
    # SDXL's 1052 LoCon layers, as LoHa with five tensors each
    name = "lora_unet_output_blocks_0_1_transformer_blocks_{}_attn1_to_out_0.hada_w1_{}"
    tensors = {name.format(layer, part): torch.zeros(1) for layer in range(1052) for part in range(5)}
    header = int.from_bytes(save(tensors, found)[:8], "little")
    assert header < 1024 * 1024


def test_a_cap_below_one_tag_gives_none() -> None:
    assert capped_tag_frequency({"a": {"x" * 500: 1}}, max_bytes=100) == {"a": {}}
    assert capped_tag_frequency({"a" * 500: {"x": 1}}, max_bytes=100) == {}
