"""How near fields come to the truth: spectra, semivariogram, cities, moments, tails, pixels, artefacts.

Functions take and return xarray objects with dimensions (time, latitude, longitude); they need the extra ``eval``.
:func:`evaluate_fields` computes every score with its interval, and ``atmoloss report`` makes a page of it. The other
functions return what single fields have: spectra, a semivariogram, values at cities. :func:`advection_score` is about
attention: whether its maps look where the air came from.
"""

from atmoloss.verification.comparison import Options as Options
from atmoloss.verification.evaluate import evaluate_fields as evaluate_fields
from atmoloss.verification.report import write_report as write_report
from atmoloss.verification.results import Evaluation as Evaluation
from atmoloss.verification.statistics.advection import advection_score as advection_score
from atmoloss.verification.statistics.cities import at_cities as at_cities
from atmoloss.verification.statistics.cities import load_cities as load_cities
from atmoloss.verification.statistics.spectra import kinetic_energy_spectrum as kinetic_energy_spectrum
from atmoloss.verification.statistics.spectra import power_spectrum as power_spectrum
from atmoloss.verification.statistics.variogram import semivariogram as semivariogram
