"""Notebooks of this folder: run in plain Python, and shown on the site as pages.

``python docs/notebook.py docs/notebook.ipynb`` runs the cells in order and keeps their outputs in the file, without
Jupyter and a kernel, which would be many packages for a few cells. For MkDocs this file is a hook: a page per notebook.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which may be a list of lines."""
    return "".join(cell["source"])


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook after its code cells are run in one namespace; what the last line of a cell gives is its output."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        tree = ast.parse(source(cell))
        if isinstance(last := tree.body[-1], ast.Expr):
            tree.body[-1] = ast.Assign([ast.Name("_", ast.Store())], last.value)
        names["_"] = None
        exec(compile(ast.fix_missing_locations(tree), f"cell {number}", "exec"), names)
        cell |= {"execution_count": number, "outputs": [] if names["_"] is None else [_output(names["_"], number)]}
    return notebook


def _output(value: Any, number: int) -> dict[str, Any]:
    data = {"text/plain": str(value)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_()
    return {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data}


def to_markdown(notebook: dict[str, Any]) -> str:
    """The page of a notebook: its texts, its code, and the outputs that it has."""
    parts = []
    for cell in notebook["cells"]:
        parts.append(source(cell) if cell["cell_type"] == "markdown" else f"```python\n{source(cell)}\n```")
        for data in (output["data"] for output in cell.get("outputs", [])):
            shown = f'<div style="overflow-x: auto">{data["text/html"]}</div>' if "text/html" in data else None
            parts.append(shown or f"```text\n{data['text/plain']}\n```")
    return "\n\n".join(parts) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: a page ``name.md`` for each ``name.ipynb``."""
    from mkdocs.structure.files import File  # not there where only the tests are installed

    for path in Path(config.docs_dir).glob("*.ipynb"):
        text = to_markdown(json.loads(path.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"{path.stem}.md", content=text))
    return files


if __name__ == "__main__":
    path = Path(sys.argv[1])
    done = executed(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
