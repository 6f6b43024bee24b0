"""What is downloaded, and how politely."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import setting


@dataclass(frozen=True)
class DownloadConfig:
    """Pictures of a site that have some tags."""

    site: str = setting("danbooru", help="A site by its name, or the address of a page that gallery-dl knows.")
    tags: str = setting(
        "", help="As the site's search has them: words with spaces between, shiroko_(blue_archive) 1girl."
    )
    limit: int = setting(150, help="Most pictures to download.", ge=1, le=5000)
    pause_seconds: float = setting(
        1.0, help="Wait between two requests; sites lock out those who hurry.", ge=0.5, le=60, unit="s"
    )
    limit_rate: str = setting("4M", help="Most bytes a second, as 500k or 4M.", advanced=True)
