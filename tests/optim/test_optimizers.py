import itertools
import math

import pytest
import torch

from trainer_core.bench.optimizer_step import CountedOperations
from trainer_core.errors import ConfigError, RunError
from trainer_core.optim import OPTIMIZERS, FlatBuffer, ParamGroup, build_optimizer

# Something in every branch: decay, bias correction, a bounded growth.
BUSY = {
    "Prodigy": {"weight_decay": 0.1, "use_bias_correction": True, "safeguard_warmup": True, "growth_rate": 1.5},
    "DAdaptAdam": {"weight_decay": 0.1, "decouple": True, "use_bias_correction": True, "growth_rate": 1.5},
    "AdamW": {"weight_decay": 0.1},
    "DAdaptAdamPreprint": {"weight_decay": 0.1, "decouple": True, "growth_rate": 1.5},
    "DAdaptLion": {"weight_decay": 0.1},
    "DAdaptSGD": {"weight_decay": 0.1, "momentum": 0.9, "growth_rate": 1.5},
    "DAdaptAdaGrad": {"weight_decay": 0.1, "momentum": 0.9, "growth_rate": 1.5},
    "DAdaptAdan": {"weight_decay": 0.1, "growth_rate": 1.5},
    "DAdaptAdanIP": {"weight_decay": 0.1, "no_prox": True, "growth_rate": 1.5},
    "Lion": {"weight_decay": 0.1},
}
NAMES = tuple(BUSY)
LEARNING = tuple(name for name in NAMES if name not in ("AdamW", "Lion"))


def build(toy, name, options=None, lr=1.0, **changed):
    parameters = toy.new_parameters(**changed)
    buffer = FlatBuffer([ParamGroup("unet", parameters, lr)])
    return parameters, buffer, build_optimizer(name, buffer, options or {})


def run(toy, parameters, optimizer, steps, factor=lambda step: 1.0):
    for step in steps:
        toy.fill_gradients(parameters, step)
        optimizer.step(factor(step))


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("growth_rate", [math.inf, 1.02])
def test_d_never_falls_and_grows_no_faster_than_allowed(toy, name, growth_rate):
    if name == "DAdaptLion" and growth_rate < math.inf:
        pytest.skip("dadaptation's Lion has no growth_rate")
    parameters, _, optimizer = build(toy, name, {} if name == "DAdaptLion" else {"growth_rate": growth_rate})
    seen = [optimizer.d]
    for step in range(150):
        run(toy, parameters, optimizer, [step])
        seen.append(optimizer.d)
    values = [float(d) for d in seen]
    assert values[0] == 1e-6
    # Prodigy's d leaves d0 by its first estimate, uncapped, once
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert all(ratio >= 1 for ratio in ratios)
    assert max(ratios[3:]) <= growth_rate * (1 + 1e-12)
    assert values[-1] > values[0]


@pytest.mark.parametrize("name", LEARNING)
def test_d_does_not_depend_on_the_order_of_tensors(toy, name):
    forward, first_buffer, first = build(toy, name)
    backward = dict(reversed(list(toy.new_parameters().items())))
    second = build_optimizer(name, FlatBuffer([ParamGroup("unet", backward, 1.0)]), {})
    for step in range(100):
        toy.fill_gradients(forward, step)
        for key, parameter in backward.items():
            parameter.grad.copy_(forward[key].grad)
        first.step(1.0)
        second.step(1.0)
    assert float(second.d) == pytest.approx(float(first.d), rel=1e-5)
    gap = torch.stack([(backward[key] - parameter).norm() for key, parameter in forward.items()]).norm()
    assert float(gap.detach() / first_buffer.params.norm()) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_rate_of_zero_freezes_a_group(toy, name):
    moving, still = toy.new_parameters(), toy.new_parameters(seed=1, prefix="t")
    before = {key: parameter.detach().clone() for key, parameter in still.items()}
    buffer = FlatBuffer([ParamGroup("te1", still, 0.0), ParamGroup("unet", moving, 1.0)])
    optimizer = build_optimizer(name, buffer, BUSY[name])
    for step in range(30):
        toy.fill_gradients({**still, **moving}, step)
        optimizer.step(1.0)
    alone, _, reference = build(toy, name, BUSY[name])
    for step in range(30):
        toy.fill_gradients({**{f"t{i}": torch.nn.Parameter(p) for i, p in enumerate(before.values())}, **alone}, step)
        reference.step(1.0)
    assert all(torch.equal(parameter, before[key]) for key, parameter in still.items())
    for key, parameter in moving.items():
        torch.testing.assert_close(parameter, alone[key], rtol=1e-4, atol=1e-6)
    end = buffer.groups[0].stop
    assert all(not flat[:end].any() for key, flat in optimizer.state_dict().items() if key in ("s", "exp_avg"))


@pytest.mark.parametrize("name", NAMES)
def test_a_buffer_in_which_all_is_frozen_is_refused(toy, name):
    with pytest.raises(ConfigError, match="every learning rate is 0"):
        build(toy, name, lr=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(toy, name):
    whole, _, uninterrupted = build(toy, name, BUSY[name])
    run(toy, whole, uninterrupted, range(80))

    first, _, optimizer = build(toy, name, BUSY[name])
    run(toy, first, optimizer, range(40))
    weights = {key: parameter.detach().clone() for key, parameter in first.items()}
    state = {key: value.clone() for key, value in optimizer.state_dict().items()}

    second, _, resumed = build(toy, name, BUSY[name], seed=7)
    with torch.no_grad():
        for key, parameter in second.items():
            parameter.copy_(weights[key])
    resumed.load_state_dict(state)
    run(toy, second, resumed, range(40, 80))

    assert all(torch.equal(second[key], parameter) for key, parameter in whole.items())
    assert all(torch.equal(resumed.state_dict()[k], v) for k, v in uninterrupted.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_a_step_gives_the_same_bits_every_time(toy, name):
    shapes = ((32, 900), (700, 32), (1,), (300_000,))

    def result():
        parameters, buffer, optimizer = build(toy, name, BUSY[name], shapes=shapes)
        run(toy, parameters, optimizer, range(4))
        return buffer.params

    torch.set_num_threads(2)
    assert torch.equal(result(), result())


@pytest.mark.parametrize("name", NAMES)
def test_the_state_survives_safetensors(toy, name, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    parameters, _, optimizer = build(toy, name)
    run(toy, parameters, optimizer, range(3))
    safetensors.save_file(optimizer.state_dict(), tmp_path / "state.safetensors")
    loaded = safetensors.load_file(tmp_path / "state.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in optimizer.state_dict().items())
    build(toy, name)[2].load_state_dict(loaded)


def test_a_foreign_state_is_refused(toy):
    prodigy, dadapt = build(toy, "Prodigy")[2], build(toy, "DAdaptAdam")[2]
    with pytest.raises(RunError, match="another optimizer"):
        prodigy.load_state_dict(dadapt.state_dict())
    with pytest.raises(RunError, match="another network"):
        prodigy.load_state_dict(build(toy, "Prodigy", prefix="q")[2].state_dict())
    with pytest.raises(RunError, match="another network"):
        prodigy.load_state_dict(build(toy, "Prodigy", shapes=((3, 3),))[2].state_dict())
    with pytest.raises(RunError, match="another network"):
        prodigy.from_package_state(build(toy, "Prodigy", shapes=((3, 3),))[2].to_package_state())
    with pytest.raises(RunError, match='no "p0"'):
        prodigy.from_package_state(dadapt.to_package_state())


@pytest.mark.parametrize("name", LEARNING)
def test_a_step_at_factor_zero_changes_nothing(toy, name):
    parameters, _, optimizer = build(toy, name, BUSY[name])
    run(toy, parameters, optimizer, range(5))
    before = {key: value.clone() for key, value in optimizer.state_dict().items()}
    weights = {key: parameter.detach().clone() for key, parameter in parameters.items()}
    run(toy, parameters, optimizer, [5], lambda step: 0.0)
    assert all(torch.equal(optimizer.state_dict()[key], value) for key, value in before.items())
    assert all(torch.equal(parameter, weights[key]) for key, parameter in parameters.items())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", ["default", "busy"])
def test_warming_up_from_zero_and_empty_gradients_stay_finite(toy, name, options):
    parameters, buffer, optimizer = build(toy, name, BUSY[name] if options == "busy" else {})
    for step in range(3):
        optimizer.step(step / 10)
    assert all(torch.isfinite(value).all() for value in optimizer.state_dict().values())
    run(toy, parameters, optimizer, range(3, 20), lambda step: step / 20)
    buffer.zero_grads()
    optimizer.step(1.0)
    assert torch.isfinite(buffer.params).all()
    assert all(torch.isfinite(value).all() for value in optimizer.state_dict().values())


def test_prodigy_leaves_weights_alone_until_a_gradient_comes(toy):
    _, buffer, optimizer = build(toy, "Prodigy", {"weight_decay": 0.5, "d0": 0.1, "use_bias_correction": True})
    before = buffer.params.clone()
    optimizer.step(1.0)
    assert torch.equal(buffer.params, before)
    assert float(optimizer.state_dict()["k"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_read_and_never_written(toy, name):
    parameters, buffer, optimizer = build(toy, name, {"weight_decay": 0.1})
    if hasattr(optimizer.options, "decouple"):
        parameters, buffer, optimizer = build(toy, name, {"weight_decay": 0.1, "decouple": False})
    toy.fill_gradients(parameters, 0)
    before = buffer.grads.clone()
    optimizer.step(1.0)
    assert torch.equal(buffer.grads, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_takes_tens_of_kernels_and_no_sync_however_many_tensors(toy, name):
    def count(shapes):
        parameters, _, optimizer = build(toy, name, BUSY[name], shapes=shapes)
        run(toy, parameters, optimizer, range(2))
        with CountedOperations() as ops:
            optimizer.step(0.5)
            optimizer.effective_lr(0.5)
        return ops

    if name == "AdamW" and not build(toy, name)[2]._adamw.defaults.get("fused"):
        pytest.skip("torch before 2.4 fuses AdamW on CUDA only, and its other form reads its step on the CPU")
    few, many = count(((4, 4),) * 2), count(((4, 4),) * 300)
    assert few.syncs == many.syncs == 0
    assert few.kernels == many.kernels < 70


@pytest.mark.parametrize("name", LEARNING)
def test_effective_rate_is_d_times_the_groups_own(toy, name):
    buffer = FlatBuffer(
        [ParamGroup("unet", toy.new_parameters(), 1.0), ParamGroup("te1", toy.new_parameters(prefix="t"), 0.5)]
    )
    optimizer = build_optimizer(name, buffer, {"d0": 0.01})
    rates = optimizer.effective_lr(0.5)
    assert {key: float(rate) for key, rate in rates.items()} == pytest.approx({"unet": 0.005, "te1": 0.0025})
    kept = optimizer.d
    buffer.grads.normal_(generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        optimizer.step(1.0)
    assert float(kept) == 0.01, "a d that was handed out must not change: it is read later"


def optimizer_options(toy, name):
    return build(toy, name)[2].options


@pytest.mark.parametrize("name", NAMES)
def test_names_ignore_case_and_mistakes_are_named(toy, name):
    assert OPTIMIZERS.get(name.lower()) is OPTIMIZERS.get(name)
    with pytest.raises(ConfigError, match=r'weight_decai.*did you mean "weight_decay"'):
        build(toy, name, {"weight_decai": 1})
    with pytest.raises(ConfigError, match=r"betas|momentum"):
        build(toy, name, {"betas": (0.9, 1.0)} if hasattr(optimizer_options(toy, name), "betas") else {"momentum": 1.0})
    with pytest.raises(ConfigError, match=r"foreach.*remove it"):
        build(toy, name, {"foreach": True})


def test_kohyas_dadaptation_is_the_preprint():
    assert OPTIMIZERS.canonical("dadaptation") == "DAdaptAdamPreprint"


def test_a_sliced_estimate_reads_every_nth_element(toy):
    # 3 and 24 elements at stride 3 make 1 and 8; the rest of the parameters does not enter d
    parameters, _, optimizer = build(toy, "Prodigy", {"slice_p": 3}, shapes=((3,), (4, 6)))
    assert optimizer.state_dict()["s"].numel() == 9
    for parameter in parameters.values():
        parameter.grad.flatten()[1::3] = 1.0
        parameter.grad.flatten()[2::3] = 1.0
    optimizer.step(1.0)
    assert not optimizer.state_dict()["s"].any()
    assert optimizer.state_dict()["exp_avg"].count_nonzero() == 18


def test_options_are_read_from_loose_values(toy):
    options = build(toy, "Prodigy", {"betas": [0.9, 0.99], "growth_rate": math.inf, "slice_p": 1, "beta3": None})[
        2
    ].options
    assert (options.betas, options.growth_rate, options.d_coef) == ((0.9, 0.99), math.inf, 1.0)
    for wrong in ({"d0": 0}, {"growth_rate": 0.9}, {"eps": "x"}, {"betas": 0.9}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            build(toy, "Prodigy", wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_a_step_never_waits_for_the_gpu(toy, name):
    parameters = {key: torch.nn.Parameter(p.detach().cuda()) for key, p in toy.new_parameters().items()}
    buffer = FlatBuffer([ParamGroup("unet", parameters, 1.0)])
    optimizer = build_optimizer(name, buffer, BUSY[name])
    buffer.grads.normal_()
    optimizer.step(1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        norm = buffer.grad_norm()
        buffer.zero_nonfinite_grads(norm)
        buffer.clip_grad_norm(1.0, norm)
        optimizer.step(0.5)
        optimizer.effective_lr(0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_adamw_steps_where_torch_has_no_fused_kernel(toy, monkeypatch):
    class AsInTorch21(torch.optim.AdamW):
        """Writes its options into the groups before it refuses them."""

        def __init__(self, groups, **options):
            super().__init__(groups, **options)
            if options.get("fused"):
                raise RuntimeError("`fused=True` requires all the params to be on a supported device")

    fused, _, ours = build(toy, "AdamW", lr=1e-3)
    run(toy, fused, ours, range(3))
    monkeypatch.setattr(torch.optim, "AdamW", AsInTorch21)
    plain, _, ours = build(toy, "AdamW", lr=1e-3)
    assert not any(group["fused"] for group in ours._adamw.param_groups)
    run(toy, plain, ours, range(3))
    torch.testing.assert_close(plain, fused)
