"""Other people's settings as ours, ours as theirs, and the guides' as presets."""

from .reading import import_file, import_text
from .report import Entry, ImportReport

__all__ = ["Entry", "ImportReport", "import_file", "import_text"]
