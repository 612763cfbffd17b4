"""What the site has beside the pages of docs/: reference pages made from the code, files of the repository, notebooks.

MkDocs calls the functions by their names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gallery
import notebooks
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
"""Pages that lie in the repository's root, where GitHub and readers look for them."""
FILES = ("cluster.yaml", "deploy/on-premises.yaml", "deploy/kuberay.yaml", "deploy/Dockerfile", "deploy/slurm.sh",
         "deploy/skypilot.yaml", "deploy/mlflow.sh")  # fmt: skip
"""Files that pages link to, served as they are."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and what lies outside docs/."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    for name, content in gallery.figures((ROOT / "docs" / "gallery.md").read_text()).items():
        files.append(File.generated(config, name, content=content))
    for name in PAGES:
        text = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    for name in FILES:
        files.append(File.generated(config, f"files/{name}", abs_src_path=str(ROOT / name)))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            for made in notebooks.pages(file, config):
                files.append(made)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links to notebooks and files to what stands for them in the site, and put its figures into the gallery."""
    if page.file.src_uri == "gallery.md":
        markdown = gallery.with_figures(markdown)
    up = "../" * page.file.src_uri.count("/")

    def moved(match: re.Match[str]) -> str:
        name = match["name"]
        return f"]({up}{name})" if name in PAGES else f"]({up}files/{name})" if name in FILES else match[0]

    markdown = re.sub(r"(\]\([\w./-]+)\.ipynb\)", r"\1.md)", markdown)
    return re.sub(r"\]\((?:\.\./)+(?P<name>[^)#\s]+)\)", moved, markdown)
