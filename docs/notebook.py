"""The notebook of this folder, as a page of the site and with outputs.

    python docs/notebook.py           write notebook.md, which mkdocs needs when it builds the site
    python docs/notebook.py --run     before that, run the cells of notebook.ipynb and keep their outputs in it

The cells are run in plain Python, because Jupyter and a kernel would be many packages for a few cells.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().with_suffix(".ipynb")


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run the code cells in one namespace; the value of a cell's last line is its output."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        tree = ast.parse("".join(cell["source"]))
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
    """The page of a notebook: its texts, its code and the outputs that it has."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for data in (output["data"] for output in cell.get("outputs", [])):
            table = f'<div style="overflow-x: auto">{data["text/html"]}</div>' if "text/html" in data else None
            parts.append(table or f"```text\n{data['text/plain']}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    if "--run" in sys.argv:
        notebook = executed(notebook)
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    NOTEBOOK.with_suffix(".md").write_text(to_markdown(notebook), encoding="utf-8")
