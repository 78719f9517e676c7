"""A loss and a distance that know weather: AtmoDist for PyTorch."""
