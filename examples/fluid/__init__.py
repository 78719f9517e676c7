"""Vortices on a periodic plane, and a hidden mean flow: data on which it is known where the fluid came from."""
