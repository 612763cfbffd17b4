"""Notebooks as pages: their text and code, and the outputs that they were stored with."""

from __future__ import annotations

from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter


def pages(file: File, config: MkDocsConfig) -> list[File]:
    """The page that stands for a notebook, under the notebook's path, and the pictures in it."""
    assert file.abs_src_path is not None
    notebook = nbformat.read(file.abs_src_path, as_version=4)  # type: ignore[no-untyped-call]
    folder = Path(file.src_uri).with_suffix("")
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"output_files_dir": folder.name, "unique_key": folder.name}
    )
    made = [File.generated(config, f"{folder}.md", content=text)]
    for name, content in resources.get("outputs", {}).items():
        made.append(File.generated(config, str(folder.parent / name), content=content))
    return made
