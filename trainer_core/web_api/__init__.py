"""The studio over HTTP, under /lazylora/: for the tab's scripts, and for programs. docs/http-api.md tells of it."""

from .routes import add_routes

__all__ = ["add_routes"]
