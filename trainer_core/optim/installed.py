"""Classes of installed packages by name, for optimizers and schedules that are not ours."""

from __future__ import annotations

import importlib
from importlib.metadata import packages_distributions
from typing import TypeVar

from ..errors import ConfigError, did_you_mean

C = TypeVar("C")

# What to install where it is not called like its module.
_DISTRIBUTIONS = {"prodigyplus": "prodigy-plus-schedule-free", "lion_pytorch": "lion-pytorch"}


def installed_class(dotted: str, kind: type[C], setting: str) -> type[C]:
    """The class `module.Name` of an installed package, if it is a `kind`.

    A name may come with somebody else's graph, so only modules that an installed distribution has brought are imported:
    no script that happens to lie on the path. setting: for messages. Raises ConfigError for anything else."""
    module_name, _, name = dotted.strip().rpartition(".")
    top = module_name.partition(".")[0]
    if not all(part.isidentifier() for part in dotted.strip().split(".")):
        raise ConfigError(f'"{setting}" is "{dotted}"; give a class as module.Name, e.g. torch.optim.RAdam')
    if top not in packages_distributions():
        package = _DISTRIBUTIONS.get(top, top)
        raise ConfigError(f'"{setting}" {dotted} is of no installed package; for {package}: pip install {package}')
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f'"{setting}" {dotted} cannot be imported: {error}') from None
    return _member(module, name, kind, setting)


def class_among(modules: tuple[str, ...], name: str, kind: type[C], setting: str) -> type[C] | None:
    """The class of that name (case does not matter) in the first of the modules that has one; None if none does.

    Modules that are not installed are passed over. Raises ConfigError for what is there but not a `kind`."""
    for module_name in modules:
        if module_name.partition(".")[0] not in packages_distributions():
            continue
        module = importlib.import_module(module_name)
        folded = {each.lower(): each for each, value in vars(module).items() if isinstance(value, type)}
        if name.lower() in folded:
            return _member(module, folded[name.lower()], kind, setting)
    return None


def _member(module: object, name: str, kind: type[C], setting: str) -> type[C]:
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, kind) and found is not kind:
        return found
    known = [each for each, value in vars(module).items() if isinstance(value, type) and issubclass(value, kind)]
    hint = did_you_mean(name, known) or "; give the name of a class"
    raise ConfigError(f'"{setting}" {name} is no {kind.__name__} of {module.__name__}{hint}')  # type: ignore[attr-defined]
