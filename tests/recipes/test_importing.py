"""Every format of other trainers: what becomes of each key, and that nothing is dropped, run or given away."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer_core.config import TrainConfig
from trainer_core.errors import ConfigError
from trainer_core.families import SD1
from trainer_core.files.metadata import SETTINGS_KEY, RunFacts, build_metadata
from trainer_core.recipes import import_file, import_text
from trainer_core.recipes.lenient_json import parse_json_object
from trainer_core.recipes.report import VERDICTS, flattened
from trainer_core.settings import from_json, merged

GUI = {"LoRA_type": "Standard", "optimizer": "AdamW", "learning_rate": 1e-4}


def gui(**keys):
    """A kohya GUI file with these keys, imported."""
    return import_text(json.dumps({**GUI, **keys}))


def entry(report, key):
    """What the report says of one key."""
    return next(each for each in report.entries if each.key == key)


def values(report):
    """The imported settings by dotted path."""
    return flattened(report.values)


# -- lenient JSON --------------------------------------------------------------------------------------------------


def test_json_may_have_comments_trailing_commas_and_a_bom():
    text = '\ufeff{ // the size\n "network_dim": 8, /* ,} */ "output_name": "a, }//b",\n # done\n "x": [1, 2,],\n}'
    assert parse_json_object(text)[0] == {"network_dim": 8, "output_name": "a, }//b", "x": [1, 2]}


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.lists(st.text()), st.none())))
@settings(max_examples=50, deadline=None)
def test_proper_json_is_read_as_json_reads_it(made):
    assert parse_json_object(json.dumps(made, indent=1))[0] == made


@pytest.mark.parametrize("text", ["", "{", "[1]", "no braces", '{"a": }', "{" * 100_000, '{"a":' + "[" * 100_000])
def test_what_is_no_json_is_one_sentence(text):
    with pytest.raises(ConfigError):
        parse_json_object(text)


@pytest.mark.parametrize("doubled", ['\\"x', "/* ", ",\n ", "\n", '"'])
def test_a_long_text_that_is_no_json_is_refused_at_once(doubled):
    start = time.monotonic()
    with pytest.raises(ConfigError, match="no JSON"):
        parse_json_object('{"a' + doubled * 20_000)
    with pytest.raises(ConfigError, match="no JSON"):
        parse_json_object("{" + doubled * 20_000)
    assert time.monotonic() - start < 3, "where each quote is tried as a beginning it takes half a minute"


def test_a_key_that_stands_there_twice_is_said():
    values, said = parse_json_object('{"a": 1, "a": 2}')
    assert values == {"a": 2} and "twice" in said[0]


# -- the kohya GUI -------------------------------------------------------------------------------------------------


def test_every_key_of_a_gui_file_is_in_the_report_with_a_known_verdict():
    keys = {"network_dim": "32", "made_up": [1], "xformers": "xformers", "v2": False, "huggingface_token": "hf_secret"}
    report = gui(**keys)
    assert {each.key for each in report.entries} == {*GUI, *keys}
    assert all(each.verdict in VERDICTS for each in report.entries)
    assert report.unknown == {"made_up": [1]}


def test_numbers_as_text_and_empty_texts():
    report = gui(network_dim="32", network_alpha="1.0", epoch=1, max_train_epochs="20", seed="", keep_tokens="0")
    assert values(report)["network.rank"] == 32 and values(report)["max_train_epochs"] == 20
    assert entry(report, "seed").verdict == "inert" and "seed" not in values(report)


@pytest.mark.parametrize("key", ["huggingface_token", "wandb_api_key", "my_secret", "some_api_key", "hf_token"])
def test_secrets_are_stripped_and_said_so(key):
    report = gui(**{key: "hunter2"}, additional_parameters=f"--{key} hunter2 --seed 7")
    assert entry(report, key).verdict == entry(report, f"--{key}").verdict == "secret"
    assert "hunter2" not in report.as_text() and "hunter2" not in json.dumps(report.to_json())
    assert values(report)["seed"] == 7


def test_a_token_inside_another_value_is_masked():
    token = "hf_" + "a1" * 17
    assert token not in json.dumps(gui(made_up={"password": "x1y2", "a": [f"token {token}"]}).to_json())
    assert "x1y2" not in json.dumps(gui(made_up={"password": "x1y2"}).to_json())


@pytest.mark.parametrize("key", ["keep_tokens", "max_token_length"])
def test_tokens_of_a_caption_are_no_secret(key):
    assert entry(gui(**{key: 150 if "max" in key else 1}), key).verdict == "applied"


def test_warm_up_units_are_told_apart_by_format():
    assert values(gui(lr_warmup=10))["optimizer.lr_warmup_steps"] == "10%"  # a percentage
    assert values(gui(lr_warmup=10, lr_warmup_steps=50))["optimizer.lr_warmup_steps"] == "50"
    easy = import_text(json.dumps({"net_dim": 8, "base_model": "", "warmup_lr_ratio": 0.1}))
    assert values(easy)["optimizer.lr_warmup_steps"] == "10%"  # a ratio
    kohya = import_text("network_dim = 8\nlr_warmup_steps = 0.05")
    assert values(kohya)["optimizer.lr_warmup_steps"] == "5%"
    kohya = import_text("network_dim = 8\nlr_warmup_steps = 100")
    assert values(kohya)["optimizer.lr_warmup_steps"] == "100"


@pytest.mark.parametrize(
    "text",
    [
        '"d_coef=1.0" "weight_decay=0.05" "betas=0.9,0.99"',
        "d_coef=1.0 weight_decay=0.05 betas=0.9,0.99",
        "'d_coef=1.0' 'weight_decay=0.05' 'betas=0.9,0.99'",
    ],
)
def test_optimizer_arguments_in_any_quotes(text):
    found = values(gui(optimizer="Prodigy", optimizer_args=text))
    assert found["optimizer.optimizer_args"] == "d_coef=1.0 weight_decay=0.05 betas=0.9,0.99"


def test_additional_parameters_overrule_the_widgets():
    report = gui(min_bucket_reso=320, additional_parameters='--min_bucket_reso 256 --shuffle_caption --made_up "x"')
    assert values(report)["dataset.min_bucket_reso"] == 256 and values(report)["dataset.shuffle_caption"] is True
    assert entry(report, "min_bucket_reso").verdict == "inert"
    assert report.unknown == {"--made_up": "x"}


@pytest.mark.parametrize(
    ("lora_type", "algo"),
    [
        ("Standard", "lora"),
        ("Kohya LoCon", "locon"),
        ("LyCORIS/LoHa", "loha"),
        ("LyCORIS/LoKr", "lokr"),
        ("LyCORIS/iA3", "ia3"),
    ],
)
def test_the_gui_s_words_for_adapters(lora_type, algo):
    report = gui(LoRA_type=lora_type)
    assert values(report)["network.algo"] == algo


def test_what_the_gui_hands_to_no_such_adapter_is_inert():
    report = gui(LoRA_type="Standard", conv_dim=8, conv_alpha=1, factor=4, decompose_both=True, LyCORIS_preset="full")
    assert {entry(report, key).verdict for key in ("conv_dim", "factor", "decompose_both", "LyCORIS_preset")} == {
        "inert"
    }


def test_a_lycoris_adapter_has_lycoris_layers():
    assert values(gui(LoRA_type="LyCORIS/LoHa"))["network.preset"] == "full"
    assert values(gui(LoRA_type="LyCORIS/LoHa", LyCORIS_preset="attn-mlp"))["network.preset"] == "attn-mlp"
    assert values(gui(LoRA_type="LyCORIS/iA3", LyCORIS_preset="full"))["network.preset"] == "ia3"


def test_a_lokr_of_rank_100000_is_whole_matrices():
    report = gui(LoRA_type="LyCORIS/LoKr", network_dim=100000, network_alpha=1, factor=6)
    found = values(report)
    assert found["network.full_matrix"] is True and found["network.factor"] == 6 and "network.rank" not in found
    assert entry(report, "network_alpha").verdict == "inert"


@pytest.mark.parametrize(
    ("keys", "name", "ours", "why"),
    [
        ({"down_lr_weight": "1,0.5"}, "down_lr_weight", "1,0.5" + ",1" * 10, "2 of 12"),
        ({"up_lr_weight": ",".join(["0.1"] * 14)}, "up_lr_weight", ",".join(["0.1"] * 12), "14 for 12"),
        ({"mid_lr_weight": "0.5", "sdxl": True}, "mid_lr_weight", "0.5,1,1", "1 of 3"),
        ({"down_lr_weight": "1,,1" + ",1" * 9}, "down_lr_weight", "1,0,1" + ",1" * 9, "empty"),
        ({"down_lr_weight": "cosine+0.5"}, "down_lr_weight", "cosine+0.5", ""),
        ({"down_lr_weight": ",".join(["0.1"] * 9)}, "down_lr_weight", ",".join(["0.1"] * 9), ""),  # perhaps SDXL's
    ],
)
def test_lists_of_rates_have_the_length_that_sd_scripts_makes_of_them(keys, name, ours, why):
    report = gui(**keys)
    assert values(report)[f"network.{name}"] == ours
    assert why in entry(report, name).why and entry(report, name).verdict == ("translated" if why else "applied")


def test_a_rate_for_blocks_that_sd_scripts_cannot_read_is_none():
    assert entry(gui(down_lr_weight="0.5"), "down_lr_weight").verdict == "inert"


def test_lists_of_ranks_that_sd_scripts_refuses_are_unsupported():
    report = gui(block_dims="4,4", block_alphas=",".join(["1"] * 25))
    assert entry(report, "block_dims").verdict == "unsupported" and "25" in entry(report, "block_dims").why
    assert values(report)["network.block_alphas"].count(",") == 24
    assert entry(gui(block_dims=",".join(["4"] * 25), sdxl=True), "block_dims").verdict == "unsupported"


@pytest.mark.parametrize(
    ("lora_type", "key", "setting", "why"),
    [
        ("LyCORIS/LoKr", "use_tucker", "use_tucker", "can load"),
        ("LyCORIS/LoKr", "use_cp", "use_tucker", "can load"),
        ("LyCORIS/Diag-OFT", "rescaled", "rescaled", "boft"),
    ],
)
def test_what_no_host_could_load_is_unsupported(lora_type, key, setting, why):
    report = gui(LoRA_type=lora_type, **{key: True})
    assert entry(report, key).verdict == "unsupported" and why in entry(report, key).why
    assert f"network.{setting}" not in values(report)
    assert entry(gui(LoRA_type=lora_type, **{key: False}), key).verdict != "unsupported"


def test_doras_magnitudes_are_those_that_uis_load():
    report = import_text('network_module = "lycoris.kohya"\nnetwork_args = ["dora_wd=True", "wd_on_output=True"]')
    found = entry(report, "network_args.wd_on_output")
    assert values(report)["network.wd_on_output"] is False
    assert found.verdict == "translated" and "loads" in found.why


@pytest.mark.parametrize("arguments", [None, [], ["relative_step=True", "warmup_init=True"], ["warmup_init=True"]])
def test_adafactors_own_rate_cannot_be_had(arguments):
    lines = [
        "learning_rate = 1e-4",
        'optimizer_type = "Adafactor"',
        *([f"optimizer_args = {arguments}"] if arguments else []),
    ]
    report = import_text("\n".join(lines))
    refused = [each for each in report.entries if each.verdict == "unsupported"]
    assert len(refused) == 1 and "rate" in refused[0].why
    taken = values(report).get("optimizer.optimizer_args", "")
    assert "relative_step" not in taken and "warmup_init" not in taken


def test_adafactor_with_a_rate_from_outside_is_applied():
    text = 'optimizer_type = "adafactor"\noptimizer_args = ["relative_step=False", "scale_parameter=False"]'
    report = import_text(text)
    assert values(report)["optimizer.optimizer_args"] == "relative_step=False scale_parameter=False"
    assert not [each for each in report.entries if each.verdict == "unsupported"]


def test_which_way_ia3_goes_is_not_the_guis_to_say():
    found = entry(gui(LoRA_type="LyCORIS/iA3", train_on_input=False), "train_on_input")
    assert found.verdict == "inert" and "LyCORIS" in found.why
    assert values(gui(LoRA_type="LyCORIS/iA3", train_on_input=True))["network.train_on_input"] is True


def test_a_value_out_of_range_is_unsupported_with_the_range():
    report = gui(network_dim=100000)
    assert entry(report, "network_dim").verdict == "unsupported" and "1024" in entry(report, "network_dim").why


def test_rates_of_zero():
    both = values(gui(text_encoder_lr=0.0, unet_lr=0.0))
    assert "optimizer.unet_lr" not in both and "optimizer.text_encoder_lr" not in both
    assert values(gui(text_encoder_lr=0.0, unet_lr=1e-4))["optimizer.text_encoder_lr"] == 0


def test_a_file_without_an_optimizer_trains_with_the_gui_s():
    report = import_text(json.dumps({"LoRA_type": "Standard", "learning_rate": 1e-4}))
    assert values(report)["optimizer.optimizer"] == "AdamW"  # 1e-4 with Prodigy would learn nothing


def test_what_the_author_may_not_have_meant_is_said():
    unequal = gui(optimizer="DAdaptation", learning_rate=1, unet_lr=1.0, text_encoder_lr=0.5)
    assert any("legacy_single" in warning for warning in unequal.warnings)
    assert not any("legacy_single" in warning for warning in gui(unet_lr=1e-4, text_encoder_lr=5e-5).warnings)
    t_max = gui(lr_scheduler_type="CosineAnnealingLR", lr_scheduler_args="T_max=200")
    assert any("T_max=total" in warning for warning in t_max.warnings)


def test_a_run_is_as_long_as_that_program_makes_it():
    report = gui(max_train_steps=160, epoch=3)
    assert values(report)["max_train_steps"] == 160 and entry(report, "max_train_steps").verdict == "applied"
    assert entry(report, "epoch").verdict == "inert"
    report = gui(max_train_steps=160, max_train_epochs=2)
    assert entry(report, "max_train_steps").verdict == "inert" and "max_train_steps" not in values(report)
    assert values(gui(max_train_steps=0, epoch=3)) == {**values(gui()), "max_train_epochs": 3}
    # sd-scripts trains for 1600 steps where nobody says how long
    assert values(import_text("network_dim = 4"))["max_train_steps"] == 1600
    assert "max_train_steps" not in values(import_text("max_train_epochs = 3"))


def test_sizes_and_prompts():
    report = gui(max_resolution="768,768", sample_prompts="a cat --n dog --w 512 --h 512\n\na hat")
    assert values(report)["dataset.resolution"] == 768
    assert values(report)["sample.prompts"] == ["a cat", "a hat"]
    assert values(gui(max_resolution="512,1024"))["dataset.resolution"] == 724


def test_the_model_it_was_made_for_is_known():
    assert gui(pretrained_model_name_or_path="x.safetensors").model == "x.safetensors"


def test_keys_can_be_left_out():
    report = import_text(
        json.dumps({**GUI, "network_dim": 4, "seed": 7, "train_batch_size": 2}), ["rank", "seed", "lr"]
    )
    assert entry(report, "network_dim").verdict == entry(report, "seed").verdict == "skipped"
    assert "network.rank" not in values(report) and values(report)["dataset.batch_size"] == 2


# -- sd-scripts ----------------------------------------------------------------------------------------------------


def test_an_sd_scripts_config_with_sections_and_network_args():
    text = """
    [model]
    pretrained_model_name_or_path = "model.safetensors"
    v_parameterization = true
    [network_arguments]
    network_module = "lycoris.kohya"
    network_dim = 16
    network_args = ["algo=loha", "preset=attn-mlp", "conv_dim=4", "dropout=0.1", "made_up=1"]
    [training]
    train_batch_size = 4
    text_encoder_lr = [5e-5, 5e-5]
    network_train_unet_only = true
    save_precision = "float"
    optimizer_args = ["weight_decay=0.1"]
    """
    report = import_text(text)
    found = values(report)
    assert (found["network.algo"], found["network.rank"], found["network.conv_rank"]) == ("loha", 16, 4)
    assert (found["network.preset"], found["network.dropout"], found["dataset.batch_size"]) == ("attn-mlp", 0.1, 4)
    assert found["loss.prediction_type"] == "v_prediction" and found["network.train_text_encoder"] is False
    assert found["save_precision"] == "fp32" and found["optimizer.optimizer_args"] == "weight_decay=0.1"
    assert report.unknown == {"network_args.made_up": "1"}


def test_sd_scripts_defaults_come_in_where_its_file_is_silent():
    found = values(import_text('output_name = "x"\nlearning_rate = 1e-4'))
    assert (found["optimizer.optimizer"], found["optimizer.lr_scheduler"]) == ("AdamW", "constant")
    assert (found["network.rank"], found["network.alpha"], found["dataset.enable_bucket"]) == (4, 1.0, False)


@pytest.mark.parametrize(
    ("arguments", "algo"), [("[]", "lora"), ('["conv_dim=4"]', "locon"), ('["conv_dim=0"]', "lora")]
)
def test_kohya_s_lora_with_conv_dim_is_locon(arguments, algo):
    report = import_text(f'network_module = "networks.lora"\nnetwork_args = {arguments}')
    assert values(report)["network.algo"] == algo


def test_an_adapter_that_cannot_be_trained_is_unsupported():
    report = import_text('network_module = "networks.lora_flux"\nnetwork_dim = 4')
    assert entry(report, "network_module").verdict == "unsupported" and "network.algo" not in values(report)


DATASET = """
[general]
shuffle_caption = true
keep_tokens = 1
[[datasets]]
resolution = [640, 640]
batch_size = 3
  [[datasets.subsets]]
  image_dir = "pictures/5_cat"
  num_repeats = 5
  [[datasets.subsets]]
  image_dir = "regularisation"
  is_reg = true
  [[datasets.subsets]]
  image_dir = "more"
"""


def test_a_dataset_config():
    report = import_text(DATASET)
    found = values(report)
    assert (found["dataset.resolution"], found["dataset.batch_size"], found["dataset.keep_tokens"]) == (640, 3, 1)
    assert found["dataset.folder"] == "pictures/5_cat" and found["dataset.reg_data_dir"] == "regularisation"
    assert entry(report, "subsets[0].num_repeats").verdict == "unsupported"
    assert entry(report, "subsets[2].image_dir").verdict == "unsupported"
    as_json = {"general": {"shuffle_caption": True}, "datasets": [{"resolution": 640, "subsets": [{"image_dir": "p"}]}]}
    assert values(import_text(json.dumps(as_json)))["dataset.folder"] == "p"


# -- easy-training -------------------------------------------------------------------------------------------------


def test_easy_training_json():
    old = {
        **{"base_model": "m", "img_folder": "p", "net_dim": 8, "alpha": 4.0, "optimizer_type": "DAdaptation"},
        **{"optimizer_args": {"weight_decay": "0.1"}, "scheduler": "cosine", "num_epochs": 5, "max_steps": None},
        **{"lyco": True, "network_args": {"algo": "loha", "conv_dim": "4"}, "list_of_json_to_run": None},
        **{"network_module": "sd_scripts.networks.lora", "save_json_only": False, "multi_run_folder": "x"},
    }
    report = import_text(json.dumps(old))
    found = values(report)
    assert report.source == "easy-training JSON" and report.model == "m"
    assert (found["network.algo"], found["network.rank"], found["network.conv_rank"]) == ("loha", 8, 4)
    assert found["optimizer.optimizer_args"] == "weight_decay=0.1 decouple=True" and found["max_train_epochs"] == 5
    assert "queue" in entry(report, "multi_run_folder").why and "export" in entry(report, "save_json_only").why


def test_max_steps_beats_epochs_there():
    report = import_text(json.dumps({"base_model": "m", "net_dim": 8, "num_epochs": 5, "max_steps": 900}))
    assert entry(report, "num_epochs").verdict == "inert" and "max_train_epochs" not in values(report)


def test_easy_training_toml():
    text = """
    [[subsets]]
    name = "cat"
    image_dir = "pictures"
    num_repeats = 1
    keep_tokens = 2
    [train_mode]
    train_mode = "lora"
    [general_args.args]
    pretrained_model_name_or_path = "m"
    seed = 23
    [general_args.dataset_args]
    resolution = 512
    batch_size = 2
    [network_args.args]
    network_dim = 16
    fa = false
    [network_args.args.network_args]
    algo = "lokr"
    factor = 8
    [optimizer_args.args]
    optimizer_type = "Prodigy"
    warmup_ratio = 0.05
    [optimizer_args.args.optimizer_args]
    weight_decay = 0.01
    [saving_args.args]
    output_name = "${replace}-v1"
    easy_name = "cat"
    [bucket_args.dataset_args]
    enable_bucket = true
    """
    report = import_text(text)
    found = values(report)
    assert report.source == "easy-training TOML" and found["output_name"] == "cat-v1"
    assert (found["network.algo"], found["network.factor"], found["network.rank"]) == ("lokr", 8, 16)
    assert (found["dataset.folder"], found["dataset.keep_tokens"], found["dataset.batch_size"]) == ("pictures", 2, 2)
    assert (found["dataset.enable_bucket"], found["optimizer.lr_warmup_steps"]) == (True, "5%")
    assert not report.unknown


def test_python_source_is_parsed_and_never_run(tmp_path):
    source = f"""
import os
class ArgStore:
    def __init__(self):
        self.net_dim: int = 64
        self.output_folder: str = os.system("touch {tmp_path}/ran")
        self.optimizer_args: Union[dict, None] = {{"weight_decay": "0.1",
                                                   "betas": "0.9,0.99"}}
        self.batch_size: int = __import__("os").getpid()
"""
    file = tmp_path / "ArgsList.py"
    file.write_text(source)
    report = import_file(file)
    assert values(report)["network.rank"] == 64
    assert values(report)["optimizer.optimizer_args"] == "weight_decay=0.1 betas=0.9,0.99"
    assert entry(report, "batch_size").verdict == "unsupported"
    assert not (tmp_path / "ran").exists()


# -- LoRA files ----------------------------------------------------------------------------------------------------


def lora_file(path, metadata, size=None):
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", size or len(header)) + header)
    return path


def test_the_metadata_of_a_lora(tmp_path):
    metadata = {
        **{"ss_network_module": "lycoris.kohya", "ss_network_dim": "8", "ss_network_alpha": "4.0"},
        **{"ss_network_args": '{"algo": "lokr", "factor": "8", "preset": "attn-mlp"}', "ss_network_dropout": "None"},
        **{"ss_optimizer": "prodigyopt.prodigy.Prodigy(weight_decay=0.01,betas=(0.9, 0.99),decouple=True)"},
        **{"ss_resolution": "(768, 768)", "ss_batch_size_per_device": "2", "ss_num_epochs": "12", "ss_epoch": "3"},
        **{"ss_lr_warmup_steps": "100", "ss_enable_bucket": "True", "ss_seed": "1234", "ss_noise_offset": "0.05"},
        **{"ss_tag_frequency": "{}", "ss_mixed_precision": "no", "modelspec.title": "x", "ss_made_up": "1"},
    }
    report = import_file(lora_file(tmp_path / "a.safetensors", metadata))
    found = values(report)
    assert (found["network.algo"], found["network.rank"], found["network.alpha"]) == ("lokr", 8, 4.0)
    assert (found["network.factor"], found["network.preset"]) == (8, "attn-mlp")
    assert (found["optimizer.optimizer"], found["max_train_epochs"]) == ("Prodigy", 12)
    assert found["optimizer.optimizer_args"] == "weight_decay=0.01 betas=(0.9, 0.99) decouple=True"
    assert (found["dataset.resolution"], found["dataset.batch_size"], found["mixed_precision"]) == (768, 2, "fp32")
    assert (found["optimizer.lr_warmup_steps"], found["seed"], found["loss.noise_offset"]) == ("100", 1234, 0.05)
    assert report.unknown == {"ss_made_up": "1"}


def test_a_lora_of_ours_is_its_own_recipe(tmp_path):
    now = datetime.now(timezone.utc)
    facts = RunFacts("cat", 1, 1, 1, 1, 1, "epsilon", now, now, precision="bf16")
    config = from_json(
        TrainConfig,
        {
            **{"output_name": "cat", "output_dir": "/home/me", "max_train_epochs": 3, "training_comment": "hi"},
            "dataset": {"folder": "/home/me/cat", "reg_data_dir": "/home/me/reg", "keep_tokens": 1},
            "network": {"algo": "lokr", "factor": 8, "decompose_both": True, "rank_dropout": 0.1},
            "optimizer": {"optimizer_args": "betas=(0.9, 0.99) d_coef=2", "lr_warmup_steps": "10%"},
            "loss": {"noise_offset": 0.05},
        },
    )
    metadata = build_metadata(config, SD1, facts)
    assert "/home/me" not in json.dumps(metadata), "nobody needs to know where it was trained"
    report = import_file(lora_file(tmp_path / "ours.safetensors", metadata))
    theirs = {"output_name": "dog", "output_dir": "o", "dataset": {"folder": "p"}}
    again = from_json(TrainConfig, merged(report.values, theirs))
    places = {"output_name": "dog", "output_dir": "o"}
    assert again == replace(config, **places, dataset=replace(config.dataset, folder="p", reg_data_dir=""))

    # and through kohya's words alone, as other tools read it
    del metadata[SETTINGS_KEY]
    found = values(import_file(lora_file(tmp_path / "kohya.safetensors", metadata)))
    assert (found["network.algo"], found["network.factor"], found["network.decompose_both"]) == ("lokr", 8, True)
    assert found["optimizer.optimizer_args"] == "betas=(0.9, 0.99) d_coef=2" and found["network.rank_dropout"] == 0.1


@pytest.mark.parametrize("size", [2**40, 1, 16 * 1024 * 1024 + 1])
def test_a_lora_s_header_is_read_up_to_a_size(tmp_path, size):
    with pytest.raises(ConfigError):
        import_file(lora_file(tmp_path / "a.safetensors", {"ss_seed": "1"}, size))


def test_a_lora_without_metadata_says_so(tmp_path):
    with pytest.raises(ConfigError, match="how it was trained"):
        import_file(lora_file(tmp_path / "a.safetensors", {}))


# -- everything else -----------------------------------------------------------------------------------------------


def test_our_own_settings_and_the_record_of_a_run():
    own = {"network": {"rank": 8, "made_up": 1}, "seed": 3}
    for text in (json.dumps(own), json.dumps({"key": "abc", "settings": own, "finished": []})):
        report = import_text(text)
        assert report.values == {"network": {"rank": 8}, "seed": 3} and report.unknown == {"network.made_up": 1}


@pytest.mark.parametrize("text", ['{"made": 1, "up": 2}', "{}", "hello", "self.nothing", "[x\ny = 1", "a = "])
def test_what_is_no_recipe_is_one_sentence(text):
    with pytest.raises(ConfigError):
        import_text(text)


def test_files_that_are_missing_large_or_binary(tmp_path):
    (tmp_path / "big.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", "big.json", "binary.json"):
        with pytest.raises(ConfigError, match=name):
            import_file(tmp_path / name)


def test_the_report_is_a_table_with_every_key():
    text = gui(made_up=1, save_every_n_steps=500).as_text()
    assert all(
        word in text for word in (*GUI, "made_up", "save_every_n_steps", "unsupported", "→ optimizer.optimizer = AdamW")
    )
