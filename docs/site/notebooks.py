"""Executes the notebooks of docs/notebooks. `python docs/site/notebooks.py` writes what their cells show into them.

Cells are plain Python, without commands of a notebook's own, so that they are executed in this process: a kernel each
would take seconds to start and to import. As in a kernel, a cell shows what it prints and the value of its last line,
and one that raises ends the notebook.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LONG = 1000


def execute(path: Path) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yields each cell of code with its outputs as a notebook has them, executed in the current directory.

    Raises:
      Exception: whatever a cell raises.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            yield cell, _executed("".join(cell["source"]), f"{path.name}, cell {number}", names)


def _executed(source: str, place: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    body = ast.parse(source, place).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), place, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), place, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append(
            {"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)}
        )
    if value is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": _shown(value)})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    """Returns a value by MIME type, as a kernel asks for it.

    A long text beside HTML or a picture is left out, and so is a single line beside HTML: it says where something lay.
    """
    found: dict[str, Any] = {}
    if callable(getattr(value, "_repr_html_", None)):
        found["text/html"] = value._repr_html_().splitlines(keepends=True)
    elif callable(getattr(value, "_repr_png_", None)):
        found["image/png"] = base64.b64encode(value._repr_png_()).decode()
    text = repr(value)
    where = "text/html" in found and "\n" not in text
    if not found or (len(text) < LONG and not where):
        found["text/plain"] = text.splitlines(keepends=True)
    return found


def main(paths: Sequence[Path]) -> None:
    """Executes notebooks, each in a folder of its own, and writes their outputs into them."""
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            outputs = [shown for _, shown in execute(path)]
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = outputs.pop(0)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main([Path(name).absolute() for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb")))
