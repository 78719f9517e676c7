"""Single statistics: each file has functions of arrays, some also functions of xarray objects over them."""
