"""The tab of A1111, Forge and our own page, in the part of Gradio that 3.41, 4 and 6 share."""

from .page import build_tab

__all__ = ["build_tab"]
