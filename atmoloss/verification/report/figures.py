"""The curves of a report: spectra, semivariogram and histogram."""

from __future__ import annotations

import numpy as np

from atmoloss.verification.report.drawing import (
    Plot,
    drawn_from,
    panels,
    pretty_name,
    pretty_units,
    readable,
    style,
    to_plot,
)
from atmoloss.verification.results import KINETIC_ENERGY, TRUTH, Evaluation

_FOLD = 32  # bins of the evaluation per bin of the plot


@drawn_from("spectrum")
def spectrum(evaluation: Evaluation, variable: str) -> Plot | None:
    """Draw the spectra of one variable and their ratio to the truth."""
    data, models = evaluation.curves[variable], evaluation.models
    figure, ((left, right),) = panels(1, 2, 3.3, sharex=True)
    use = data["degree"].values > 0
    degree = data["degree"].values[use]
    for dataset in data["dataset"].values:
        left.loglog(degree, data["spectrum"].sel(dataset=dataset).values[use], label=dataset, **style(models, dataset))
    for model in models:
        value, low, high = data["spectrum_ratio"].sel(model=model).values[:, use]
        right.semilogx(degree, value, label=model, **style(models, model))
        right.fill_between(degree, low, high, color=style(models, model)["color"], alpha=0.2, linewidth=0)
    if variable == KINETIC_ENERGY:
        top = data["spectrum"].sel(dataset=TRUTH).values[use]
        start = int(np.searchsorted(degree, 20))
        if start < degree.size:
            x = np.array([degree[start], degree[-1]])
            for power, text in ((-3.0, "−3"), (-5 / 3, "−5/3")):
                y = 2.5 * top[start] * (x / x[0]) ** power
                left.loglog(x, y, color="0.6", linewidth=0.8)
                left.annotate(text, (x[1], y[1]), color="0.4", fontsize=7, ha="right", va="bottom")
    first, spherical = evaluation.settings["unresolved_from_degree"], evaluation.settings["spectrum"] == "spherical"
    for axes in (left, right):
        axes.axvspan(first, degree[-1], color="0.93", zorder=0)
        axes.set_xlabel(f"{'spherical-harmonic' if spherical else 'equivalent'} degree")
        axes.grid(alpha=0.25, which="major")
    right.axhline(1.0, color="black", linewidth=1.2)
    ratios = data["spectrum_ratio"].values[..., use]
    right.set_ylim(0, min(2.5, max(1.3, 1.15 * ratios[np.isfinite(ratios)].max(initial=0.0))))
    left.set_ylabel(f"power per degree [{pretty_units(data['spectrum'].attrs['units'])}]")
    right.set_ylabel("ratio to truth")
    left.legend(frameon=False)
    of_winds = "kinetic-energy spectrum of the wind"
    what = of_winds if variable == KINETIC_ENERGY else f"power spectrum of {pretty_name(variable)}"
    return to_plot(
        figure,
        f"spectrum_{variable}.svg",
        f"Time-mean {what} and its "
        f"ratio to the truth; bands: 95 % intervals; grey: degrees counted as unresolved (from {first:.4g}).",
        f"Line plot of the spectrum of {pretty_name(variable)} for truth and models, and of the ratio to the truth",
    )


@drawn_from("density")
def distances_and_tails(evaluation: Evaluation, variable: str) -> Plot | None:
    """Draw the semivariogram and the histogram of one variable."""
    data, models = evaluation.curves[variable], evaluation.models
    lags = "semivariogram" in data
    figure, axes = panels(1, 2 if lags else 1, 3.3)
    right = axes[0, -1]
    if lags:
        left = axes[0, 0]
        for dataset in data["dataset"].values:
            gamma = data["semivariogram"].sel(dataset=dataset)
            left.semilogx(data["lag"], gamma, marker="o", markersize=3, label=dataset, **style(models, dataset))
        left.set(xlabel="distance [km]", ylabel="semivariance / variance of truth")
        left.set_xticks(data["lag"].values, [f"{lag:g}" for lag in data["lag"].values], minor=False)
        left.minorticks_off()
        left.set_ylim(bottom=0)
        left.grid(alpha=0.25)
        left.legend(frameon=False)
    bins, density = data["bin"].values, data["density"]
    factor, unit = readable(bins, data["bin"].attrs["units"])
    middle = factor * bins.reshape(-1, _FOLD).mean(1)
    for dataset in data["dataset"].values:
        coarse = density.sel(dataset=dataset).values.reshape(-1, _FOLD).mean(1) / factor
        right.semilogy(middle, np.where(coarse > 0, coarse, np.nan), label=dataset, **style(models, dataset))
    right.set(xlabel=f"{pretty_name(variable)} [{unit or 1}]", ylabel=f"density [1 / ({unit or 1})]")
    right.grid(alpha=0.25)
    if not lags:
        right.legend(frameon=False)
    first = "Left: semivariogram divided by the variance of the truth. Right: a" if lags else "A"
    return to_plot(
        figure,
        f"distribution_{variable}.svg",
        f"{first}rea-weighted histogram of {pretty_name(variable)} (logarithmic density).",
        f"Line plots of the semivariogram over distance and of the density of {pretty_name(variable)}",
    )
