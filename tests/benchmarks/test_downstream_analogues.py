"""Analogues: the plan, the scores and the choice on made weather that repeats itself, so that the answers are known."""

import dataclasses
import types

import numpy as np
import pytest
import torch
import xarray as xr

from atmoloss.winds import WindToVorticityDivergence

from .loading import load

LEADS = 4


@pytest.fixture(scope="module")
def analogues():
    """The script, whose modules import one another by their plain names."""
    return load("downstream", "analogues")


@pytest.fixture
def search(analogues):
    return analogues.search


def squared(x):
    return np.square(x[:, None] - x[None, :]).sum(-1)


@pytest.fixture(scope="module")
def weather():
    """Hours (T,) with a gap, red noise (T, D), and which times are known and which are asked for."""
    generator = np.random.default_rng(0)
    hours = 6 * np.r_[0:60, 62:150]
    x = generator.normal(size=(len(hours), 40))
    for t in range(1, len(x)):
        x[t] = 0.8 * x[t - 1] + 0.6 * x[t]
    asked = (hours >= 6 * 90) & (hours < 6 * 110)
    return hours, x, ~asked, asked


def test_a_query_and_what_may_answer_have_a_future_on_their_own_side(search, weather):
    hours, _, known, asked = weather
    plan = search.plan(hours, known, asked)
    of = dict(zip(hours.tolist(), known.tolist(), strict=True))

    def whole(hour, side):
        return all(of.get(hour + lead) is side for lead in (0, 6, 12, 24, 48))

    expected = [h for h in hours if whole(int(h), False)]
    assert hours[plan.query].tolist() == expected
    for query, row in zip(hours[plan.query], plan.allowed, strict=True):
        may = [whole(int(h), True) and 120 <= abs(h - query) <= 60 * 24 for h in hours]
        assert row.tolist() == may
    assert 0 < plan.allowed.sum() < plan.allowed.size
    again = search.plan(hours[plan.used], known[plan.used], asked[plan.used])  # nothing else is needed
    assert again.allowed.tolist() == plan.allowed[:, plan.used].tolist()
    later = [hours[row].tolist() for row in plan.later[plan.query]]
    assert later == [[h + 6, h + 12, h + 24, h + 48] for h in expected]


def test_scores_from_distances_are_those_of_the_fields(search, weather):
    hours, x, known, asked = weather
    plan = search.plan(hours, known, asked)
    other = squared(x[:, :5])
    scored = search.scores(squared(x), {"judge": other}, plan)
    climatology = np.empty((len(plan.query), LEADS))
    for i, query in enumerate(plan.query):
        for k in range(LEADS):
            mean = x[plan.later[plan.allowed[i], k]].mean(0)
            climatology[i, k] = np.linalg.norm(x[plan.later[query, k]] - mean)
    i, k = 3, 2
    may = np.flatnonzero(plan.allowed[i])
    mean, truth = x[plan.later[may, k]].mean(0), x[plan.later[plan.query[i], k]]
    for state, future in ((may[0], x[plan.later[may[0], k]]), (len(x), x[plan.query[i]])):  # the last is persistence
        rmse = np.linalg.norm(future - truth) / climatology[:, k].mean()
        assert scored[search.RMSE][i, state, k] == pytest.approx(rmse)
        a, b = future - mean, truth - mean
        assert scored[search.CORRELATION][i, state, k] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert np.isnan(scored[search.RMSE][i, ~np.append(plan.allowed[i], True)]).all()
    ratio = scored["judge"][i, may[0], k] / scored["judge"][i, may[1], k]
    assert ratio == pytest.approx(
        other[plan.later[plan.query[i], k], plan.later[may[0], k]]
        / other[plan.later[plan.query[i], k], plan.later[may[1], k]]
    )
    random = search.controls(scored)["random state"]
    np.testing.assert_allclose(random["judge"].mean(0), 1)
    # The error of a state that has nothing to do with the truth is about √2 that of climatology.
    np.testing.assert_allclose(random[search.RMSE].mean(0), np.sqrt(2), rtol=0.1)
    np.testing.assert_allclose(random[search.CORRELATION].mean(0), 0, atol=0.1)


def test_components_are_those_of_a_singular_value_decomposition(search, weather):
    _, x, known, _ = weather
    mean = x[known].mean(0)
    _, _, patterns = np.linalg.svd(x[known] - mean, full_matrices=False)
    expected = (x - mean) @ patterns[:6].T
    found = search.principal_components(squared(x), known, 6)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-6, atol=1e-8)


def test_the_nearest_state_that_may_answer_is_chosen_and_no_nearer_one(search, weather):
    hours, x, known, asked = weather
    plan = search.plan(hours, known, asked)
    for share, draws in zip(search.SHARES, search.thinned(plan), strict=True):
        assert not (np.array(draws) & ~plan.allowed).any()
        assert np.mean(draws) == pytest.approx(share * plan.allowed.mean(), rel=0.3)
    distances = search.all_distances(x)
    np.testing.assert_allclose(distances, squared(x), atol=1e-9)
    found = search.choose(distances, plan.query, plan.allowed)
    for chosen, query, may in zip(found, plan.query, plan.allowed, strict=True):
        assert may[chosen]
        assert distances[query, chosen] == distances[query, may].min()
    assert (distances[plan.query].argsort(1)[:, 1] != found).any()  # weather of the day before


def test_distances_of_winds_weigh_areas_and_smoothing_closes_the_circle(analogues):
    generator = np.random.default_rng(1)
    axes = {"time": np.arange(3), "latitude": np.arange(90.0, -91, -10), "longitude": np.arange(0.0, 360, 10)}
    values = generator.normal(size=(2, 3, 19, 36))
    winds = xr.Dataset({name: (tuple(axes), v) for name, v in zip("uv", values, strict=True)}, axes)
    apart = np.square(values[:, 0] - values[:, 2]).sum(0)
    expected = np.average(apart.mean(1), weights=np.cos(np.deg2rad(axes["latitude"])))
    assert analogues.wind_distances(winds)[0, 2] == pytest.approx(expected, rel=1e-5)
    turned = analogues.smoothed(winds.roll(longitude=7), 3.0).roll(longitude=-7)
    xr.testing.assert_allclose(turned, analogues.smoothed(winds, 3.0))
    still = analogues.smoothed(xr.ones_like(winds), 3.0)
    xr.testing.assert_allclose(still, xr.ones_like(winds))


@pytest.fixture(scope="module")
def repeating(analogues):
    """Global winds at 5° whose held-out days repeat known ones, with noise, and which days are held out."""
    generator = np.random.default_rng(2)
    latitude, longitude = np.arange(90.0, -91, -5), np.arange(0.0, 360, 5)
    n = 26 * 4
    waves = generator.normal(size=(n, 2, 6, 2))
    for t in range(1, n):
        waves[t] = 0.9 * waves[t - 1] + 0.44 * waves[t]
    phase = np.deg2rad(longitude)[:, None] * np.arange(1, 7)
    wave = np.stack((np.cos(phase), np.sin(phase)), -1)
    shape = np.cos(np.deg2rad(latitude))[:, None] ** np.arange(1, 7)
    values = 8 * np.einsum("tckp,xkp,yk->tcyx", waves, wave, shape)
    values[12 * 4 : 15 * 4] = values[2 * 4 : 5 * 4]  # validation, of 3 January
    values[18 * 4 : 22 * 4] = values[7 * 4 : 11 * 4]  # test, of 8 January
    values += generator.normal(0, 0.3, values.shape)
    time = np.datetime64("2026-01-01T00", "s") + np.arange(n) * np.timedelta64(6, "h")
    axes = {"time": time.astype("datetime64[ns]"), "latitude": latitude, "longitude": longitude}
    fields = torch.from_numpy(values.astype(np.float32))
    derived = WindToVorticityDivergence(latitude, longitude)(fields).nan_to_num().numpy()
    units = {"u": "m s-1", "v": "m s-1", "divergence": "s-1", "vorticity": "s-1"}

    def dataset(names, arrays):
        return xr.Dataset({n: (tuple(axes), a, {"units": units[n]}) for n, a in zip(names, arrays, strict=True)}, axes)

    winds = dataset("uv", fields.numpy().swapaxes(0, 1))
    both = dataset(("divergence", "vorticity"), derived.swapaxes(0, 1))
    archive = analogues.Archive(winds, both, {s: analogues.smoothed(winds, s) for s in (1, 2)})
    return archive, types.SimpleNamespace(validation=["2026-01-13/2026-01-15"], test=["2026-01-19/2026-01-22"])


def test_weather_that_repeats_itself_is_found_by_all_and_by_none_where_it_may_not_answer(
    analogues, repeating, monkeypatch
):
    archive, config = repeating
    places = list(analogues.regions())
    assert len(places) == 19
    monkeypatch.setattr(analogues, "regions", lambda: iter([places[0], places[3], places[10]]))
    result = analogues.measure(archive, config)
    correlation, rmse = analogues.search.CORRELATION, analogues.search.RMSE
    rows = result["groups"]["boxes"]["rows"]
    for name in ("AtmoDist winds", "AtmoDist default", "MSE of winds", "principal components"):
        assert rows[name][correlation].mean() > 0.95, name
        assert rows[name][rmse].mean() < 0.4, name
        assert rows[name]["same hour"].all(), name
    assert abs(rows["random state"][correlation].mean()) < 0.2
    np.testing.assert_allclose(rows["best of the archive"][rmse], rows["MSE of winds"][rmse])
    assert rows["AtmoDist winds"]["thinned"].mean(0)[0] < rows["AtmoDist winds"][correlation].mean() - 0.2
    text, data, figure = analogues.analogues_page.page("made", result, 1.0)
    assert figure.startswith(b"<?xml")
    assert data["queries"] == len(result["times"]) == 2 * 4
    assert f"| MSE of winds, smoothed, {data['boxes']['settings']['MSE of winds, smoothed']} |" in text
    # Without the days that are repeated nothing is found.
    day = np.arange(len(archive.winds["time"])) // 4
    kept = np.flatnonzero((day < 7) | (day >= 11))
    less = dataclasses.replace(
        archive,
        **{k: getattr(archive, k).isel(time=kept) for k in ("winds", "derived")},
        smoothed={s: w.isel(time=kept) for s, w in archive.smoothed.items()},
    )
    for name, row in analogues.measure(less, config)["groups"]["boxes"]["rows"].items():
        if name.startswith(("AtmoDist", "MSE")):
            assert row[correlation].mean() < 0.6, name
