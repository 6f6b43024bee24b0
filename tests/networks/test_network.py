"""A network leaves the base as it was, draws from its own seeds only, and comes back from its file the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer_core.config import NetworkConfig
from trainer_core.errors import ConfigError, HostError, RunError
from trainer_core.families import SD1
from trainer_core.networks import ALGORITHMS, Network, build_network

X, EMB = torch.randn(2, 4, 6, 6), torch.randn(2, 16)
ALGOS = ALGORITHMS.names()


def build(components, seed: int = 1, **settings) -> Network:
    own = {"norm": {"train_text_encoder": False}}.get(settings.get("algo", ""), {})
    return build_network(NetworkConfig(**{"rank": 4, "alpha": 2.0, **own, **settings}), components, SD1, seed)


def randomize(network: Network, seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    for parameters in network.parameters_by_component().values():
        for parameter in parameters.values():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return network


def run(components) -> tuple[Tensor, Tensor]:
    return components["unet"](X, EMB), components["te1"](EMB[:, None])


def traces(module: nn.Module) -> list:
    """Everything about a module tree that an adapter could leave behind."""
    return [
        (name, sorted(vars(each)), [*each._forward_hooks], [*each._forward_pre_hooks], each.forward.__func__)
        for name, each in module.named_modules()
    ]


@pytest.mark.parametrize("algo", ALGOS)
def test_attached_output_is_that_of_merged_weights(algo: str, components) -> None:
    network = randomize(build(components, algo=algo))
    with network.attached(), network.without_randomness(), torch.no_grad():
        hooked = run(components)
    deltas, biases = network.delta_weights(), network.delta_biases()
    for adapter in network.adapters:
        adapter.layer.module.weight.data += deltas[adapter.key]
        if adapter.key in biases:
            adapter.layer.module.bias.data += biases[adapter.key]
    for ours, merged in zip(hooked, run(components), strict=True):
        torch.testing.assert_close(ours, merged, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("algo", ALGOS)
def test_base_is_the_same_bit_for_bit_before_and_after(algo: str, components) -> None:
    before = [traces(module) for module in components.values()]
    weights = {k: v.clone() for module in components.values() for k, v in module.state_dict().items()}
    plain = run(components)
    network = randomize(build(components, algo=algo))
    with network.attached():
        changed = run(components)
        sum(each.sum() for each in changed).backward()
    assert not torch.equal(changed[0], plain[0])
    assert all(torch.equal(a, b) for a, b in zip(run(components), plain, strict=True))
    assert [traces(module) for module in components.values()] == before
    after = {k: v for module in components.values() for k, v in module.state_dict().items()}
    assert all(torch.equal(after[key], weights[key]) for key in weights)
    assert all(p.grad is None for module in components.values() for p in module.parameters())


def test_hooks_come_off_when_a_step_raises(components) -> None:
    before = traces(components["unet"])
    network = build(components)
    with pytest.raises(KeyboardInterrupt), network.attached():
        raise KeyboardInterrupt
    assert traces(components["unet"]) == before
    assert not network.is_attached
    with network.attached():  # and it can go on again
        assert network.is_attached


def test_hooks_come_off_when_putting_them_on_fails(components) -> None:
    before = traces(components["unet"])
    network = build(components)
    network.adapters[-1].layer.module.register_forward_hook = None  # type: ignore[method-assign]
    with pytest.raises(TypeError), network.attached():
        pass
    assert traces(components["unet"]) == before and not network.is_attached


def test_attaching_twice_is_refused(components) -> None:
    network = build(components)
    with network.attached(), pytest.raises(RuntimeError, match="attached already"), network.attached():
        pass


def test_two_networks_add_up_in_either_order(components) -> None:
    first, second = (randomize(build(components, seed=n), seed=n) for n in (1, 2))
    with torch.no_grad():
        with first.attached(), second.attached():
            one_way = run(components)
        outer, inner = second.attached(), first.attached()
        outer.__enter__(), inner.__enter__()
        other_way = run(components)
        outer.__exit__(None, None, None)  # taken off in the order they were put on
        with_first = run(components)
        inner.__exit__(None, None, None)
        with first.attached():
            alone = run(components)
    for a, b in zip(one_way, other_way, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(with_first[0], alone[0])


def test_neither_building_nor_training_touches_the_global_random_state(components) -> None:
    state = torch.get_rng_state()
    network = build(components, dropout=0.5)
    with network.attached():
        network.begin(3)
        run(components)
    assert torch.equal(torch.get_rng_state(), state)


def test_start_is_a_function_of_seed_and_layer_alone(components) -> None:
    whole = build(components).state_dict()
    torch.manual_seed(99)
    text_only = build({"te1": components["te1"]}).state_dict()
    assert all(torch.equal(whole[key], tensor) for key, tensor in text_only.items())
    other = build(components, seed=2).state_dict()
    downs = [key for key in whole if "down" in key.rsplit(".", 2)[1]]
    assert downs and not any(torch.equal(whole[key], other[key]) for key in downs)
    q0, q1 = (f"lora_te_text_model_encoder_layers_{n}_self_attn_q_proj.lora_down.weight" for n in (0, 1))
    assert not torch.equal(whole[q0], whole[q1])


def test_dropout_is_a_function_of_step_seed_and_layer(components) -> None:
    network = randomize(build(components, dropout=0.5))

    def output(step_seed: int) -> Tensor:
        network.begin(step_seed)
        return run(components)[0].detach()

    with network.attached():
        first, second, again = output(1), output(2), output(1)
        with network.without_randomness():
            preview = output(1)
        assert torch.equal(output(1), first)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    with randomize(build(components)).attached():
        torch.testing.assert_close(preview, run(components)[0])


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    from trainer_core.networks.base import dropped

    h = torch.ones(400, 500)
    kept = dropped(h, 0.25, seed=5)
    assert (kept == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert kept.mean().item() == pytest.approx(1, abs=0.01)
    assert dropped(h, 0.25, seed=None) is h and dropped(h, 0.0, seed=5) is h


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputing_a_block_draws_the_same_mask(components, use_reentrant: bool) -> None:
    network = randomize(build(components, algo="locon", dropout=0.5, train_text_encoder=False))
    unet, x = components["unet"], X.clone().requires_grad_()

    def gradients(forward) -> list[Tensor]:
        parameters = [*network.parameters_by_component()["unet"].values()]
        network.begin(7)
        forward().square().sum().backward()
        found = [each.grad for each in parameters]
        for each in parameters:
            each.grad = None
        return found

    with network.attached():
        plain = gradients(lambda: unet(x, EMB))
        recomputed = gradients(lambda: checkpoint(unet, x, EMB, use_reentrant=use_reentrant))
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_save_then_load_is_the_identity(algo: str, dtype: torch.dtype, components) -> None:
    saved = randomize(build(components, algo=algo)).state_dict(dtype)
    assert all(each.is_contiguous() and each.device.type == "cpu" for each in saved.values())
    assert {each.dtype for key, each in saved.items() if not key.endswith((".alpha", ".on_input"))} == {dtype}
    again = build(components, algo=algo, seed=5)
    again.load_state_dict(saved)
    reloaded = again.state_dict(dtype)
    assert reloaded.keys() == saved.keys()
    assert all(torch.equal(reloaded[key], saved[key]) for key in saved)


def test_saved_tensors_do_not_follow_training(components) -> None:
    network = build(components)
    saved = network.state_dict()
    randomize(network)
    assert all(each.count_nonzero() == 0 for key, each in saved.items() if key.endswith("lora_up.weight"))


def test_loading_what_does_not_fit_changes_nothing_and_says_why(components) -> None:
    network = build(components)
    before = network.state_dict()
    good = randomize(build(components)).state_dict()
    gone = next(iter(good))
    rank8 = build(components, rank=8).state_dict()
    alpha4 = build(components, alpha=4.0).state_dict()
    for wrong, message in (
        ({key: each for key, each in good.items() if key != gone}, f"1 missing .*{gone}"),
        ({**good, "lora_unet_x.alpha": torch.tensor(1.0)}, "1 unknown .*lora_unet_x.alpha"),
        (rank8, "set the rank"),
        (alpha4, "alpha is 4, not 2"),
    ):
        with pytest.raises(RunError, match=message):
            network.load_state_dict(wrong)
    assert all(torch.equal(network.state_dict()[key], before[key]) for key in before)


def test_keys_and_alpha_are_kohyas(components) -> None:
    saved = build(components).state_dict(torch.float16)
    key = "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert saved[f"{key}.lora_down.weight"].shape == (4, 8, 1, 1)
    assert saved[f"{key}.lora_up.weight"].shape == (8, 4, 1, 1)
    assert saved[f"{key}.alpha"].item() == 2 and saved[f"{key}.alpha"].shape == ()
    assert not any("resnets" in name or "conv_in" in name or "norm" in name for name in saved)


def test_bound_tensors_are_computed_with_and_get_the_gradient(components) -> None:
    network = randomize(build(components))
    copies = {
        f"{component}/{name}": parameter.detach().clone().mul_(2).requires_grad_()
        for component, parameters in network.parameters_by_component().items()
        for name, parameter in parameters.items()
    }
    with network.attached():
        plain = run(components)[0]
        network.bind(copies)
        bound = run(components)
        sum(each.sum() for each in bound).backward()
        network.bind(None)
        assert torch.equal(run(components)[0], plain)
    assert not torch.equal(bound[0], plain)
    assert all(each.grad is not None for each in copies.values())
    assert all(p.grad is None for ps in network.parameters_by_component().values() for p in ps.values())


def test_binding_something_else_is_refused(components) -> None:
    with pytest.raises(ValueError, match="bind: no tensor of shape"):
        build(components).bind({})


def test_parameters_may_become_views_of_one_buffer(components) -> None:
    network = randomize(build(components))
    before = network.state_dict()
    with network.attached():
        plain = run(components)[0].detach()
        parameters = [p for ps in network.parameters_by_component().values() for p in ps.values()]
        flat = torch.cat([p.detach().flatten() for p in parameters])
        for parameter, view in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.data = view.view_as(parameter)
        assert torch.equal(run(components)[0], plain)
        flat.zero_()
        assert not torch.equal(run(components)[0], plain)
    assert before.keys() == network.state_dict().keys()


def test_text_encoder_or_unet_alone(components) -> None:
    assert set(build(components, train_text_encoder=False).parameters_by_component()) == {"unet"}
    assert set(build(components, train_unet=False).parameters_by_component()) == {"te1"}
    with pytest.raises(ConfigError, match="nothing to train"):
        build(components, train_unet=False, train_text_encoder=False)


def test_sizes_are_known_before_training(components) -> None:
    network = build(components)
    trained = {key: each for key, each in network.state_dict().items() if not key.endswith(".alpha")}
    assert network.count_parameters() == sum(each.numel() for each in trained.values())
    large = build({"te1": wide_text_encoder()}, rank=64)
    from safetensors.torch import save

    assert large.file_size(torch.float16) == pytest.approx(len(save(large.state_dict(torch.float16))), rel=0.05)


def wide_text_encoder() -> nn.Module:
    model = nn.Module()
    model.encoder = nn.Module()
    model.encoder.layers = nn.ModuleList([nn.Module() for _ in range(3)])
    for layer in model.encoder.layers:
        layer.mlp = nn.Module()
        layer.mlp.fc1 = nn.Linear(512, 512)
    return model


def test_adapters_can_be_built_inside_inference_mode(components) -> None:
    with torch.inference_mode():
        network = build(components)
    with network.attached():
        run(components)[1].sum().backward()


def test_unknown_algorithm_names_the_nearest(components) -> None:
    with pytest.raises(ConfigError, match="lora"):
        build(components, algo="lorra")


class PackedLinear(nn.Module):
    """What quantisation libraries put in a Linear's place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.zeros(8, 4, dtype=torch.int32))


def test_layers_that_no_adapter_fits_are_refused_by_name(components) -> None:
    attention = components["unet"].down_blocks[0].attentions[0]
    plain = attention.to_q
    attention.to_q = PackedLinear()
    with pytest.raises(HostError, match=r"attentions\.0\.to_q is a PackedLinear.*unquantised"):
        build(components)
    attention.to_q = nn.Linear(8, 8).to(torch.float8_e4m3fn)
    with pytest.raises(HostError, match=r"to_q has quantised or packed weights \(float8_e4m3fn\)"):
        build(components)
    attention.to_q = plain
    attention.proj_in = nn.Conv2d(8, 8, 1, groups=2)
    with pytest.raises(HostError, match=r"proj_in is a grouped convolution \(2 groups\)"):
        build(components)


def test_a_text_encoder_of_unknown_names_is_refused(components) -> None:
    with pytest.raises(HostError, match='no layer of "te1" is known by name'):
        build({**components, "te1": nn.Sequential(nn.Linear(2, 2))})
