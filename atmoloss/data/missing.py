"""Missing values: counted, and refused, kept or filled as asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from atmoloss.errors import DataError

if TYPE_CHECKING:
    import xarray as xr


def checked(field: xr.DataArray, missing: str | float) -> xr.DataArray:
    """Count missing values and treat them as asked for."""
    if missing == "ignore":
        return field
    valid = np.isfinite(field)
    count = field.size - int(valid.sum())
    if isinstance(missing, str):
        if count:
            raise DataError(
                f"missing: {count} of {field.size} values of {field.name!r} are missing, expected none; "
                "pass missing='ignore' or a value to fill in (a command: --missing; a configuration: missing)"
            )
    elif count:
        field = field.where(valid, np.float32(missing)).assign_attrs(field.attrs)
    out: xr.DataArray = field.assign_attrs(missing_count=count)
    return out
