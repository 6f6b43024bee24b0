"""What the guides say that can be tried, each with the trainings that would show it and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, pstdev
from typing import Any

from .trial import Trial

Results = Mapping[str, Sequence[Trial]]  # arm → its trials, one per seed

CONFIRMED, NOT_CONFIRMED, NOT_TESTABLE = "confirmed", "not confirmed", "not testable here"
BASELINE = "baseline"

_PRODIGY = "betas=0.9,0.99 use_bias_correction=True safeguard_warmup=True"


@dataclass(frozen=True)
class Verdict:
    """confirmed, not confirmed or not testable here, and the numbers that say so, in a sentence or two."""

    word: str
    because: str


@dataclass(frozen=True)
class Claim:
    """A guide's claim. arms: name → settings over the demo's own; judge reads what came of them.

    Arms of equal settings are trained once, whichever claims ask for them."""

    name: str
    guide: str
    says: str
    judge: Callable[[Results], Verdict]
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def optimizer(name: str, arguments: str, **settings: Any) -> dict[str, Any]:
    """Settings of an arm that changes the optimizer; a tenth of warm-up, which the guides give D-Adaptation."""
    values = {"optimizer": name, "optimizer_args": arguments, "lr_scheduler": "constant_with_warmup"}
    return {"optimizer": {**values, "lr_warmup_steps": "10%", **settings}}


def dadapt(weight_decay: float, name: str = "DAdaptAdam", **settings: Any) -> dict[str, Any]:
    """Settings of a D-Adaptation arm; half the rate, which the notes give velocity models such as the tiny world."""
    arguments = f"decouple=True betas=0.9,0.99 weight_decay={weight_decay:g}"
    return optimizer(name, arguments, **{"learning_rate": 0.5, **settings})


def network(algo: str, **settings: Any) -> dict[str, Any]:
    """Settings of an arm that changes the adapter."""
    return {"network": {"algo": algo, **settings}}


def _epochs_overfit(results: Results) -> Verdict:
    trials = results["long"]
    places = [trial.epochs.index(trial.best) + 1 for trial in trials]
    drops = [trial.best.total - trial.last.total for trial in trials]
    count = len(trials[0].epochs)
    said = f"best epochs {_listed(places)} of {count}; the last scores {_listed(drops, '.2f')} below its best"
    return _verdict(all(1 < place < count for place in places) and min(drops) > 0.02, said)


def _loss_misleads(results: Results) -> Verdict:
    gaps = [
        trial.epochs.index(trial.best) - trial.epochs.index(min(trial.epochs, key=lambda e: e.held_out_loss or 0.0))
        for trial in results["long"]
    ]
    said = f"the held-out loss is lowest {_listed(gaps)} epochs before the best pictures"
    return _verdict(mean(gaps) >= 1, said)


def _alpha_raises_d(results: Results) -> Verdict:
    d = {arm: _mean_d(results, arm) for arm in ("alpha 1", "alpha 4", "alpha 16")}
    said = ", ".join(f"{arm}: d {value:.2g}" for arm, value in d.items())
    broke = sum(bool(trial.failure) for trial in results["alpha 1"])
    said += f"; {broke} of {len(results['alpha 1'])} trainings at alpha 1 broke off"
    return _verdict(d["alpha 1"] > 2 * d["alpha 16"] and d["alpha 4"] > d["alpha 16"], said)


def _alpha_breaks(results: Results) -> Verdict:
    low, full = _totals(results, "alpha 1"), _totals(results, "alpha 16")
    broke = sum(bool(trial.failure) for trial in results["alpha 1"])
    said = f"best score {_spread(low)} at alpha 1, {_spread(full)} at alpha = rank; {broke} ended in NaN"
    return _verdict(broke > 0 or mean(low) < mean(full) - 0.1, said)


def _decay_matters(results: Results) -> Verdict:
    arms = [arm for arm in results if arm.startswith("decay")]
    totals = {arm: _totals(results, arm) for arm in arms}
    between = max(mean(t) for t in totals.values()) - min(mean(t) for t in totals.values())
    within = mean(pstdev(t) for t in totals.values())
    said = "; ".join(f"{arm}: {_spread(values)}" for arm, values in totals.items())
    said += f". Arms differ by {between:.2f}, seeds of one arm by {within:.2f}"
    return _verdict(between > 2 * within and between > 0.05, said)


def _decay_does_nothing(results: Results) -> Verdict:
    found = _decay_matters(results)
    return Verdict(NOT_CONFIRMED if found.word == CONFIRMED else CONFIRMED, found.because)


def _half_text_rate(results: Results) -> Verdict:
    half, whole = results["half of it"], results["the UNet's rate"]
    halved, full = _totals(results, "half of it"), _totals(results, "the UNet's rate")
    gain = mean(halved) - mean(full)
    bleed = mean(t.last.bleed for t in whole) - mean(t.last.bleed for t in half)
    said = (
        f"best score {_spread(halved)} at half the UNet's rate, {_spread(full)} at the UNet's; control pictures of the "
        f"last epoch change {bleed:+.0%} less at half"
    )
    return _verdict(gain > _noise(results) or bleed > 0.03, said)


def _noise_offset_breaks(results: Results) -> Verdict:
    totals = {arm: mean(_totals(results, arm)) for arm in results}
    said = "; ".join(f"{arm}: {_spread(_totals(results, arm))}" for arm in results)
    low, high, huge = totals["noise offset 0"], totals["noise offset 0.3"], totals["noise offset 0.75"]
    return _verdict(high < low - _noise(results) and huge < 0.5 * low, said)


def _coefficient_scales(results: Results) -> Verdict:
    d = {arm: _mean_d(results, arm) for arm in results}
    said = "; ".join(f"{arm}: d {d[arm]:.2g}, best score {_spread(_totals(results, arm))}" for arm in results)
    return _verdict(d["d_coef 1"] < d["d_coef 2"] < d["d_coef 3"], said)


def _low_coefficient_for_few_pictures(results: Results) -> Verdict:
    totals = {arm: mean(_totals(results, arm)) for arm in results}
    said = "; ".join(f"{arm}: {_spread(_totals(results, arm))}" for arm in results)
    return _verdict(totals["d_coef 0.5"] > max(totals["d_coef 2"], totals["d_coef 3"]), said)


def _cosine_wins(results: Results) -> Verdict:
    cosine, constant = _totals(results, "cosine"), _totals(results, "constant")
    ends = mean(t.last.total for t in results["cosine"]), mean(t.last.total for t in results["constant"])
    said = (
        f"best score {_spread(cosine)} with cosine, {_spread(constant)} with constant; last epoch {ends[0]:.2f} "
        f"against {ends[1]:.2f}"
    )
    return _verdict(ends[0] > ends[1] + _noise(results), said)


def _small_adapters_suffice(results: Results) -> Verdict:
    sizes = {arm: results[arm][0].file_bytes / 1024 for arm in results}
    scores = {arm: mean(_totals(results, arm)) for arm in results}
    said = "; ".join(f"{arm}: {sizes[arm]:.0f} KB, best score {_spread(_totals(results, arm))}" for arm in results)
    are_small = sizes["(IA)³"] < sizes["LoKr"] < sizes["LoRA"] < sizes["LoCon"]
    return _verdict(are_small and min(scores["(IA)³"], scores["LoKr"]) > scores["LoCon"] - 0.1, said)


def _small_is_enough(results: Results) -> Verdict:
    small, usual = _totals(results, "rank 1"), _totals(results, "rank 16")
    said = f"best score {_spread(small)} at rank 1, {_spread(usual)} at rank 16"
    return _verdict(mean(small) > mean(usual) - 0.1, said)


def _v3_is_gentler(results: Results) -> Verdict:
    old, new = _mean_d(results, "V2"), _mean_d(results, "V3")
    peaks = {arm: mean(max(rate for _, rate in trial.rates) for trial in results[arm]) for arm in ("V2", "V3")}
    said = f"d {old:.2g} with V2 (DAdaptAdamPreprint), {new:.2g} with V3 (DAdaptAdam); highest d·lr "
    said += f"{peaks['V2']:.2g} and {peaks['V3']:.2g}"
    return _verdict(peaks["V3"] < peaks["V2"], said)


def _velocity_rate(results: Results) -> Verdict:
    half, whole = _totals(results, "rate 0.5"), _totals(results, "rate 1")
    said = f"best score {_spread(half)} at rate 0.5, {_spread(whole)} at rate 1 (the tiny world predicts velocity)"
    return _verdict(mean(half) > mean(whole) + _noise(results), said)


def _not_testable(because: str) -> Callable[[Results], Verdict]:
    return lambda _: Verdict(NOT_TESTABLE, because)


_V3 = {f"decay {value:g}": dadapt(value) for value in (0, 0.02, 0.4, 1)}

CLAIMS = (
    Claim(
        "Epochs improve, then overfit",
        "DAdapt lazy, AdamW lazy",
        "Train past overfit and walk back: some epoch in the middle is the best one.",
        _epochs_overfit,
        {"long": {"max_train_epochs": 10}},
    ),
    Claim(
        "Do not trust the loss",
        "Prodigy (IA)³ and LoKr",
        "The loss does not tell which epoch to keep; look at the pictures.",
        _loss_misleads,
        {"long": {"max_train_epochs": 10}},
    ),
    Claim(
        "Alpha below rank makes d larger",
        "DAdapt TLDR, DAdapt notes",
        "A small alpha makes the gradient smaller and D-Adaptation raises the rate instead of dampening it.",
        _alpha_raises_d,
        {f"alpha {a}": network("locon", rank=16, alpha=a) for a in (1, 4, 16)},
    ),
    Claim(
        "128/1 multiplies the rate and ends in NaN",
        "DAdapt TLDR",
        "Rank and alpha must be equal; the notes found 8/1 fine at times.",
        _alpha_breaks,
        {f"alpha {a}": network("locon", rank=16, alpha=a) for a in (1, 16)},
    ),
    Claim(
        "Weight decay is the primary knob",
        "DAdapt lazy",
        "0.2 to 1: more decay learns longer and overfits far less.",
        _decay_matters,
        _V3,
    ),
    Claim(
        "Weight decay changes nothing visible",
        "DAdapt TLDR",
        "No significant change between 0.001 and 0.6.",
        _decay_does_nothing,
        {arm: settings for arm, settings in _V3.items() if arm != "decay 1"},
    ),
    Claim(
        "Text encoder at half rate",
        "DAdapt TLDR, DAdapt notes",
        "Text encoder 0.5, UNet 1.",
        _half_text_rate,
        {
            "the UNet's rate": dadapt(0.02),
            "half of it": dadapt(0.02, text_encoder_lr=0.25),
        },
    ),
    Claim(
        "Noise offset above 0.2 breaks D-Adaptation",
        "DAdapt notes",
        "0.75 was unusable, whatever the rate.",
        _noise_offset_breaks,
        {
            "noise offset 0": dadapt(0.02),
            **{
                f"noise offset {value:g}": {**dadapt(0.02), "loss": {"noise_offset": value}}
                for value in (0.1, 0.3, 0.75)
            },
        },
    ),
    Claim(
        "d_coef scales the rate",
        "Prodigy (IA)³ and LoKr",
        "Compare 1, 2 and 3 and read d·lr.",
        _coefficient_scales,
        {f"d_coef {value}": optimizer("Prodigy", f"{_PRODIGY} d_coef={value}") for value in (1, 2, 3)},
    ),
    Claim(
        "Cosine, not constant",
        "DAdapt lazy (the TLDR says constant)",
        "Constant is not good; the TLDR wants ratios that do not fluctuate.",
        _cosine_wins,
        {
            "constant": dadapt(0.4),
            "cosine": dadapt(0.4, lr_scheduler="cosine"),
        },
    ),
    Claim(
        "Small adapters suffice",
        "Prodigy (IA)³ and LoKr",
        "(IA)³ is about 200 KB, LoKr 1–3 MB, LoCon and LoRA are wasteful (at Stable Diffusion's size).",
        _small_adapters_suffice,
        {
            "(IA)³": network("ia3"),
            "LoKr": network("lokr", rank=1024, alpha=1024, conv_rank=512, conv_alpha=512),
            "LoHa": network("loha", rank=8, alpha=8),
            "LoRA": network("lora", rank=16, alpha=16),
            "LoCon": network("locon", rank=16, alpha=16),
        },
    ),
    Claim(
        "V3 pushes the rate less than V2",
        "DAdapt lazy",
        "V3 is less heavy in blasting out a higher rate, so decay can be lower.",
        _v3_is_gentler,
        {
            "V2": dadapt(0.4, "DAdaptAdamPreprint"),
            "V3": dadapt(0.4),
        },
    ),
    Claim(
        "A lower d_coef for few pictures",
        "Prodigy (IA)³ and LoKr",
        "Lower it for small sets, raise it from about thirty pictures (this set has sixteen).",
        _low_coefficient_for_few_pictures,
        {f"d_coef {value:g}": optimizer("Prodigy", f"{_PRODIGY} d_coef={value:g}") for value in (0.5, 1, 2, 3)},
    ),
    Claim(
        "Rank 1 is enough for a character",
        "DAdapt notes",
        "Dim 1 is fine for characters and weak for styles; dim 128 is noisy.",
        _small_is_enough,
        {f"rank {r}": network("locon", rank=r, alpha=r) for r in (1, 16)},
    ),
    Claim(
        "Velocity models want a lower rate",
        "DAdapt notes",
        "Half the rate for v-prediction models.",
        _velocity_rate,
        {
            "rate 1": dadapt(0.02, learning_rate=1.0),
            "rate 0.5": dadapt(0.02),
        },
    ),
    Claim(
        "768 at rate 1 melts",
        "DAdapt notes",
        "Use 0.5 and 0.25 for 640 and 768, or stay at 512.",
        _not_testable("the tiny world draws 64 × 64 pictures only"),
    ),
    Claim(
        "Low decay keeps details, high decay learns styles",
        "DAdapt TLDR",
        "Smaller decay for characters, higher for concepts and styles.",
        _not_testable("there is one character and no style to learn"),
    ),
    Claim(
        "LoRAs transfer between checkpoints",
        "DAdapt notes",
        "SD 1.x LoRAs work on other checkpoints, wd1.5 and Replicant poorly.",
        _not_testable("there is one tiny world"),
    ),
)


def _verdict(holds: bool, because: str) -> Verdict:
    return Verdict(CONFIRMED if holds else NOT_CONFIRMED, because)


def _totals(results: Results, arm: str) -> list[float]:
    return [trial.best.total if trial.epochs else 0.0 for trial in results[arm]]


def _mean_d(results: Results, arm: str) -> float:
    return mean(trial.d or 0.0 for trial in results[arm])


def _noise(results: Results) -> float:
    """What seeds alone make of the score: below it two arms are alike."""
    return max(0.03, mean(pstdev(_totals(results, arm)) for arm in results))


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {pstdev(values):.2f}"


def _listed(values: Sequence[float], form: str = "g") -> str:
    *first, last = (format(value, form) for value in values)
    return f"{', '.join(first)} and {last}" if first else last
