"""Execute the notebooks of this folder and keep their outputs: ``make notebooks``.

    python docs/tutorials/execute.py            # all of them, minutes of a core
    python docs/tutorials/execute.py score gan  # some

What is written depends on the notebook alone: no times of execution, no versions, no paths of this machine.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


def digest(notebook: NotebookNode) -> str:
    """Return the SHA-256 of the code: outputs that were made by other code are stale."""
    code = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def execute(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook with its outputs, executed in an empty folder.

    Raises:
        CellExecutionError: of nbclient, where a cell fails.
        RuntimeError: files were left behind.
    """
    done = copy.deepcopy(notebook)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, "work")
        folder.mkdir()
        environment = os.environ | {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),  # commands of this Python
            "OMP_NUM_THREADS": "1",  # sums do not depend on the number of cores
            "IPYTHONDIR": home,  # for its history, which is not that of whoever executes
        }
        client = NotebookClient(
            done,
            timeout=None,
            startup_timeout=600,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(folder)}},
            extra_arguments=["--log-level=ERROR"],
        )
        client.execute(env=environment)
        if left := sorted(os.listdir(folder)):
            raise RuntimeError(f"left behind: {', '.join(left)}")
    for cell in done.cells:
        for output in cell.get("outputs", ()):
            trim(output)
    done.metadata = {**METADATA, "code_sha256": digest(done)}
    return done


def trim(output: NotebookNode) -> None:
    """Take times out of the log of a training, and bring a picture to 256 colours, a third of its size."""
    if output.output_type == "stream":
        output.text = re.sub(r", seconds_per_step \S+", "", output.text)
    elif "image/png" in output.get("data", ()):
        out = io.BytesIO()
        picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGB")
        picture.quantize(256).save(out, "PNG", optimize=True)
        output.data["image/png"] = base64.b64encode(out.getvalue()).decode()


def main(names: list[str]) -> None:
    """Execute notebooks in place."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            nbformat.write(execute(nbformat.read(path, 4)), path)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
