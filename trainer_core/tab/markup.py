"""Small pieces of HTML for the tab. Every text is escaped: captions and file names come from anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _MARGIN = 640, 110, 8


def live(name: str) -> str:
    """An empty place that web/tab.js fills: `strip`, `run`, `queue` or `epochs`."""
    return f'<div id="lazylora_live_{escape(name)}"></div>'


def hint(text: str) -> str:
    """A quiet line of explanation."""
    return f'<p class="lazylora-hint">{escape(text)}</p>' if text else ""


def trouble(text: str) -> str:
    """What went wrong, in a sentence."""
    return notes([text], "wrong")


def done(text: str) -> str:
    """What was done, in a sentence."""
    return notes([text], "done")


def notes(lines: Sequence[str], kind: str = "") -> str:
    """A list of lines. kind: "", "warning", "wrong" or "done", which colours its edge."""
    css = f' class="lazylora-{escape(kind)}"' if kind else ""
    items = "".join(f"<li{css}>{escape(line)}</li>" for line in lines)
    return f'<ul class="lazylora-notes">{items}</ul>' if items else ""


def facts(said: Mapping[str, str]) -> str:
    """Numbers that matter with what they are: `{"steps": "240"}`."""
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in said.items())
    return f'<div class="lazylora-facts">{cells}</div>'


def changes(pairs: Sequence[tuple[str, str, str]], most: int = 12) -> str:
    """Captions before and after an edit: (picture, before, after), the first `most` of them."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><del>{escape(before)}</del><br>{escape(after)}</td></tr>"
        for name, before, after in pairs[:most]
    )
    rest = hint(f"and {len(pairs) - most} more") if len(pairs) > most else ""
    return f'<table class="lazylora-changes">{rows}</table>{rest}'


def rate_curve(factors: Sequence[float]) -> str:
    """The schedule's factors over the run as a line: what every learning rate is multiplied by."""
    if not factors:
        return ""
    top = max(1.0, *factors)
    across, up = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points = " ".join(
        f"{_MARGIN + across * place / max(1, len(factors) - 1):.1f},{_HEIGHT - _MARGIN - up * factor / top:.1f}"
        for place, factor in enumerate(factors)
    )
    return (
        f'<svg class="lazylora-rate" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="learning rate">'
        f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{_HEIGHT - _MARGIN}" y2="{_HEIGHT - _MARGIN}" '
        'stroke="currentColor" stroke-opacity="0.3"/>'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2"/></svg>'
    )
