"""The documentation says what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from trainer_core.cli import _parser
from trainer_core.config import TrainConfig
from trainer_core.docs_table import PAGE, RECIPE_PAGES, recipe_page, settings_page
from trainer_core.recipes import import_file
from trainer_core.settings import all_settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def name_of(page: Path) -> str:
    """A page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def test_the_settings_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `python -m trainer_core.docs_table`"


@pytest.mark.parametrize("page", RECIPE_PAGES, ids=lambda page: page.name)
def test_the_pages_on_presets_and_importing_are_up_to_date(page):
    assert page.read_text(encoding="utf-8") == recipe_page(page), "run `python -m trainer_core.docs_table`"


def test_the_settings_page_has_every_setting():
    page = settings_page()
    assert all(f"| `{path}` |" in page for path, _ in all_settings(TrainConfig))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing, f"{name_of(page)} links to {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_pages_lead_to_headings_that_are_there(page):
    links = re.findall(r"\]\(([^)#\s:]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        f"{target}#{anchor}" for target, anchor in links if anchor not in anchors(page.parent / (target or page))
    ]
    assert not missing, f"{name_of(page)} links to {', '.join(missing)}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines() -> list[str]:
    """Every `python -m trainer_core …` in a code block of a page, continued lines joined."""
    blocks = [block for page in PAGES for block in re.findall(r"```\w*\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line for line in lines if line.startswith("python -m trainer_core ")]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_in_the_docs_is_one(line):
    try:
        _parser().parse_args(shlex.split(line, comments=True)[3:])
    except SystemExit as left:
        assert left.code == 0, line  # --help leaves, too


def test_the_readme_names_both_commands():
    assert "python install.py demo" in README
    assert "python install.py test" in README


def test_the_readme_names_every_other_command():
    commands = set(re.findall(r"^    (\w+) ", _parser().format_help(), re.MULTILINE))
    told = {name for row in re.findall(r"^\| (`.*?`) \|", README, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert {"train", "import"} < commands
    assert commands - told == {"demo"}  # told of by its own name, install.py demo


def test_the_readme_names_every_node():
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    names = {name for source in sources for name in re.findall(r'display_name="(.*) \(LazyLoRA\)"', source)}
    assert "Train LoRA" in names
    assert not {name for name in names if name not in README}


def test_the_readme_s_report_is_what_import_says():
    (block,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    said = import_file(ROOT / "tests" / "recipes" / "guides" / "prodigy-lokr.json").as_text()
    lines = {" ".join(line.split()) for line in said.splitlines()}
    assert {" ".join(line.split()) for line in block.splitlines()} <= lines
