"""Comparisons: rows, blocks, tests, what is listed, and the command."""

import csv
import fnmatch
import json
import math

import numpy as np
import pytest
from scipy import stats
from stored_runs import write_evaluation, write_run

from zoo import registry
from zoo.errors import ZooError
from zoo.experiments.comparison import Comparison, find
from zoo.experiments.conditions import met
from zoo.experiments.published import read_published
from zoo.experiments.statistics import holm, paired
from zoo.runs.stored import StoredRun

EXAMPLES = 60


def log_p(seed: int, mean: float) -> np.ndarray:
    """Of examples that are hard or easy for all methods alike."""
    images = np.random.default_rng(0).normal(90, 15, EXAMPLES)
    rng = np.random.default_rng([seed, int(-10 * mean)])
    return -(images + mean + 0.2 * rng.normal() + 0.5 * rng.normal(size=EXAMPLES))


@pytest.fixture
def runs(tmp_path):
    """Three methods of four seeds; the second is better, the third is like it."""
    for i, mean in enumerate((0.0, -1.5, -1.6)):
        for seed in range(4):
            options, lp = {"latent_dim": 8 * 2**i}, log_p(seed, mean)
            write_run(tmp_path / "runs/vae-digits" / f"{4 * i + seed}", "vae", seed, options,
                      metrics={"test/elbo": lp.mean() - 2, "test/loss": 1.0 + seed}, log_p=lp)  # fmt: skip
    return tmp_path / "runs"


def column(comparison, metric, block=0):
    return next(each for each in comparison.blocks[block].columns if each.metric == metric)


def test_seeds_are_one_row_named_by_what_differs(runs):
    comparison = Comparison([runs])
    assert {row.name for row in comparison.rows} == {f"vae latent_dim={n}" for n in (8, 16, 32)}
    assert [[run.seed for run in row.runs] for row in comparison.rows] == 3 * [[0, 1, 2, 3]]
    assert comparison.differences() == {"model.latent_dim": [row.name.partition("=")[2] for row in comparison.rows]}
    assert comparison.incomparable == comparison.problems == comparison.unfinished == comparison.not_evaluated == []


def test_the_best_and_what_is_not_told_apart_from_it(runs):
    nll = column(Comparison([runs]), "test/nll")
    assert nll.reference == min(nll.cells, key=lambda name: nll.cells[name].summary.mean)
    assert {name for name, cell in nll.cells.items() if cell.best} == {"vae latent_dim=16", "vae latent_dim=32"}
    assert column(Comparison([runs]), "test/loss").reference is None, "the terms of a loss are ranked by nobody"
    assert not any(cell.best for cell in column(Comparison([runs]), "test/loss").cells.values())


def test_the_numbers_of_a_cell(runs):
    """By hand: pairs over examples with seeds, the exact permutation test, Welch, Holm over all three pairs."""
    comparison = Comparison([runs])
    nll = column(comparison, "test/nll")
    cell, of = nll.cells["vae latent_dim=8"], nll.cells[nll.reference]
    theirs = [-np.stack([log_p(seed, mean) for seed in range(4)]) for mean in (0.0, -1.5, -1.6)]
    best = theirs[{"vae latent_dim=16": 1, "vae latent_dim=32": 2}[nll.reference]]
    other = theirs[{"vae latent_dim=16": 2, "vae latent_dim=32": 1}[nll.reference]]
    assert cell.values == pytest.approx(theirs[0].mean(1)) and of.values == pytest.approx(best.mean(1))
    assert cell.versus.p == pytest.approx(paired(theirs[0], best).p)
    assert cell.versus.method == f"paired over {EXAMPLES} test examples, seeds (4 and 4) as second level"
    assert cell.welch.p == pytest.approx(stats.ttest_ind(theirs[0].mean(1), best.mean(1), equal_var=False).pvalue)
    assert (cell.p_permutation, cell.p_smallest) == (pytest.approx(2 / 70), pytest.approx(2 / 70))
    assert cell.p_corrected == pytest.approx(holm([paired(theirs[0], best).p, paired(other, best).p], family=3)[0])
    assert cell.needed is None


def test_a_baseline(runs):
    nll = column(Comparison([runs], baseline="*=8"), "test/nll")
    assert nll.reference == "vae latent_dim=8" and nll.cells["vae latent_dim=8"].versus is None
    assert all(nll.cells[f"vae latent_dim={n}"].versus.effect < -1 for n in (16, 32))
    assert {name for name, cell in nll.cells.items() if cell.best} == {"vae latent_dim=16", "vae latent_dim=32"}
    pair = [nll.cells[f"vae latent_dim={n}"] for n in (16, 32)]
    assert [cell.p_corrected for cell in pair] == pytest.approx(holm([cell.versus.p for cell in pair])), "two, not three"
    for name in ("vae", "vae latent_dim=*"):
        with pytest.raises(ZooError, match=r"rows? of that name among vae latent_dim"):
            Comparison([runs], baseline=name)


def test_without_log_p_it_is_welch_and_one_seed_is_no_test(runs):
    for path in runs.rglob("evaluation.npz"):
        path.unlink()
    cell = column(Comparison([runs]), "test/nll").cells["vae latent_dim=8"]
    assert cell.versus.method == "Welch over 4 and 4 seeds"
    nll = column(Comparison([runs], filter=["seed=0"]), "test/nll")
    cell = nll.cells["vae latent_dim=8"]
    assert math.isnan(cell.p_corrected) and cell.summary.method == "no interval: one seed"
    assert not any(each.best for each in nll.cells.values()), "nothing was tested"
    assert "not tested" in Comparison([runs], filter=["seed=0"]).table()


def test_other_protocols_are_other_blocks(runs, tmp_path):
    """Fewer draws, other weights, another split: never ranked together, never averaged."""
    write_run(runs / "other/1", "vae", 0, {"latent_dim": 64}, metrics={"test/nll": 1.0},
              protocol={"test/nll": {"kind": "bound", "draws": 5000, "n": EXAMPLES}})  # fmt: skip
    comparison = Comparison([runs])
    assert [len(block.rows) for block in comparison.blocks] == [3, 1]
    assert comparison.incomparable == ["test/nll (2 ways)"]
    assert column(comparison, "test/nll", 1).reference is None
    write_run(runs / "other/2", "vae", 0, {"latent_dim": 128}, metrics={"test/nll": 1.0}, evaluation={"weights": "last"})
    write_run(runs / "other/3", "vae", 1, {"latent_dim": 128}, metrics={"test/nll": 3.0}, evaluation={"data": "other"})
    comparison = Comparison([runs])
    assert len(comparison.blocks) == 4
    means = [block.columns[0].cells["vae latent_dim=128"].summary.mean for block in comparison.blocks
             if "vae latent_dim=128" in block.columns[0].cells]  # fmt: skip
    assert sorted(means) == [1, 3]


def test_other_protocols_side_by_side(runs, tmp_path, cli):
    """A column for each way in one block, named by what differs; ranked by itself, and never averaged."""
    for seed in range(2):
        how = {"test/nll": {"kind": "exact", "n": EXAMPLES}}
        write_run(runs / f"other/{seed}", "gan", seed, metrics={"test/nll": 80.0 + seed, "test/loss": 0.5}, protocol=how)
    comparison = Comparison([runs], side_by_side=True)
    (block,) = comparison.blocks
    titles = [column.title for column in block.columns]
    assert titles == ["nll (bound)", "nll (exact)", "elbo", "loss"]
    bound, exact = block.columns[:2]
    assert exact.cells["gan"].values == [80.0, 81.0] and bound.cells["gan"].values == []
    assert bound.cells["gan"].reason == "measured in another way"
    assert bound.reference.startswith("vae") and exact.reference is None, "alone in its column"
    assert comparison.incomparable == ["test/nll (2 ways)"]
    assert [len(block.columns) for block in Comparison([runs]).blocks] == [3, 1]
    status, out, err = cli("compare", runs, "--side-by-side", "--metrics", "nll", "--out", tmp_path / "out")
    assert status == 0, err
    assert "nll (bound)" in out and "nll (exact)" in out
    assert "nll (exact)" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "table.md").read_text().count("nll (exact) ↓ |") == 1
    write_run(runs / "other/9", "gan", 9, metrics={"test/nll": 1.0},
              protocol={"test/nll": {"kind": "bound", "draws": 5000, "n": EXAMPLES}})  # fmt: skip
    for path in runs.rglob("evaluation.json"):
        path.write_text(path.read_text().replace(f', "examples_sha256": "{64 * "0"}"', ""))
    (block,) = Comparison([runs], side_by_side=True).blocks
    assert [column.title for column in block.columns][:3] == [
        f"nll (kind {each})" for each in ("bound, draws 100", "exact", "bound, draws 5,000")
    ]


def test_an_evaluation_of_before_protocols_stands_alone(runs):
    path = next(iter(sorted(runs.rglob("evaluation.json"))))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: content[key] for key in ("data", "metrics", "split")}))
    comparison = Comparison([runs])
    assert "measured before protocols were stored" in comparison.table()
    assert len(column(comparison, "test/nll", -1).cells) == 3 or len(comparison.blocks) == 2


def test_nothing_is_dropped_in_silence(runs):
    write_run(runs / "more/1", "vae", 7, {"latent_dim": 8}, state="failed")
    write_run(runs / "more/2", "vae", 8, {"latent_dim": 8}, state="running")
    write_run(runs / "more/3", "vae", 9, {"latent_dim": 8}, state="diverged")
    write_run(runs / "more/4", "vae", 9, {"latent_dim": 8})
    write_run(runs / "z/5", "vae", 0, {"latent_dim": 8}, metrics={"test/nll": 85.0})
    write_run(
        runs / "more/6", "gan", 0, metrics={"test/jsd": 0.1}, evaluation={"missing": {"test/nll": "GAN has no likelihood"}}
    )
    (runs / "more/4/metrics.csv").write_text("step,a\n1,2,3\n")
    comparison = Comparison([runs])
    text = comparison.table()
    for said in (
        f"failed: {runs}/more/1: out of memory",
        f"unfinished: {runs}/more/2",
        f"diverged: {runs}/more/3",
        f"not evaluated: python -m zoo.evaluate --ckpt {runs}/more/4/checkpoints/best.ckpt",
        "are of one configuration and seed: the latter counts",
        "empty: gan, nll: GAN has no likelihood",
        f"damaged: {runs}/more/4/metrics.csv: line 2",
    ):
        assert said in text
    assert len(column(comparison, "test/elbo").cells["vae latent_dim=8"].values) == 3, "0 was run again, without it"


def test_damaged_log_p_is_named_and_the_numbers_stay(runs):
    path = runs / "vae-digits/0/evaluation.npz"
    path.write_bytes(path.read_bytes()[:50])
    comparison = Comparison([runs])
    assert comparison.problems == [f"{path} is damaged: evaluate again."]
    cell = column(comparison, "test/nll").cells["vae latent_dim=8"]
    assert cell.summary.n == 4 and cell.versus.method == "Welch over 4 and 4 seeds"


def test_sample_scores_stand_above_what_they_mean(tmp_path):
    """Real examples, the training set and half of the modes in the model's place: of the features that the metric names."""
    features = {"name": "digits_cnn", "dim": 64, "hash": "abc"}
    how = {"n_real": 250, "n_samples": 250, "features": features}
    for seed in range(2):
        rows = {"real": {"n_samples": 100, "kid": 0.01 * seed}, "training set": {"kid": 0.0}, "odd": 3}
        scores = {"test/kid_digits_cnn": 0.1, "test/mmd_p_digits_cnn": 0.5}
        write_run(tmp_path / "runs" / str(seed), "gan", seed, metrics=scores,
                  protocol={"test/kid_digits_cnn": how}, evaluation={"samples": {"rows": rows}})  # fmt: skip
    comparison = Comparison([tmp_path])
    assert comparison.blocks[0].references == {
        "real": {"test/kid_digits_cnn": pytest.approx(0.005)},
        "training set": {"test/kid_digits_cnn": 0},
    }
    assert "(real)" in comparison.table() and "(training set)" in comparison.report(tmp_path / "x.html").read_text()
    comparison.save(tmp_path / "out")
    assert "| *real* |" in (tmp_path / "out/table.md").read_text()


def test_rows_by_an_option(runs):
    comparison = Comparison([runs], by=["lr"])
    assert [row.name for row in comparison.rows] == ["lr=0.001"]
    assert column(comparison, "test/elbo").cells["lr=0.001"].summary.n == 12
    with pytest.raises(ZooError, match=r"no option latent_dimm in these runs\. Did you mean"):
        Comparison([runs], by=["latent_dimm"])


@pytest.mark.parametrize(
    ("conditions", "number"),
    [
        (["latent_dim=8"], 4),
        (["model.latent_dim!=8"], 8),
        (["latent_dim=8", "seed=1"], 1),
        (["state=fin*"], 12),
        (["model=v*"], 12),
    ],
)
def test_filters(runs, conditions, number):
    assert len(Comparison([runs], filter=conditions).runs) == number


def test_metrics_and_sorting(runs):
    comparison = Comparison([runs], metrics=["elbo", "loss"], sort="loss")
    assert [each.metric for each in comparison.blocks[0].columns] == ["test/elbo", "test/loss"]
    assert Comparison([runs], metrics=["val/*"]).blocks[0].columns[0].metric == "val/elbo"
    ranked = Comparison([runs], sort="nll").blocks[0]
    means = [ranked.columns[0].cells[row.name].summary.mean for row in ranked.rows]
    assert means == sorted(means)
    for options in ({"metrics": ["nlll"]}, {"sort": "nlll"}):
        with pytest.raises(ZooError, match=r"nlll.*Did you mean nll"):
            Comparison([runs], **options)


def test_validation_where_nothing_was_evaluated(tmp_path):
    for seed in range(3):
        write_run(tmp_path / "runs" / str(seed), seed=seed)
    comparison = Comparison([tmp_path])
    assert column(comparison, "val/elbo").cells["vae"].values == [-92, -93, -94]
    assert "split validation" in comparison.table()


def test_runs_are_found_once(runs):
    assert len(find([runs, runs / "vae-digits", f"{runs}/vae-digits/*", runs / "vae-digits/3"])) == 12
    with pytest.raises(ZooError, match="none: no run there"):
        find(["none"])
    with pytest.raises(ZooError, match="no run is left of 12 with --filter model=gan"):
        Comparison([runs], filter=["model=gan"])


def test_the_text_fits_the_width(runs):
    comparison = Comparison([runs])
    for width in (40, 60, 80, 120):
        assert max(map(len, comparison.table(width).splitlines()[:8])) <= width
    assert "more columns" in comparison.table(60) and "(--all)" in comparison.table(60)
    everything = comparison.table(60, everything=True)
    assert "costs, means over seeds" in everything and "1,234" in everything and "model.latent_dim" in everything


def test_files(runs, tmp_path):
    comparison = Comparison([runs])
    paths = comparison.save(tmp_path / "out")
    first = {path.name: path.read_bytes() for path in paths if path.exists()}
    again = {path.name: path.read_bytes() for path in Comparison([runs]).save(tmp_path / "out") if path.exists()}
    assert first == again, "equal input, equal bytes"
    rows = list(csv.DictReader(first["long.csv"].decode().splitlines()))
    assert len(rows) == 9 and {row["metric"] for row in rows} == {"test/nll", "test/elbo", "test/loss"}
    nll = column(comparison, "test/nll").cells["vae latent_dim=8"]
    (row,) = [row for row in rows if (row["metric"], row["row"]) == ("test/nll", "vae latent_dim=8")]
    assert json.loads(row["values"]) == nll.values and float(row["p_holm"]) == nll.p_corrected
    wide = list(csv.DictReader(first["wide.csv"].decode().splitlines()))
    assert len(wide) == 3 and float(wide[0]["nll_mean"]) < float(wide[2]["nll_mean"])
    assert json.loads(first["comparison.json"])["schema"] == 1
    assert "**8" in first["table.md"].decode()
    assert r"\toprule" in first["table.tex"].decode() and r"latent\_dim=8" in first["table.tex"].decode()


def test_hostile_names_are_escaped(tmp_path):
    name = "<script>alert(1)</script> | & % $ # _ { } ~ ^ \\ `x` \x1b[31m *b*"
    for seed in range(2):
        write_run(tmp_path / "runs" / str(seed), seed=seed, options={"note": name}, metrics={"test/elbo": -1.0 * seed})
        write_run(tmp_path / "runs" / f"1{seed}", seed=seed, options={"note": "plain"}, metrics={"test/elbo": -2.0 * seed})
    comparison = Comparison([tmp_path / "runs"])
    paths = {path.name: path for path in comparison.save(tmp_path / "out")}
    assert "\x1b" not in comparison.table() + "".join(path.read_text() for path in paths.values() if path.exists())
    markdown = paths["table.md"].read_text()
    assert r"\<script\>" in markdown and r"\|" in markdown and r"\`x\`" in markdown
    tex = paths["table.tex"].read_text()
    assert r"\& \% \$ \# \_ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{}" in tex


def test_conditions(runs):
    comparison = Comparison([runs], baseline="*=16")
    (line,) = met(comparison, "nll > baseline + ci")
    assert line.startswith("vae latent_dim=8: nll ")
    assert met(comparison, "nll > 1000") == [] and len(met(comparison, "elbo < best * 1.5 - -1/2")) == 0
    assert len(met(comparison, "elbo >= -1e6")) == 2, "the baseline is not compared with itself"
    for wrong in (
        "nll",
        "nll > ",
        "nll > x",
        "nll > __import__('os')",
        "1 > nll",
        "nll > baseline > 3",
        "nll > 1/0",
        "nll > 'a'",
    ):
        with pytest.raises(ZooError, match="--fail-if"):
            met(comparison, wrong)
    with pytest.raises(ZooError, match="no metric fid"):
        met(comparison, "fid > 3")


def test_a_data_frame(runs, monkeypatch):
    comparison = Comparison([runs])
    assert len(comparison.records()) == 9
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ZooError, match="to_dataframe needs pandas: pip install pandas"):
        comparison.to_dataframe()


def test_a_data_frame_of_pandas(runs):
    pytest.importorskip("pandas")
    assert len(Comparison([runs]).to_dataframe()) == 9


def test_published_numbers(tmp_path):
    how = {"kind": "bound", "draws": 200, "n": 10000}
    options = {"latent_dim": 40, "hidden": [400]}
    for seed, nll in enumerate((89.7, 90.0, 89.9)):
        write_run(tmp_path / "runs" / str(seed), "vae", seed, options, metrics={"test/nll": nll}, protocol={"test/nll": how},
                  evaluation={"data": "mnist_binary_static[larochelle]", "levels": 2})  # fmt: skip
    said = {each.name: text for each, text in Comparison([tmp_path]).blocks[0].published}
    assert said["VAE 784-400-40 (published)"].startswith("vae: reproduced")
    assert said["VampPrior VAE (published)"] == "not run"
    for seed in range(3):
        write_evaluation(
            tmp_path / "runs" / str(seed), {"test/nll": 95.0 + seed}, {"test/nll": how}, data="mnist_binary_static[seed0]"
        )
    said = {each.name: text for each, text in Comparison([tmp_path]).blocks[0].published}
    assert said["VAE 784-400-40 (published)"] == "vae: not reproduced, 6.1 worse"
    for seed in range(3):
        write_evaluation(tmp_path / "runs" / str(seed), {"test/nll": 89.0}, {"test/nll": {**how, "draws": 10}},
                         data="mnist_binary_static[seed0]")  # fmt: skip
    said = {each.name: text for each, text in Comparison([tmp_path]).blocks[0].published}
    assert said["VAE 784-400-40 (published)"] == "vae: not comparable, draws 200 there and draws 10 here"
    assert Comparison([tmp_path], published=False).blocks[0].published == []


def test_published_data_are_data_of_the_zoo():
    """Each pattern fits a name that a data set has."""
    names = [*registry.DATA, "mnist_binary_static[larochelle]", "mnist_binary_static[seed0]"]
    for published in read_published():
        for pattern in published.data:
            assert fnmatch.filter(names, pattern), (published.name, pattern)


def test_a_published_network_is_not_another_one(tmp_path):
    """Two layers of 400 units are not one."""
    write_run(tmp_path / "1", "vae", 0, {"latent_dim": 40, "hidden": 400}, metrics={"test/nll": 89.9},
              evaluation={"data": "mnist_binary_static[seed0]", "levels": 2})  # fmt: skip
    said = {each.name: text for each, text in Comparison([tmp_path]).blocks[0].published}
    assert said["VAE 784-400-40 (published)"] == "not run"


def test_runs_that_were_read_already():
    runs = [StoredRun(f"{i}", "vae", "digits", seed=i, state="finished") for i in range(2)]
    assert "no run" not in Comparison(runs).table() and len(Comparison(runs).not_evaluated) == 2
