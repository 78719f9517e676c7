"""Reading of atmospheric data: any common file to one layout.

Everything that needs xarray, zarr, cfgrib or ducc0 (extras ``data`` and ``grib``) imports them when
called, so that ``import atmoloss.data`` works in a core install.
"""

from atmoloss.data.reading import open_fields
from atmoloss.data.spectral import synthesise

__all__ = ["open_fields", "synthesise"]
