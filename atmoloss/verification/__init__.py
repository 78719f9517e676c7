"""How near fields come to the truth: spectra, semivariogram, cities, moments, tails, pixels, artefacts.

Functions take and return xarray objects with dimensions (time, latitude, longitude); they need the extra ``eval``.
:func:`evaluate_fields` computes everything with intervals, and ``atmoloss report`` makes a page of it. Statistics of
their own are in :mod:`~atmoloss.verification.statistics`, each as a function of arrays under one of xarray objects.
"""

from atmoloss.verification.comparison import Options as Options
from atmoloss.verification.evaluate import evaluate_fields as evaluate_fields
from atmoloss.verification.report import write_report as write_report
from atmoloss.verification.results import Evaluation as Evaluation
from atmoloss.verification.statistics.bootstrap import bootstrap_mean as bootstrap_mean
from atmoloss.verification.statistics.cities import at_cities as at_cities
from atmoloss.verification.statistics.cities import city_percentiles as city_percentiles
from atmoloss.verification.statistics.cities import city_wasserstein as city_wasserstein
from atmoloss.verification.statistics.cities import load_cities as load_cities
from atmoloss.verification.statistics.distributions import histogram as histogram
from atmoloss.verification.statistics.distributions import tails as tails
from atmoloss.verification.statistics.grid import area_mean as area_mean
from atmoloss.verification.statistics.grid_artefacts import grid_artefacts as grid_artefacts
from atmoloss.verification.statistics.grid_artefacts import grid_scale_power as grid_scale_power
from atmoloss.verification.statistics.pixel import pixel_errors as pixel_errors
from atmoloss.verification.statistics.spectra import kinetic_energy_spectrum as kinetic_energy_spectrum
from atmoloss.verification.statistics.spectra import log_spectral_distance as log_spectral_distance
from atmoloss.verification.statistics.spectra import power_spectrum as power_spectrum
from atmoloss.verification.statistics.time_moments import time_moment_errors as time_moment_errors
from atmoloss.verification.statistics.time_moments import time_moments as time_moments
from atmoloss.verification.statistics.variogram import semivariance as semivariance
from atmoloss.verification.statistics.variogram import semivariogram as semivariogram
