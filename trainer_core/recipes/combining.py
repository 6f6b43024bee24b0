"""Keys that only say something together: which adapter, which schedule, which of two lengths counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .blocks import rates_by_block, sizes_by_block
from .given import Given, is_off, is_unset
from .notation import NotTaken, number, pairs
from .report import INERT, UNSUPPORTED

_LARGEST_RANK = 1024
_KOHYAS_MODULES = {"lora": "lora", "dylora": "dylora", "loha": "loha", "lokr": "lokr", "locon": "locon"}
_ALIASES = {"oft": "diag-oft", "lora": "locon"}  # LyCORIS' own `lora` adapts convolutions, too
LYCORIS = Given("(lycoris)", True, "(lycoris)", True)  # marks that LyCORIS trains the adapter; reported nowhere
_LOADED_BY_NOBODY = {
    ("lokr", "use_tucker"): "such files neither ComfyUI nor LyCORIS can load",
    ("diag-oft", "rescaled"): "lost when ComfyUI loads the file; boft has it",
}
_RATES_OF_ITS_OWN = ("relative_step", "warmup_init")
_WITHOUT_RANK = ("ia3", "full", "norm")


def combined(givens: Sequence[Given]) -> list[Given]:
    """The same keys in the same order, each saying by itself what it says beside the others."""
    found: dict[str, Given] = {}
    overruled = []
    for each in givens:
        if each.argument in found and not each.verdict:
            before = found[each.argument]
            overruled.append(
                replace(before, verdict=before.verdict or INERT, why=before.why or f"{each.key} overrules it")
            )
        elif each.argument in found:
            overruled.append(each)
            continue
        found[each.argument] = each
    for change in (
        *(_algorithm, _rank_of_lokr, _layers, _what_no_host_loads, rates_by_block, sizes_by_block),
        *(_rate_of_a_part_at_rest, _schedule, _adafactor, _run_length),
    ):
        for changed in list(change(found)):
            found[changed.argument] = changed
    order = {each.key: place for place, each in enumerate(givens)}
    return sorted([*found.values(), *overruled], key=lambda each: order.get(each.key, len(order)))


def _algorithm(found: dict[str, Given]) -> Iterable[Given]:
    module = found.pop("network_module", None)
    if module is None or is_unset(module.meaning):
        return []
    named = found.pop("network_args.algo", None)
    name = str(module.meaning)
    if name.startswith("lycoris"):
        algo = str(named.meaning).lower() if named else "lora"
        given = named or module
        found[LYCORIS.argument] = LYCORIS
        changes = [replace(given, argument="algo", meaning=_ALIASES.get(algo, algo))]
        if named:
            changes.append(replace(module, verdict=INERT, why="its algo says which adapter"))
        return changes
    kind = name.rpartition(".")[2]
    if kind not in _KOHYAS_MODULES or not name.replace("sd_scripts.", "").startswith(("networks.", "locon.")):
        return [replace(module, verdict=UNSUPPORTED, why="there is no such adapter")]
    has_convolutions = "network_args.conv_dim" in found and not is_off(found["network_args.conv_dim"].meaning)
    algo = "locon" if kind == "lora" and has_convolutions else _KOHYAS_MODULES[kind]
    return [replace(module, argument="algo", meaning=algo)]


def _rank_of_lokr(found: dict[str, Given]) -> Iterable[Given]:
    """kohya_ss writes rank 100000 for a LoKr whose two matrices are whole; alpha then means nothing."""
    if "algo" not in found or str(found["algo"].meaning) != "lokr":
        return
    for name in ("network_dim", "network_args.conv_dim"):
        rank = number(found[name].meaning) if name in found else 0
        if isinstance(rank, (int, float)) and rank > _LARGEST_RANK:
            whole = "so high a rank means whole matrices: full_matrix"
            yield replace(found[name], argument="network_args.full_matrix", meaning=True, why=whole)
            found.pop(name)
            for alpha in ("network_alpha", "network_args.conv_alpha"):
                if alpha in found:
                    yield replace(found[alpha], verdict=INERT, why="has no meaning for whole matrices")


def _layers(found: dict[str, Given]) -> Iterable[Given]:
    """LyCORIS adapts the layers of its preset `full` unless told otherwise; (IA)³ has a preset of its own."""
    algo = str(found["algo"].meaning) if "algo" in found else ""
    if found.pop(LYCORIS.argument, None) and "network_args.preset" not in found and algo != "ia3":
        yield Given("(preset)", "full", "network_args.preset", "full", "not in the file: LyCORIS' default")
    preset = found.get("network_args.preset")
    if algo == "ia3" and preset and str(preset.meaning) == "full":
        yield replace(preset, meaning="ia3", why="(IA)³ has layers of its own; kohya's GUI cannot say so")
    if algo in _WITHOUT_RANK:
        for name in ("network_dim", "network_alpha", "network_args.conv_dim", "network_args.conv_alpha"):
            if name in found and not found[name].verdict:
                yield replace(found[name], verdict=INERT, why=f"{algo} has no rank")


def _what_no_host_loads(found: dict[str, Given]) -> Iterable[Given]:
    algo = str(found["algo"].meaning) if "algo" in found else ""
    for (of, name), why in _LOADED_BY_NOBODY.items():
        given = found.get(f"network_args.{name}")
        if algo == of and given and not given.verdict and not is_off(given.meaning):
            yield replace(given, verdict=UNSUPPORTED, why=why)


def _rate_of_a_part_at_rest(found: dict[str, Given]) -> Iterable[Given]:
    for only, other in (("network_train_unet_only", "text_encoder_lr"), ("network_train_text_encoder_only", "unet_lr")):
        if only in found and not is_off(found[only].meaning) and other in found and not found[other].verdict:
            yield replace(found[other], verdict=INERT, why="that part is not trained")


def _schedule(found: dict[str, Given]) -> Iterable[Given]:
    own_class = found.get("lr_scheduler_type")
    if own_class and not is_unset(own_class.meaning) and "lr_scheduler" in found:
        yield replace(found["lr_scheduler"], verdict=INERT, why="lr_scheduler_type overrules it")


def _adafactor(found: dict[str, Given]) -> Iterable[Given]:
    """sd-scripts lets Adafactor make its own rate unless told not to."""
    if "optimizer_type" not in found or not str(found["optimizer_type"].meaning).lower().endswith("adafactor"):
        return
    given = found.get("optimizer_args")
    try:
        arguments = {} if given is None or is_unset(given.meaning) else pairs(given.meaning)
    except NotTaken:
        return
    made = {name: arguments.pop(name) for name in _RATES_OF_ITS_OWN if not is_off(arguments.get(name, "False"))}
    if "relative_step" in arguments and not made:
        return
    why = "lets Adafactor make its own rate, past the schedule; here it takes learning_rate, e.g. 1e-4"
    if made and given is not None:
        yield replace(given, meaning=arguments, why=f"without {' and '.join(made)}")
        yield Given(f"{given.key} ({', '.join(made)})", made, "(relative_step)", made, why, UNSUPPORTED)
    else:
        yield Given("(relative_step)", True, "(relative_step)", True, f"sd-scripts' default {why}", UNSUPPORTED)


def _run_length(found: dict[str, Given]) -> Iterable[Given]:
    """In sd-scripts epochs beat steps; here it is the other way round."""
    epochs, steps = (found.get(f"max_train_{name}") for name in ("epochs", "steps"))
    if epochs and steps and not (epochs.verdict or steps.verdict or is_off(epochs.meaning) or is_off(steps.meaning)):
        yield replace(steps, verdict=INERT, why=f"{epochs.key} overrules it")
