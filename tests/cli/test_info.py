"""``atmoloss info``: what weights are, how good, and what is wrong with them."""

import json
import shutil


def test_info_says_what_the_weights_are(run, folder, info):
    code, out, err = run("info", folder)
    assert (code, err) == (0, "")
    for words in (
        "tiny@", str(folder), "divergence, s-1", "vorticity, s-1", "stage4", "stride 16", "receptive field",
        "MFLOP", "scale 2.5", "stage2 x 0.25, stage4 x 0.75", "mse_weight 0.05", "Apache-2.0", "23 classes of 3 h",
        "no metrics.json",
    ):  # fmt: skip
        assert words in out
    assert max(map(len, out.splitlines())) <= 200


def test_info_shows_the_key_figures(run, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    source = {
        "name": "1° 10 m",
        "split": "test",
        "n_times": 27,
        "lag_2afc": {
            "distance": {"value": 0.912, "interval": [0.9, 0.921]},
            "stage3 alone": {"value": 0.95, "interval": [0.9, 0.96]},
            "MSE of fields": {"value": 0.77, "interval": [0.75, 0.8]},
            "MAE of winds": {"value": 0.84, "interval": [0.8, 0.88]},
        },
        "classes": {"top1": 0.31, "top3": 0.7, "mae_hours": 8.25, "per_lag": []},
    }
    bare = {"name": "bare", "lag_2afc": {"distance": {"value": 0.5, "interval": [0.4, 0.6]}}, "classes": None}
    (copy / "metrics.json").write_text(json.dumps({"weights": "tiny", "sources": [source, bare]}), encoding="utf-8")
    _, out, _ = run("info", copy)
    expected = (
        "1° 10 m (test, 27 times): lag 2AFC 0.912 (0.900–0.921), best baseline 0.840 (MAE of winds); "
        "lag class top-1 0.310, mean error 8.2 h"
    )
    assert expected in out
    assert "bare (?, ? times): lag 2AFC 0.500 (0.400–0.600)" in out
    (copy / "metrics.json").write_text("{")
    code, out, _ = run("info", copy)
    assert code == 0
    assert "cannot be read" in out


def test_info_of_altered_weights(fails, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "altered" in fails("info", copy)


def test_for_which_fields_hours_can_be_said(run):
    code, out, _ = run("info", "winds")
    assert code == 0
    assert "gfs-1deg-850hPa: 1°, 850 hPa, 64x64 points, to 42 h" in out
