"""Errors as ComfyUI's dialog should show them: our one sentence, and no trace of where in the code it was raised."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..trainer_core.errors import LazyLoraError


def plainly(execute: Callable[..., Any]) -> Callable[..., Any]:
    """A node's `execute` whose LazyLoraErrors carry their sentence and nothing else."""

    @functools.wraps(execute)
    def said_plainly(*args: Any, **kwargs: Any) -> Any:
        try:
            return execute(*args, **kwargs)
        except LazyLoraError as error:
            plain = error.with_traceback(None)
        raise plain from None

    return said_plainly


def said(check: Callable[..., Any], *args: Any) -> bool | str:
    """For `validate_inputs`: True, or the sentence of the LazyLoraError that the check raises."""
    try:
        check(*args)
    except LazyLoraError as error:
        return str(error)
    return True
