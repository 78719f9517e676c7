"""Print what pyproject.toml requires at run time, lower bounds as pins: the constraints of `make test-oldest`."""

import tomllib
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in ("dev", "docs")}
for line in sorted({*project["dependencies"], *(text for lines in extras.values() for text in lines)}):
    requirement = Requirement(line)
    floor = [s.version for s in requirement.specifier if s.operator == ">="]
    if floor and (requirement.marker is None or requirement.marker.evaluate()):
        print(f"{requirement.name}=={floor[0]}")
