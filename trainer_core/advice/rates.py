"""Warnings about learning rates and what shifts them: the optimizer, its options, the noise, the resolution."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import group_learning_rate
from ..optim.args import parse_optimizer_args
from .base import Outlook, highest_rate, is_adaptive, optimizer_name, warning

_COUPLED = ("dadaptation", "dadaptadam", "dadaptadampreprint")  # their decay goes through the gradient by default


@warning("rate-of-an-adaptive-optimizer", looks_at="optimizer.learning_rate", source="guides 0 and 1")
def rate_of_an_adaptive_optimizer(outlook: Outlook) -> Iterator[str]:
    """The rate is outside of 0.1 to 2 with an optimizer that finds it by itself and takes it as a factor."""
    optimizer = outlook.config.optimizer
    if is_adaptive(optimizer) and not 0.1 <= optimizer.learning_rate <= 2:
        yield (
            f"{optimizer_name(optimizer)} finds the learning rate itself and learning_rate {optimizer.learning_rate:g} "
            "only scales it; leave it at 1"
        )


@warning("rate-too-high", looks_at="optimizer.learning_rate", source="guide 3: 1e-4 to 3.5e-4")
def rate_too_high(outlook: Outlook) -> Iterator[str]:
    """The rate is above 0.01 with an optimizer that takes it as it is."""
    optimizer = outlook.config.optimizer
    if not is_adaptive(optimizer) and optimizer.learning_rate > 0.01:
        yield (
            f"learning_rate {optimizer.learning_rate:g} is far above what {optimizer_name(optimizer)} survives; "
            "try 1e-4, or choose Prodigy"
        )


@warning("768-at-rate-1", looks_at="dataset.resolution optimizer.learning_rate", source="guide 2")
def high_resolution_at_full_rate(outlook: Outlook) -> Iterator[str]:
    """A model of 512 pixels trains at 768 or more, with an optimizer that adapts at rate 1: the pictures melt, where
    0.5 for the UNet and 0.25 for the text encoder went well."""
    config = outlook.config
    if is_adaptive(config.optimizer) and 768 <= config.dataset.resolution < 1024 and highest_rate(config) >= 1:
        yield (
            f"{config.dataset.resolution} px at a rate of {highest_rate(config):g} has melted pictures with "
            f"{optimizer_name(config.optimizer)}; try a unet_lr of 0.5 and a text_encoder_lr of 0.25, or 512 px"
        )


@warning("small-pictures-for-sdxl", looks_at="dataset.resolution", source="SDXL, Podell et al. 2023: made for 1024 px")
def small_pictures_for_a_large_model(outlook: Outlook) -> Iterator[str]:
    """A model that was made for 1024 pixels trains on pictures of less than 768: it learns them at a scale at which
    nobody will draw."""
    made_for, resolution = outlook.model_resolution, outlook.config.dataset.resolution
    if made_for is not None and made_for >= 1024 and resolution < 768:
        yield (
            f"this model draws at {made_for} px, and the pictures are brought to {resolution}; set resolution to "
            f"{made_for}, or to 768 where memory is short"
        )


@warning(
    "velocity-model-at-full-rate", looks_at="loss.prediction_type optimizer.learning_rate", source="guide 2: 2.x models"
)
def velocity_model_at_full_rate(outlook: Outlook) -> Iterator[str]:
    """A model that predicts velocities, as its host or prediction_type says, trains with an optimizer that adapts at
    rate 1: such models need lower rates."""
    config = outlook.config
    is_velocity = config.loss.prediction_type == "v_prediction"
    if is_velocity and is_adaptive(config.optimizer) and highest_rate(config) >= 1:
        yield (
            f"models that predict velocities need lower learning rates than {highest_rate(config):g} with "
            f"{optimizer_name(config.optimizer)}; try 0.5"
        )


@warning("noise-offset-with-d-adaptation", looks_at="loss.noise_offset optimizer.optimizer", source="guide 2")
def noise_offset_with_d_adaptation(outlook: Outlook) -> Iterator[str]:
    """noise_offset is above 0.2 with D-Adaptation or Prodigy: the results were unusable, at 0.75 even at rate 0.5."""
    config = outlook.config
    if is_adaptive(config.optimizer) and config.loss.noise_offset > 0.2:
        yield (
            f"noise_offset {config.loss.noise_offset:g} has made what {optimizer_name(config.optimizer)} trains "
            "unusable; keep it to 0.2, 0.05 is usual"
        )


@warning(
    "weight-decay-out-of-range",
    looks_at="optimizer.optimizer_args",
    source="guide 0: 0.2 to 1; guide 1: 0.02 to 0.04; guide 2: 0.6; guide 4: 0.05",
)
def weight_decay_out_of_range(outlook: Outlook) -> Iterator[str]:
    """weight_decay is above everything that a guide tried: above 1 with an optimizer that adapts, above 0.3 with
    another."""
    optimizer = outlook.config.optimizer
    decay, highest = _option(outlook, "weight_decay", 0.0), 1.0 if is_adaptive(optimizer) else 0.3
    if decay > highest:
        tried = "0.02 to 1 were tried" if is_adaptive(optimizer) else "0.01 is usual"
        yield f"weight_decay {decay:g} is a lot for {optimizer_name(optimizer)}, which may never learn; {tried}"


@warning("decay-without-decouple", looks_at="optimizer.optimizer_args", source="guides 0, 1 and 2: decouple=True")
def decay_without_decouple(outlook: Outlook) -> Iterator[str]:
    """D-Adaptation decays through the gradient, where Adam's scaling and the estimate of d distort it, unless decouple
    is on."""
    optimizer = outlook.config.optimizer
    decays = _option(outlook, "weight_decay", 0.0) > 0 and not _option(outlook, "decouple", False)
    if optimizer_name(optimizer).lower() in _COUPLED and decays:
        yield (
            f"{optimizer_name(optimizer)} takes weight_decay through the gradient; add decouple=True to optimizer_args"
        )


@warning("d-coef-for-few-pictures", looks_at="optimizer.optimizer_args", source="guide 4")
def d_coef_for_few_pictures(outlook: Outlook) -> Iterator[str]:
    """d_coef is above 1 with less than 30 pictures."""
    d_coef = _option(outlook, "d_coef", 1.0)
    if d_coef > 1 and outlook.pictures < 30:
        yield (
            f"d_coef {d_coef:g} speeds up what {outlook.pictures} pictures are few for; raise it from about 30 "
            "pictures on, and counter it with weight_decay"
        )


@warning(
    "warm-up-without-safeguard", looks_at="optimizer.lr_warmup_steps optimizer.optimizer_args", source="prodigyopt"
)
def warm_up_without_safeguard(outlook: Outlook) -> Iterator[str]:
    """Prodigy warms up without safeguard_warmup: the small rates of the warm-up inflate d."""
    optimizer = outlook.config.optimizer
    is_prodigy = optimizer_name(optimizer).lower() == "prodigy"
    if is_prodigy and outlook.warmup_steps > 0 and not _option(outlook, "safeguard_warmup", False):
        yield (
            "Prodigy's d is inflated by a warm-up; add safeguard_warmup=True to optimizer_args, or set lr_warmup_steps "
            "to 0"
        )


@warning("text-encoder-above-unet", looks_at="optimizer.text_encoder_lr optimizer.unet_lr", source="guides 1, 2 and 3")
def text_encoder_above_unet(outlook: Outlook) -> Iterator[str]:
    """The text encoder learns faster than the UNet: every guide but one line of guide 3, which looks transposed, has it
    at half the rate or less."""
    config = outlook.config
    unet, text = (group_learning_rate(config.optimizer, name) for name in ("unet", "te1"))
    if config.network.train_unet and config.network.train_text_encoder and text > unet > 0:
        yield (
            f"the text encoder's rate of {text:g} is above the UNet's of {unet:g}, and it overfits first; "
            "half of the UNet's is usual"
        )


@warning(
    "one-rate-for-all-groups",
    looks_at="optimizer.lr_groups optimizer.text_encoder_lr optimizer.unet_lr",
    source="guides 1 and 2: 0.5 and 1; sd-scripts #274, #555",
)
def one_rate_for_all_groups(outlook: Outlook) -> Iterator[str]:
    """lr_groups is legacy_single and the rates differ: the text encoder's counts for the UNet, too, as it did when the
    guides had 0.5 and 1."""
    config = outlook.config
    unet, text = (group_learning_rate(config.optimizer, name) for name in ("unet", "te1"))
    if config.optimizer.lr_groups == "legacy_single" and config.network.train_text_encoder and unet > 0 < text != unet:
        yield (
            f"under lr_groups legacy_single the UNet trains at the text encoder's rate of {text:g}, not at {unet:g}; "
            "choose scaled for a rate of its own"
        )


def _option(outlook: Outlook, name: str, default: float) -> float:
    value = parse_optimizer_args(outlook.config.optimizer.optimizer_args).get(name, default)
    return value if isinstance(value, (int, float)) else default
