"""Model card of a weights folder, from its metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from atmoloss.data.sources import FieldSource
from atmoloss.files import write_atomically
from atmoloss.hours import LagCurve
from atmoloss.networks import LOW_PASS, Encoder
from atmoloss.training.config import SourceConfig
from atmoloss.verification.statistics.bootstrap import DEFAULT_BLOCK_DAYS
from atmoloss.weights import WeightsInfo

_TEMPLATE = Path(__file__).with_name("card.md")
FIGURES = {
    "lag_2afc": "lag 2AFC",
    "distance_vs_lag": "distance against lag",
    "confusion": "confusion",
    "accuracy_per_lag": "accuracy per lag",
}
_SHOWN = ("random weights", "MSE of winds")
BASELINES = ("random weights", "MSE of fields", "MAE of fields", "MSE of winds", "MAE of winds", "SSIM of fields")


def baselines(scores: dict[str, Any]) -> dict[str, float]:
    """Return the lag 2AFC of everything that is neither the distance nor a stage of the weights themselves."""
    return {n: s["value"] for n, s in scores.items() if n != "distance" and not n.endswith(" alone")}


def best_baseline(scores: dict[str, Any]) -> tuple[str, float]:
    """Return name and value of the best of :func:`baselines`."""
    return max(baselines(scores).items(), key=lambda item: item[1])


# What ECMWF asks of those who use ERA5 (CC-BY): confluence.ecmwf.int, "How to acknowledge and cite a CDS entry".
_ERA5_LICENSE = "CC-BY, Copernicus Climate Change Service"
_ERA5_ATTRIBUTION = (
    "Contains modified Copernicus Climate Change Service information {years}. Neither the European Commission nor "
    "ECMWF is responsible for any use that may be made of the Copernicus information or data it contains."
)


def public_path(path: str) -> str:
    """Return what others can use of a path: a URL as it is, of a file its name."""
    return path if "://" in path else Path(path).name


def describe_data(
    configured: Sequence[SourceConfig], train: Sequence[FieldSource], hashes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return name, origin, share, dates, grid, SHA-256, licence and attribution of what weights were trained on.

    Where neither is configured, sources with ERA5 in their name or path get what its licence asks for.

    Args:
        configured: sources of the configuration.
        train: their training dates; sources that have none are left out.
        hashes: SHA-256 of all values by name.
    """
    by_name = {source.name: source for source in configured}
    out = []
    for source in train:
        asked = by_name[source.name]
        days = source.dates.astype("datetime64[D]")
        license, attribution = asked.license, asked.attribution
        if re.search(r"era-?5(?!\d)", f"{asked.name} {asked.path}", re.IGNORECASE):
            years = "–".join(sorted({str(day)[:4] for day in (days.min(), days.max())}))
            license = license or _ERA5_LICENSE
            attribution = attribution or _ERA5_ATTRIBUTION.format(years=years)
        out.append(
            {
                "name": source.name,
                "path": public_path(asked.path),
                "share": source.weight,
                "level": source.level,
                "grid_spacing": source.grid_spacing,
                "n_times": len(source.times),
                "dates": f"{days.min()}/{days.max()}",
                "sha256": hashes[source.name],
                "license": license,
                "attribution": attribution,
            }
        )
    return out


def with_interval(value: float, interval: Sequence[float] | None, sign: bool = False) -> str:
    """Format a lag 2AFC, or (``sign``) a difference of two, with its interval where it has one."""
    if sign:
        return f"{value:+.3f}" + (" ({:+.3f} to {:+.3f})".format(*interval) if interval else "")
    return f"{value:.3f}" + (" ({:.3f}–{:.3f})".format(*interval) if interval else "")


def _data_line(s: Mapping[str, Any]) -> str:
    parts = [
        f"- {s['name']}, share {s['share']:g}: {s['path']}, {s['n_times']} times of {s['dates']}",
        f"{s['grid_spacing']:.3g}°, sha256 of all values {s['sha256'][:12]}…",
        s["license"] or "licence not stated",
    ]
    return ", ".join(parts) + (f". {s['attribution']}" if s["attribution"] else "")


# Of the identifiers that the Hub knows (hf.co/docs/hub/repositories-licenses) those that weights tend to have.
_HUB_LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")


def metadata(info: WeightsInfo, metrics: Mapping[str, Any]) -> str:
    """Return the YAML header of the card as the Hub reads it; the Hub refuses licences that it does not know."""
    known = info.license.lower() in _HUB_LICENSES
    results = [
        EvalResult(
            task_type="other",
            task_name="which of two later fields is the earlier",
            dataset_type=s["name"],
            dataset_name=f"{s['name']}, {s['dates']}",
            dataset_split=s["split"],
            metric_type="lag_2afc",
            metric_name="two-alternative forced choice",
            metric_value=round(s["lag_2afc"]["distance"]["value"], 3),
        )
        for s in metrics["sources"]
        if s["split"] == "test"
    ]
    data = ModelCardData(
        license=info.license.lower() if known else "other",
        license_name=None if known else info.license or "not-stated",
        library_name="atmoloss",
        tags=["weather", "climate", "perceptual-loss", "representation-learning", "self-supervised"],
        model_name=info.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _row(s: Mapping[str, Any]) -> str:
    scores = s["lag_2afc"]
    own = scores["distance"]
    best, value = best_baseline(scores)
    classes = s.get("classes")
    cells = [
        s["split"],
        s["name"],
        f"{s['grid_spacing']:.3g}°",
        s["n_times"],
        with_interval(own["value"], own["interval"]).replace(f"{own['value']:.3f}", f"**{own['value']:.3f}**", 1),
        *(f"{scores[b]['value']:.3f}" if b in scores else "–" for b in _SHOWN),
        f"{value:.3f} ({best})",
        with_interval(own["value"] - value, scores[best]["gap"], sign=True),
        f"{classes['mae_hours']:.0f} h" if classes else "–",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _scores(metrics: Mapping[str, Any], last: int) -> str:
    """Return what the card says of dates that were held out."""
    scaled = "Validation" if metrics["config"]["validation"] else "Training"
    if not metrics["sources"]:
        return (
            f"None: nothing tells how good this distance is (`atmoloss evaluate` on other dates does). {scaled} dates "
            "served to fit layer scales."
        )
    head = ["split", "source", "grid", "times", "lag 2AFC (95 % over days)", *_SHOWN, "best baseline"]
    head += ["distance minus it", "error of the lag class"]
    rows = "\n".join(_row(s) for s in metrics["sources"])
    return f"""Lag 2AFC (two-alternative forced choice) is how often the earlier of two later fields is nearer to an
anchor field: over all triples of each patch, lags to {last} h, where chance has 0.5. It depends on how long the
held-out blocks are, since short ones hold more of the easy short lags: compare within a row. Intervals are by
bootstrap over blocks of {DEFAULT_BLOCK_DAYS:g} days, where the days make two of them at least.
{scaled} dates served to fit layer scales and the curves of distance against lag; test dates served for nothing but
this table. The last column is how wrong, in the mean, the head is about the lag of two fields.

| {" | ".join(head)} |
|{"---|" * len(head)}
{rows}"""


def _hours(info: WeightsInfo) -> str:
    """Return for which fields a distance can be said in hours, and to which lag."""
    curves = [LagCurve(**values) for values in info.lag_curves]
    if not curves:
        return ""
    rows = "\n".join(
        f"| {c.source} | {c.grid_spacing:g}° | {c.level} | {c.size[0]} × {c.size[1]} | {c.limit:g} h |" for c in curves
    )
    return f"""
`atmodist_hours` says how many hours apart two analyses are that differ as much, by curves of distance against lag:

| data | grid | level | rows × columns | can be told to |
|---|---|---|---|---|
{rows}
"""


def _figures(folder: Path) -> str:
    links = [f"![{alt}](figures/{n}.png)" for n, alt in FIGURES.items() if (folder / "figures" / f"{n}.png").is_file()]
    return "\n".join(" ".join(links[i : i + 2]) for i in range(0, len(links), 2))


def _commands(metrics: Mapping[str, Any]) -> str:
    """Return how to train the same weights: one line of commands, and what it needs."""
    start, commands = metrics["config"]["initial_weights"], metrics["commands"]
    needs = ["With the files named above in the folder of `metrics.json` (which holds the whole configuration)"]
    if not any("metrics.json" in command for command in commands):
        needs = ["In a checkout of the repository, with the files named above where its configurations say"]
    elif start:
        needs.append(f"and the weights that the training starts from as `{start}`")
    return f"{', '.join(needs)}:\n\n    {' && '.join(commands)}"


def write_card(folder: Path, info: WeightsInfo, metrics: dict[str, Any]) -> None:
    """Write ``README.md``, a Hugging Face model card; :func:`write_figures` comes first."""
    encoder, commit = Encoder(**info.encoder), metrics["origin"]["git_commit"]
    last = info.n_lag_classes * info.base_step_hours
    text = _TEMPLATE.read_text(encoding="utf-8").format(
        info=info,
        header=metadata(info, metrics),
        origin=metrics["origin"],
        channels=", ".join(f"{c['name']} ({c['units'] or 'the data name no units'})" for c in info.channels),
        n_channels=len(info.channels),
        grids=", ".join(f"{g:.3g}°" for g in info.grid_spacings),
        levels=f" at {', '.join(info.levels)}" if info.levels else "",
        patches=" and ".join(f"{n} × {n}" for n in info.patch_sizes),
        last=last,
        receptive_fields=", ".join(f"{stage} {cells}" for stage, cells in encoder.receptive_fields.items()),
        smallest=max(encoder.smallest_input(stage) for stage in encoder.strides),
        cost=f"{max(encoder.flops(256, 256).values()) / 256**2 / 1e6:.3f}",
        layers=", ".join(f"{n} × {w:.3g}" for n, w in info.layers.items()),
        hours=_hours(info),
        steps=" + ".join(f"{n:,}" for n in metrics["steps"]),
        scores=_scores(metrics, last),
        figures=_figures(folder),
        sources="\n".join(_data_line(s) for s in metrics["training"]),
        validation=", ".join(metrics["config"]["validation"]) or "none",
        test=", ".join(metrics["config"]["test"]) or "none",
        license=info.license or "not stated",
        commands=_commands(metrics),
        commit=f" (commit {commit[:12]}{' with changes' if commit.endswith('+') else ''})" if commit else "",
        unseen="" if LOW_PASS in info.layers else "The mean over a patch is weak in the features.",
    )
    lines = (line.rstrip() for line in text.splitlines())
    write_atomically(folder / "README.md", ("\n".join(lines) + "\n").encode())
