"""Single statistics: each file has functions of arrays, and over them functions of xarray objects."""
