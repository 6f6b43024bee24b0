"""What may be switched on in a run: that it reaches the gradient, the files and the metadata, and resumes exactly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from trainer_core.diffusion.objective import Objective
from trainer_core.errors import ConfigError
from trainer_core.events import Cached, Finished, Planned, Stepped
from trainer_core.hosts.base import TextOptions
from trainer_core.hosts.diffusers import DiffusersHost
from trainer_core.learner import Learner
from trainer_core.networks.network import build_network
from trainer_core.plan import make_plan
from trainer_core.train import train

EVERYTHING = {
    "loss": {
        "noise_offset": 0.1,
        "noise_offset_random_strength": True,
        "adaptive_noise_scale": 0.01,
        "multires_noise_iterations": 4,
        "ip_noise_gamma": 0.1,
        "timestep_sampling": "stratified",
        "min_snr_gamma": 5,
        "debiased_estimation_loss": True,
        "loss_type": "huber",
        "prior_loss_weight": 0.5,
    },
    "ema_decay": 0.9,
    "gradient_accumulation_steps": 2,
}


def last(events):
    return load_file(finished(events).epochs[-1][1])


def finished(events):
    return next(event for event in events if isinstance(event, Finished))


def metadata(events):
    with safe_open(finished(events).epochs[-1][1], framework="pt") as file:
        return file.metadata()


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


@pytest.fixture
def everything(tmp_path, pictures):
    """Settings with all of it on: masks for one picture, regularisation, mirroring, tags that come and go."""
    masks, reg = tmp_path / "masks", tmp_path / "reg" / "1_class"
    masks.mkdir()
    reg.mkdir(parents=True)
    Image.linear_gradient("L").resize((64, 64)).save(masks / "0.png")
    dice = np.random.default_rng(1)
    for number in range(3):
        Image.fromarray(dice.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(reg / f"{number}.png")
    dataset = {
        "flip_aug": True,
        "masks_dir": str(masks),
        "reg_data_dir": str(tmp_path / "reg"),
        "shuffle_caption": True,
        "caption_tag_dropout_rate": 0.3,
    }
    return {**EVERYTHING, "dataset": dataset}


def test_an_algorithm_is_named_as_loaders_know_it_whatever_was_typed(tiny_host, make_config):
    made = metadata(list(train(make_config(max_train_epochs=1, network={"algo": "OFT", "rank": 2}), tiny_host)))
    assert json.loads(made["ss_network_args"])["algo"] == "diag-oft"


@pytest.mark.parametrize("stop", [3, 5])
def test_resume_equals_uninterrupted_run_with_everything_on(tiny_host, make_config, everything, stop):
    whole = list(train(make_config(output_name="whole", **everything), tiny_host))
    config = make_config(output_name="parts", **everything)
    stream, taken = train(config, tiny_host), 0
    for event in stream:
        taken += isinstance(event, Stepped)
        if taken == stop:
            break
    stream.close()
    rest = list(train(config, tiny_host))
    assert finished(rest).trained_steps == finished(whole).trained_steps - stop > 0
    assert_same(last(rest), last(whole))


@pytest.mark.parametrize("stop", [3, 6])
def test_resume_equals_uninterrupted_run_that_ends_amid_an_epoch(tiny_host, make_config, stop):
    """Of five steps an epoch, so that stops lie in the first and in the last epoch."""
    whole = list(train(make_config(output_name="whole", max_train_steps=7), tiny_host))
    config = make_config(output_name="parts", max_train_steps=7)
    stream = train(config, tiny_host)
    for event in stream:
        if isinstance(event, Stepped) and event.step == stop:
            break
    stream.close()
    rest = list(train(config, tiny_host))
    assert (finished(whole).trained_steps, finished(rest).trained_steps) == (7, 7 - stop)
    assert [number for number, _ in finished(rest).epochs] == [1, 2]
    assert_same(last(rest), last(whole))
    found = metadata(rest)
    written = [found[f"ss_{name}"] for name in ("max_train_steps", "steps", "num_epochs", "epoch")]
    assert written == ["7", "7", "2", "2"]
    assert finished(list(train(config, tiny_host))).trained_steps == 0


def test_everything_is_in_the_plan_and_in_the_metadata(tiny_host, make_config, everything):
    events = list(train(make_config(**everything), tiny_host))
    plan = next(event for event in events if isinstance(event, Planned)).plan
    # 10 visits of 5 pictures and 10 of 3 regularisation ones: 6 + 10 squares and 4 wide ones, in batches of 2
    assert (plan.batches_per_epoch, plan.steps_per_epoch) == (10, 5)
    assert {each.what for each in events if isinstance(each, Cached)} >= {"latents", "masks"}
    found = metadata(events)
    assert (found["ss_num_train_images"], found["ss_num_reg_images"]) == ("10", "3")
    assert json.loads(found["ss_reg_dataset_dirs"]) == {"1_class": {"n_repeats": 1, "img_count": 3}}
    assert list(json.loads(found["ss_dataset_dirs"])) == ["2_thing"]
    counts = {
        tuple(each["resolution"]): each["count"] for each in json.loads(found["ss_bucket_info"])["buckets"].values()
    }
    assert counts[64, 64] == 16 and sum(counts.values()) == 20
    written = {
        "noise_offset": "0.1",
        "noise_offset_random_strength": "True",
        "adaptive_noise_scale": "0.01",
        "multires_noise_iterations": "4",
        "ip_noise_gamma": "0.1",
        "debiased_estimation": "True",
        "loss_type": "huber",
        "prior_loss_weight": "0.5",
        "flip_aug": "True",
        "caption_tag_dropout_rate": "0.3",
    }
    assert {key: found[f"ss_{key}"] for key in written} == written


@pytest.mark.parametrize(
    "loss",
    [
        {"noise_offset": 0.1},
        {"multires_noise_iterations": 3},
        {"ip_noise_gamma": 0.1},
        {"timestep_sampling": "sigmoid"},
        {"debiased_estimation_loss": True},
        {"v_pred_like_loss": 0.5},
        {"loss_type": "smooth_l1"},
    ],
    ids=lambda loss: next(iter(loss)),
)
def test_each_setting_of_the_loss_trains_something_else(tiny_host, make_config, loss):
    plain = last(list(train(make_config(max_train_epochs=1), tiny_host)))
    other = last(list(train(make_config(max_train_epochs=1, loss=loss), tiny_host)))
    assert all(tensor.isfinite().all() for tensor in other.values())
    assert any(not torch.equal(other[key], plain[key]) for key in plain)


@pytest.mark.parametrize(("prior_loss_weight", "learns"), [(0.0, False), (1.0, True)])
def test_masked_out_pictures_teach_nothing_and_regularisation_by_its_weight(
    tiny_host, make_config, everything, tmp_path, prior_loss_weight, learns
):
    for number in range(5):
        Image.new("RGB", (64, 64) if number < 3 else (96, 48), "black").save(tmp_path / "masks" / f"{number}.png")
    config = make_config(
        max_train_epochs=1,
        dataset=everything["dataset"],
        loss={"prior_loss_weight": prior_loss_weight},
        optimizer={"optimizer_args": "weight_decay=0"},
    )
    ups = [tensor for key, tensor in last(list(train(config, tiny_host))).items() if "lora_up" in key]
    assert ups and any(tensor.any() for tensor in ups) == learns


def test_weights_that_do_not_fit_the_model_are_refused_before_training(tiny_host, make_config):
    with pytest.raises(ConfigError, match="is for velocity-predicting models"):
        list(train(make_config(loss={"scale_v_pred_loss_like_noise_pred": True}), tiny_host))


def test_masks_and_regularisation_make_another_run_and_their_folders_names_do_not(make_config, everything, tmp_path):
    first = make_plan(make_config(**everything))
    (tmp_path / "reg").rename(tmp_path / "regular")
    dataset = {**everything["dataset"], "reg_data_dir": str(tmp_path / "regular")}
    second = make_plan(make_config(**{**everything, "dataset": dataset}))
    third = make_plan(make_config(**{**everything, "dataset": {**dataset, "masks_dir": ""}}))
    assert first.dataset.fingerprint() == second.dataset.fingerprint() != third.dataset.fingerprint()


def test_the_average_is_saved_and_previewed_and_the_weights_train_on(tiny_host, make_config, monkeypatch):
    """By hand: decays 1/10, 2/11, 3/12 … below 0.9, over the weights of a run without an average."""
    steps, step = [], Learner.step

    def noted(self, factor):
        norm = step(self, factor)
        steps.append(self.buffer.params.clone())
        return norm

    monkeypatch.setattr(Learner, "step", noted)
    plain = list(train(make_config(output_name="plain"), tiny_host))
    without = list(steps)
    steps.clear()
    events = list(train(make_config(output_name="averaged", ema_decay=0.9), tiny_host))
    assert len(steps) == len(without) and all(torch.equal(a, b) for a, b in zip(steps, without, strict=True))

    start = _start(tiny_host, make_config())
    average = start.buffer.params.double()
    for n, params in enumerate(without):
        average += (1 - min(0.9, (1 + n) / (10 + n))) * (params - average)
    saved, last_weights = last(events), last(plain)
    for place in start.buffer.places:
        assert torch.allclose(saved[place.name], place.of(average).float(), atol=1e-7), place.name
    assert any(not torch.equal(saved[key], last_weights[key]) for key in saved)


def _start(host, config):
    """The learner of a run that has not begun."""
    with host.borrowed(["unet", "te1"], "fp32", False) as dtype:
        return Learner(config, build_network(config.network, host.components(), host.family, config.seed), dtype)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_what_trains_comes_back_bit_for_bit_after_the_average_was_shown(tiny_host, make_config, dtype):
    config = make_config(ema_decay=0.9)
    with tiny_host.borrowed(["unet"], dtype, False) as compute:
        network = build_network(config.network, {"unet": tiny_host.components()["unet"]}, tiny_host.family, 0)
        learner = Learner(config, network, compute)
        for _ in range(3):
            learner.buffer.grads.normal_()
            learner.step(1.0)
        before, computed = learner.buffer.params.clone(), _computed_with(network)
        with learner.averaged():
            assert not torch.equal(learner.buffer.params, before)
            assert all(
                torch.equal(tensor, parameter.to(tensor.dtype))
                for adapter in network.adapters
                for tensor, parameter in zip(adapter.active.values(), adapter.parameters.values(), strict=True)
            ), "previews compute with the average"
        assert torch.equal(learner.buffer.params, before)
        assert all(torch.equal(a, b) for a, b in zip(_computed_with(network), computed, strict=True))


def _computed_with(network):
    return [tensor.detach().clone() for adapter in network.adapters for tensor in adapter.active.values()]


@pytest.mark.parametrize("xl", [False, True])
def test_accumulation_with_checkpointing_gives_the_big_batchs_gradient(make_pipeline, make_config, xl):
    """The guides' complaint, that checkpointing switches accumulation off: UNet and text encoders, four against one."""
    host = DiffusersHost(make_pipeline(xl=xl))
    # eps: without it AdamW turns the last bits of a gradient near 0 into whole steps
    config = make_config(optimizer={"learning_rate": 1e-2, "optimizer_args": "eps=1e-2"})
    captions = ["a thing", "another", "b", "c, d"]
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(4, 1)
    results, forwards = {}, []
    inner = next(m for n, m in host.components()["unet"].named_modules() if n.endswith("attn1.to_q"))
    inner.register_forward_hook(lambda *_: forwards.append(len(results)))
    for name, parts, checkpointing in [("whole", [range(4)], False), ("parts", [[0], [1], [2], [3]], True)]:
        components = list(host.components())
        with host.borrowed(components, "fp32", checkpointing) as dtype:
            network = build_network(config.network, host.components(), host.family, config.seed)
            learner = Learner(config, network, dtype)
            objective = Objective(config.loss, host.process)
            question = objective.question(latents, torch.Generator().manual_seed(1))
            with network.attached():
                for turn in range(2):
                    for part in parts:
                        rows = torch.tensor(list(part))
                        cond = host.encode_texts([captions[row] for row in part], TextOptions())
                        cond = cond.sized(sizes[rows]) if xl else cond
                        asked = type(question)(question.x_t[rows], question.t[rows], question.target[rows])
                        prediction = host.predict(asked.x_t, asked.t, cond)
                        learner.backward(objective.judge(prediction, asked) / len(parts))
                    results[name, turn, "grads"] = learner.buffer.grads.clone()
                    learner.step(1.0)
                    results[name, turn, "params"] = learner.buffer.params.clone()
            for group in learner.buffer.groups:
                assert learner.buffer.params[group.start : group.stop].any(), group.name
    for turn in range(2):
        for what in ("grads", "params"):
            whole, parts = results["whole", turn, what], results["parts", turn, what]
            assert torch.allclose(parts, whole, rtol=0, atol=1e-5 * float(whole.abs().max())), (turn, what)
    assert results["whole", 0, "grads"].count_nonzero() > 1000
    assert len(forwards) == 2 + 2 * 4 * 2, "each part's forward is computed again in its backward"


def test_a_run_accumulates_alike_with_and_without_checkpointing(tiny_host, make_config):
    plain, checkpointed = (
        last(list(train(make_config(gradient_accumulation_steps=2, gradient_checkpointing=on), tiny_host)))
        for on in (False, True)
    )
    for key, tensor in plain.items():
        assert torch.allclose(checkpointed[key], tensor, atol=1e-6), key
