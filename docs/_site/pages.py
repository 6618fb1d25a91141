"""A hook for MkDocs that adds the pages outside docs/ and resolves links to them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# The path of each file in the repository, and its path on the site.
ELSEWHERE = {
    "README.md": "index.md",
    "ops/runbook.md": "runbook.md",
    "bench/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
# The same for files that are no pages.
PICTURES = {"bench/chart.svg": "chart.svg"}
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/."""
    for source, place in (ELSEWHERE | PICTURES).items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate links into links within the site. Links to other files stay, and a strict build refuses them."""
    place = page.file.src_uri
    source = next((one for one, there in ELSEWHERE.items() if there == place), f"docs/{place}")
    return _LINK.sub(lambda link: f"]({translated(link[1], source, place)}{link[2] or ''})", markdown)


def translated(target: str, source: str, place: str) -> str:
    """Return a link's target relative to the page's path on the site. The given target is relative to the file."""
    file = normpath(str(PurePosixPath(source).parent / target))
    there = (ELSEWHERE | PICTURES).get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
    return target if there is None else relpath(there, str(PurePosixPath(place).parent))
