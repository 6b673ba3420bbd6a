"""The analysis of a study, on scores whose answer is known."""

import csv
import json
import math
import shlex
import zlib
from dataclasses import replace

import numpy as np
import pytest
from pytorch_lightning import seed_everything
from scipy import stats
from stored_runs import CLASSES, write_evaluation, write_run

import zoo
from datamodules import Digits
from zoo.cli.analysis import analysis_of, rank_without_labels
from zoo.errors import ZooError
from zoo.evaluation import evaluate_udr
from zoo.experiments.analysis import Analysis, ScoredRun, analyze
from zoo.experiments.analysis.agreement import LECTURE, SCORES, agreement, draw_settings
from zoo.experiments.analysis.figures import save
from zoo.experiments.analysis.runs import read_csv, to_csv, write_csv
from zoo.experiments.analysis.selection import selected, within_groups
from zoo.experiments.analysis.transfer import grid, transfer
from zoo.experiments.analysis.variance import explained_variance
from zoo.experiments.comparison import find
from zoo.experiments.study import run_study
from zoo.experiments.study_file import read_study

FEW = {"draws": 200}
METHODS = {"beta_vae": "beta", "factor_vae": "gamma", "dip_vae I": "lambda_od"}


def study(number, data=("noisy_dsprites",), strengths=(1, 2, 4), seeds=range(5)) -> list[ScoredRun]:
    """Three methods, each with some strengths and seeds; ``number(data, method, strength, seed)`` gives the numbers."""
    return [
        ScoredRun(method, str(strength), seed, name, option, numbers=number(name, i, strength, seed))
        for name in data
        for i, (method, option) in enumerate(METHODS.items())
        for strength in strengths
        for seed in seeds
    ]


def noise(*key: object) -> float:
    """A number of its own for each key."""
    return np.random.default_rng([zlib.crc32(str(each).encode()) for each in key]).normal()


def records(rows, name, **options):
    return analyze(rows, **FEW, **options).table(name).records


def test_scores_that_agree_perfectly():
    rows = study(lambda _, i, s, seed: {"mig": (x := i + s + 0.1 * seed), "sap": math.exp(x), "modularity": -x})
    found = {(each["a"], each["b"]): each for each in records(rows, "agreement")}
    assert found["mig", "sap"]["rho"] == found["mig", "sap"]["low"] == found["mig", "sap"]["high"] == 1
    assert found["mig", "modularity"]["rho"] == found["modularity", "sap"]["high"] == -1
    table = analyze(rows, **FEW).table("agreement_matrix")
    cells = [row[1:] for row in table.grid[1:]]
    assert cells[0] == ["100 (100)", "-100 (6)", "100 (42)"] and cells[1] == ["-100 (6)", "100 (100)", "-100 (13)"]


def test_agreement_is_spearmans_over_the_models_that_have_both():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3)).round(1)  # with ties
    values[:7, 2] = np.nan
    found = agreement(values, [i // 4 for i in range(40)], draws=50)
    assert found[0][1].value == pytest.approx(stats.spearmanr(values[:, 0], values[:, 1]).statistic)
    assert found[1][2].value == pytest.approx(stats.spearmanr(values[7:, 1], values[7:, 2]).statistic)
    assert (found[0][1].n, found[0][2].n, found[0][2].units) == (40, 33, 9)
    assert found[0][2] == found[2][0] and found[0][0].value == 1


def test_the_lecture_is_the_lecture():
    """As it is printed, and symmetric; a study that ranks as it does is not told apart from it, a reversed one is."""
    assert (LECTURE == LECTURE.T).all() and (np.diag(LECTURE) == 100).all()
    row = dict(zip(SCORES, LECTURE[SCORES.index("dci_disentanglement")], strict=True))
    assert row == {
        "beta_vae_score": 41,
        "factor_vae_score": 52,
        "mig": 76,
        "dci_disentanglement": 100,
        "modularity": -8,
        "sap": 38,
    }
    rng = np.random.default_rng(0)
    gauss = 2 * np.sin(np.pi / 6 * LECTURE / 100)  # the Gaussian with such rank correlations
    scores = rng.multivariate_normal(np.zeros(6), gauss, 120)

    def rows(sign: float) -> list[ScoredRun]:
        number = iter(scores * [1, 1, 1, sign, 1, 1])
        return study(lambda *_: dict(zip(SCORES, next(number), strict=True)), strengths=range(8))

    alike = records(rows(1), "agreement")
    assert len(alike) == 15 and [each["p_holm"] < 0.05 for each in alike] == 15 * [False]
    assert all(abs(each["difference"]) < 0.25 for each in alike)
    against = {(each["a"], each["b"]): each for each in records(rows(-1), "agreement")}
    assert against["mig", "dci_disentanglement"]["p_holm"] < 0.001
    assert against["mig", "dci_disentanglement"]["difference"] < -1.2


def setting_scores(rng, settings, seeds, between=0.6):
    """Two scores of models: their settings correlate by .9, their seeds by .3, and are no normal numbers."""
    u, e = (rng.multivariate_normal([0, 0], [[1, r], [r, 1]], n) for r, n in ((0.9, settings), (0.3, settings * seeds)))
    x = math.sqrt(between) * np.repeat(u, seeds, axis=0) + math.sqrt(1 - between) * e
    return np.stack([np.exp(x[:, 0]), x[:, 1] ** 3], -1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """95 % of 400 studies of 18 settings and 5 seeds; a bootstrap of single models would hold it in 85 %."""
    truth = 6 / math.pi * math.asin((0.6 * 0.9 + 0.4 * 0.3) / 2)
    settings = [i // 5 for i in range(90)]
    rng, held, naive = np.random.default_rng(1), 0, 0
    for i in range(400):
        values = setting_scores(rng, 18, 5)
        found = agreement(values, settings, draws=200, seed=i)[0][1]
        held += found.low <= truth <= found.high
        single = agreement(values, range(90), draws=200, seed=i)[0][1]
        naive += single.low <= truth <= single.high
    assert 0.93 <= held / 400 <= 0.97, held / 400
    assert naive / 400 < 0.9, naive / 400


def test_draws_are_of_whole_settings():
    draws = draw_settings(["a", "a", "b", "c", "c"], 100, 0)
    assert all(list(draw).count(0) == list(draw).count(1) for draw in draws) and len({len(draw) for draw in draws}) > 1
    assert any(list(draw).count(0) != list(draw).count(1) for draw in draw_settings(5 * ["a"], 100, 0)), (
        "models of one setting"
    )


def test_too_few_for_intervals():
    rows = study(
        lambda _, i, s, seed: {"mig": noise(i, s, seed), "sap": noise(i, s, seed, 1)}, strengths=(1,), seeds=range(3)
    )
    (found,) = records(rows, "agreement")
    assert found["rho"] is not None and found["low"] is found["high"] is found["p"] is None
    assert found["reason"] == "no interval: 3 settings, 5 are needed"
    (found,) = records(rows[:2], "agreement")
    assert found["rho"] is None and "three" in found["reason"]
    assert "nan" not in str(analyze(rows[:1], **FEW)).lower()
    assert records([replace(row, seed=None) for row in rows], "transfer")[0]["beats"] is None


def test_the_method_explains_everything():
    rows = study(lambda _, i, s, seed: {"mig": float(i)})
    (found,) = records(rows, "variance")
    assert (found["method"], found["strength"], found["seed"]) == (1, 0, 0)
    assert found["p_method"] < 0.05 and found["p_strength"] == 1
    assert (found["setting_low"], found["setting_high"]) == (1, 1)


def test_the_strength_explains_everything():
    rows = study(lambda _, i, s, seed: {"mig": s + 0.01 * noise(i, s, seed), "sap": s * (1 if i else -1.0)})
    mig, sap = records(rows, "variance")
    assert mig["method"] < 0.01 and mig["strength"] > 0.99 and mig["seed"] < 0.01
    assert mig["p_strength"] < 0.05 < mig["p_method"]
    assert sap["method"] + sap["strength"] == pytest.approx(1)


def test_nothing_explains_anything():
    """R^2 is positive by chance alone, as its formula says; the adjusted one is 0 in the mean, and tests err rarely."""
    rng = np.random.default_rng(0)
    methods, strengths = [i // 15 for i in range(90)], [i // 5 for i in range(90)]
    found = [explained_variance(rng.normal(size=90), methods, strengths, draws=100, seed=i) for i in range(200)]
    assert np.mean([each.setting for each in found]) == pytest.approx(17 / 89, abs=0.01)
    assert np.mean([each.setting_adjusted for each in found]) == pytest.approx(0, abs=0.015)
    assert np.mean([each.method_adjusted for each in found]) == pytest.approx(0, abs=0.015)
    assert all(each.method + each.strength + each.seed == pytest.approx(1) for each in found)
    for p in ("p_method", "p_strength"):
        assert 0.01 <= np.mean([getattr(each, p) <= 0.05 for each in found]) <= 0.09, p


def test_a_strength_that_matters_is_no_method_that_does():
    """Seeds of one setting are no independent witnesses: where settings differ at random, methods don't."""
    rng, wrong = np.random.default_rng(0), 0
    for i in range(100):
        values = np.repeat(rng.normal(size=18), 5) + 0.1 * rng.normal(size=90)
        found = explained_variance(values, [i // 15 for i in range(90)], [i // 5 for i in range(90)], draws=100, seed=i)
        wrong += found.p_method <= 0.05
        assert found.p_strength <= 0.05
    assert wrong <= 10


def test_the_interval_of_a_share():
    """It holds the share between fixed settings in 95 % of studies (94.9 % of 4,000)."""
    rng, held = np.random.default_rng(7), 0
    means = np.repeat(np.linspace(-1.5, 1.5, 18), 5)
    truth = means.var() / (means.var() + 1)
    for i in range(1000):
        found = explained_variance(means + rng.normal(size=90), 90 * [0], [i // 5 for i in range(90)], draws=2, seed=i)
        held += found.setting_low <= truth <= found.setting_high
    assert 0.93 <= held / 1000 <= 0.97, held / 1000


def test_a_missing_score_and_a_constant_one():
    def number(_, i, s, seed):
        some = {} if (i, seed) == (1, 2) else {"mig": noise(i, s, seed)}
        return {**some, "sap": noise(i, s, seed, 1), "modularity": 0.5, "elbo": noise(i, s, seed, 2), "kl": 3.0}

    rows = study(number)
    found = analyze(rows, **FEW)
    pairs = {(each["a"], each["b"]): each for each in found.table("agreement").records}
    assert pairs["mig", "sap"]["models"] == 42 and pairs["mig", "sap"]["low"] is not None
    assert pairs["modularity", "sap"]["rho"] is None
    assert pairs["modularity", "sap"]["reason"] == "a number that is the same in all models"
    shares = {each["score"]: each for each in found.table("variance").records}
    assert shares["mig"]["models"] == 42 and shares["modularity"]["setting"] is None
    assert shares["modularity"]["reason"] == "constant in all models"
    assert [line[1] for line in found.table("settings").grid[1:]] == 9 * ["5"]
    assert sum(" n=4" in line[2] for line in found.table("settings").grid[1:]) == 3
    by = {(each["by"], each["score"]): each for each in found.table("selection").records}
    assert by["kl", "mig"]["rho"] is None and by["elbo", "modularity"]["rho"] is None and by["elbo", "mig"]["models"] == 42
    text = str(found) + found.markdown() + found.csv()
    assert "nan" not in text.lower().replace("finance", "")


def test_runs_that_did_not_finish_count_for_nothing():
    rows = study(lambda _, i, s, seed: {"mig": noise(i, s, seed), "sap": noise(i, s, seed, 1)})
    less = analyze([row for row in rows if (row.strength, row.seed) != ("2", 3)], **FEW)
    failed = [replace(row, state="failed", numbers={}) if (row.strength, row.seed) == ("2", 3) else row for row in rows]
    failed = analyze([*failed, ScoredRun("annealed_vae", "5", 0, "noisy_dsprites", "capacity", "diverged")], **FEW)
    for name in ("settings", "agreement", "variance", "transfer"):
        assert failed.table(name).records == less.table(name).records
    runs = {each["method"]: each for each in failed.table("runs").records}
    assert (runs["beta_vae"]["finished"], runs["beta_vae"]["failed"], runs["annealed_vae"]["diverged"]) == (14, 1, 1)
    assert "beta_vae beta=2 (1)" in str(failed.table("runs"))


def test_selection_by_a_number_that_knows():
    """ELBO is the score: it selects the best model. KL is noise. UDR ranks the seeds of a setting; over methods it lies."""

    def number(_, i, s, seed):
        mig = i + 0.1 * s + 0.01 * seed
        return {"mig": mig, "elbo": 3 * mig, "reconstruction": mig, "kl": noise(i, s, seed), "udr": 0.01 * seed - i}

    found = {each["by"]: each for each in records(study(number), "selection")}
    for kind in ("rho", "within_methods", "within_settings"):
        assert found["elbo"][kind] == pytest.approx(1)
    assert found["elbo"]["beats"] == pytest.approx(17 / 18)  # of 9 models: itself is one half
    assert found["reconstruction"]["beats"] == pytest.approx(1 / 18), "the lowest is selected"
    assert found["kl"]["beats"] is None, "which KL one would take is not known"
    assert found["udr"]["rho"] < -0.8 and found["udr"]["within_settings"] == pytest.approx(1)
    assert found["udr"]["p_within_settings_holm"] < 0.05 and found["kl"]["p_within_settings_holm"] > 0.05
    assert found["udr"]["settings"] == 9 and found["udr"]["methods"] == 3


def test_a_test_within_settings_errs_as_rarely_as_it_says():
    rng, groups = np.random.default_rng(0), [i // 5 for i in range(45)]
    between = np.repeat(np.arange(9), 5)  # which correlates perfectly, and counts for nothing
    p = [
        within_groups(between + 0.1 * rng.normal(size=45), between + 0.1 * rng.normal(size=45), groups, 100, i).p
        for i in range(200)
    ]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_equal_candidates_are_taken_at_random():
    assert selected([1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4], 4 * [0]).mean == pytest.approx(0.5)
    assert selected([1, 2], [0.1, math.nan], [0, 0]) is None


def test_what_transfers():
    """The same strength is best on both data sets by MIG; SAP is the other way round on the second."""

    def number(data, i, s, seed):
        tiny = 1e-3 * noise(i, s, seed, data)
        return {"mig": s + 0.1 * i + tiny, "sap": (s + 0.1 * i if data == "dsprites" else -s - 0.1 * i) + tiny}

    rows = study(number, data=("dsprites", "shapes3d"))
    found = analyze(rows, **FEW)
    tried = {each["tried on"]: each for each in found.table("transfer").records}
    assert tried["same data, same score"]["beats"] == pytest.approx(17 / 18)
    assert tried["other data, same score"]["beats"] == pytest.approx((17 / 18 + 1 / 18) / 2)
    best = {(each["method"], each["data"]): each for each in found.table("best").records}
    assert [best["beta_vae", data]["mig"] for data in ("dsprites", "shapes3d")] == ["4", "4"]
    assert [best["beta_vae", data]["sap"] for data in ("dsprites", "shapes3d")] == ["4", "1"]
    assert best["beta_vae", "dsprites"]["mig_lost"] == 0
    assert best["beta_vae", "dsprites"]["sap_lost"] == pytest.approx((4 - 1) / (4 - 7 / 3), abs=0.01)
    assert "in 3 of 6 pairs" in str(found.table("best"))
    assert {table.data for table in found.tables if table.name == "agreement"} == {"dsprites", "shapes3d"}


def test_by_chance_a_selected_setting_wins_half_of_the_time():
    """And the jackknife's interval holds that in about 95 of 100 studies."""
    rng, held, values = np.random.default_rng(0), 0, []
    for _ in range(200):
        scores = {
            ("a", str(i)): grid({(str(s), seed): rng.normal() for s in range(9) for seed in range(6)}) for i in range(2)
        }
        found = transfer(scores)[0]
        held += found.low <= 0.5 <= found.high
        values.append(found.value)
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)
    assert 0.91 <= held / 200 <= 0.99


def test_one_data_set_and_one_strength_have_reasons():
    found = analyze(study(lambda _, i, s, seed: {"mig": noise(i, s, seed)}, strengths=(1,)), **FEW)
    told = {each["tried on"]: each["reason"] for each in found.table("transfer").records}
    assert told == {"same data, same score": "", "same data, other score": "one score",
                    "other data, same score": "one data set", "other data, other score": "one data set"}  # fmt: skip
    assert found.table("best").grid == [] and "no method has two strengths" in str(found.table("best"))
    assert found.table("agreement").grid == [] and "no run has one of" in str(found.table("selection"))


def test_rows_are_kept_as_csv(tmp_path):
    rows = study(lambda _, i, s, seed: {"mig": noise(i, s, seed), "elbo": -80.5})
    rows[3] = replace(rows[3], state="failed", numbers={}, facts={"seconds": "12.5", "command": "python -m zoo.fit, 'a'"})
    path = analyze(rows, **FEW).save_rows(tmp_path / "deep" / "study.csv")
    again, notes = read_csv(path)
    assert notes == [] and again == sorted(rows, key=ScoredRun.place)
    assert to_csv(again) == path.read_text() == analyze([path], **FEW).csv()
    assert analyze([path], filter=["model=dip_vae"], **FEW).table("runs").grid[1][0] == "dip_vae I"
    assert len(analyze([path], filter=["beta=2"], **FEW).rows) == 5
    (tmp_path / "odd.csv").write_text("method,seed,mig\nva\x1b[2Je,0,1\n")
    assert read_csv(tmp_path / "odd.csv")[0][0].method == "va\N{REPLACEMENT CHARACTER}[2Je", "a terminal is safe"
    (tmp_path / "bare.csv").write_text("seed,method,mig,sap\n0,vae,0.1,\n1,vae,nan,0.3\n1,vae,0.2,0.4\n")
    rows, notes = read_csv(tmp_path / "bare.csv")
    assert [dict(row.numbers) for row in rows] == [{"mig": 0.1}, {"mig": 0.2, "sap": 0.4}]
    assert notes == ["vae: 1 runs of a seed that was run again, which count for nothing"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column method or seed"),
        ("method,mig\nvae,1\n", "no column seed"),
        ("method,seed,mig\nvae,0,high\n", "line 2: could not convert"),
        ("method,seed,mig\nvae,0,1,2\n", "line 2: not as many values"),
        ("method,seed,mig\nvae,0\n", "line 2: not as many values"),
        ("method,seed,state\nvae,0,done\n", "line 2: state done: finished, unfinished, failed, diverged"),
        ("method,seed\nvae,0.5\n", "line 2: invalid literal"),
        ("method,seed,mig\n", "no run is left"),
        ("method,seed,nll\nvae,0,80\n", "no finished run has one of the scores"),
        ("method,seed,mig\n\"vae,0,1", "is no table of runs"),
    ],
)  # fmt: skip
def test_tables_that_are_none(tmp_path, text, message):
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(ZooError, match=message) as error:
        analyze([tmp_path / "rows.csv"])
    assert len(str(error.value).splitlines()) <= 2
    for name in ("missing.csv", "."):
        with pytest.raises(ZooError):
            read_csv(tmp_path / name)


def test_names_that_there_are_not():
    rows = study(lambda _, i, s, seed: {"mig": noise(i, s, seed), "irs": 0.2})
    with pytest.raises(ZooError, match=r"--metrics mag: no finished run has it. Did you mean mig"):
        analyze(rows, scores=["mag"])
    found = analyze(rows, scores=["test/irs", "m*"], **FEW)
    assert found.scores == ["irs", "mig"]
    with pytest.raises(ZooError, match="no table varianz"):
        found.table("varianz")
    with pytest.raises(ZooError, match="no table variance on mnist"):
        found.table("variance", "mnist")
    with pytest.raises(ZooError, match="no run is left of 45 with --filter seed=77"):
        analyze(rows, filter=["seed=77"])
    with pytest.raises(ZooError, match="NAME=VALUE"):
        analyze(rows, filter=["seed"])


def scores_of(seed: int) -> dict[str, float]:
    return {f"test/{name}": 0.1 * seed + 0.01 * i for i, name in enumerate(SCORES)} | {"test/elbo": -80.0 - seed}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Run folders of two methods, as zoo.fit and zoo.evaluate leave them."""
    monkeypatch.setitem(CLASSES, "beta_vae", "zoo.models.BetaVAE")
    monkeypatch.setitem(CLASSES, "dip_vae", "zoo.models.DIPVAE")
    for i, (model, options) in enumerate(
        [("beta_vae", {"beta": 1.0}), ("beta_vae", {"beta": 4.0}), ("dip_vae", {"variant": "I", "lambda_od": 5.0}),
         ("dip_vae", {"variant": "II", "lambda_od": 5.0})]
    ):  # fmt: skip
        for seed in range(2):
            write_run(
                tmp_path / "runs" / f"{model}-digits" / f"{2 * i + seed}", model, seed, options, metrics=scores_of(seed)
            )
    return tmp_path / "runs"


def test_run_folders_are_rows(folders):
    write_run(folders / "more/1", "beta_vae", 2, {"beta": 4.0}, state="failed", metrics=scores_of(2))
    write_run(folders / "more/2", "beta_vae", 3, {"beta": 4.0})
    found = analyze([folders], **FEW)
    assert [(row.setting, row.seed, row.state) for row in found.rows] == [
        ("beta_vae beta=1.0", 0, "finished"), ("beta_vae beta=1.0", 1, "finished"),
        ("beta_vae beta=4.0", 0, "finished"), ("beta_vae beta=4.0", 1, "finished"),
        ("beta_vae beta=4.0", 2, "failed"), ("beta_vae beta=4.0", 3, "finished"),
        ("dip_vae I lambda_od=5.0", 0, "finished"), ("dip_vae I lambda_od=5.0", 1, "finished"),
        ("dip_vae II lambda_od=5.0", 0, "finished"), ("dip_vae II lambda_od=5.0", 1, "finished"),
    ]  # fmt: skip
    assert found.rows[3].numbers == {name.removeprefix("test/"): value for name, value in scores_of(1).items()}
    assert found.rows[4].numbers == found.rows[5].numbers == {} and found.rows[0].facts["command"].endswith("--seed 0")
    assert found.notes == ["1 finished runs were not evaluated: python -m zoo.compare RUNS --evaluate"]
    assert found.protocols["mig"]["weights"] == "best" and found.data == ["digits"]


def test_other_options_that_differ_are_other_settings(folders):
    """Also of the data, which then have another name."""
    write_run(folders / "wide/1", "beta_vae", 0, {"beta": 4.0, "hidden": 64}, metrics=scores_of(0))
    write_run(
        folders / "other/1", "dip_vae", 0, {"variant": "I", "lambda_od": 5.0}, metrics=scores_of(0), data="datamodules.Toy"
    )
    found = analyze([folders], **FEW)
    assert {row.setting for row in found.rows if row.method == "beta_vae"} == {
        "beta_vae beta=1.0 hidden=-", "beta_vae beta=4.0 hidden=-", "beta_vae beta=4.0 hidden=64"
    }  # fmt: skip
    assert found.data == ["digits", "toy"]
    for i, lambda_d in enumerate((10.0, 20.0)):
        options = {"variant": "I", "lambda_od": lambda_d / 10, "lambda_d": lambda_d}
        write_run(folders / "pairs" / str(i), "dip_vae", 0, options, metrics=scores_of(0), data="datamodules.DSprites")
    follows = [row.setting for row in analyze([folders], **FEW).rows if row.data == "dsprites"]
    assert follows == ["dip_vae I lambda_od=1.0", "dip_vae I lambda_od=2.0"]
    config = (folders / "wide/1/config.yaml").read_text()
    (folders / "wide/1/config.yaml").write_text(config.replace("seed: null", "seed: null\n    size: 500"))
    assert analyze([folders], **FEW).data == ["digits size=500", "digits size=-", "dsprites", "toy"]


def test_other_protocols_are_never_mixed(folders):
    for path in folders.glob("dip_vae-digits/4/evaluation.json"):
        content = json.loads(path.read_text())
        content["protocol"]["test/mig"] = {"n": 17}
        path.write_text(json.dumps(content))
    found = analyze([folders], **FEW)
    row = found.rows[4]
    assert (row.setting, row.seed) == ("dip_vae I lambda_od=5.0", 0) and "mig" not in row.numbers and "sap" in row.numbers
    assert found.notes == ["1 metrics of 1 runs on digits were measured in another way than in most, and are left out"]
    write_evaluation(folders / "dip_vae-digits/4", scores_of(0), name="evaluation_again")
    assert analyze([folders], **FEW).rows[4].numbers["mig"] == found.rows[0].numbers["mig"], (
        "the way of the others is there too"
    )


def test_udr_is_of_the_checkpoints_of_a_setting(cli, tmp_path, capsys):
    """Of three seeds; a model without partners has none, nor has one without a checkpoint, or without a KL of each code."""
    tiny = ("--data", "digits", "--model.network", "mlp", "--max_steps", 2, "--wandb", "off")
    for beta, seed in ((1, 0), (1, 1), (1, 2), (4, 0)):
        assert cli("fit", "--model", "beta_vae", "--beta", beta, "--seed", seed, *tiny)[0] == 0
    for seed in range(2):
        assert cli("fit", "--model", "flow_posterior_vae", "--seed", seed, *tiny)[0] == 0
    for i in (1, 3):
        assert cli("evaluate", "--ckpt", f"runs/beta_vae-digits/{i}/checkpoints/last.ckpt")[0] == 0
    (tmp_path / "runs/beta_vae-digits/3/checkpoints/last.ckpt").unlink()
    runs = find(["runs"])
    found = rank_without_labels(runs)
    assert sorted(found) == ["runs/beta_vae-digits/1", "runs/beta_vae-digits/2"]
    paths = [f"runs/beta_vae-digits/{i}/checkpoints/{name}.ckpt" for i, name in ((1, "last"), (2, "best"))]
    seed_everything(0)
    alone = evaluate_udr((zoo.load(path) for path in paths), Digits()).scores.tolist()
    assert [found[name]["udr"] for name in sorted(found)] == alone
    assert "flow_posterior_vae on digits: udr needs a KL divergence of each code" in capsys.readouterr().err
    analysis = analysis_of(runs, udr=True, scores=["elbo"])
    assert analysis.unsupervised[-1] == "udr" and "udr" in analysis.csv().partition("\n")[0]
    assert cli("compare", "runs", "--udr")[0] == 2


def test_a_study_ends_with_its_analysis(tmp_path, monkeypatch):
    """With what is known of several models, where the file asks for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(CLASSES, "beta_vae", "zoo.models.BetaVAE")
    text = (
        "fit: {data: digits}\nevaluate: false\nseeds: 2\nblocks: [{fit: {model: beta_vae}, grid: {model.beta: [1, 2, 3]}}]\n"
    )
    for analysis in ("false", "true"):
        (tmp_path / "mine.yaml").write_text(f"{text}analysis: {analysis}\n")
        study = read_study("mine.yaml")
        for run in study.runs if analysis == "false" else ():
            folder, beta = study.out / "runs/beta_vae-digits" / run.name, int(run.setting.rpartition("=")[2])
            write_run(folder, "beta_vae", run.seed, {"beta": beta}, metrics=scores_of(run.seed))
            facts = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps({**facts, "command": shlex.join(["python -m zoo.fit", *run.fit])}))
        run_study(study, lambda runs: {run.name: {"udr": float(i)} for i, run in enumerate(runs)})
        assert (study.out / "analysis").exists() == (analysis == "true")
    rows, _ = read_csv(study.out / "analysis/runs.csv")
    assert sorted(row.numbers["udr"] for row in rows) == [0, 1, 2, 3, 4, 5]


def test_files_and_figures(tmp_path):
    rows = study(lambda _, i, s, seed: {name: noise(i, s, seed, name) for name in (*SCORES[:2], "elbo")})
    found = analyze([*rows, ScoredRun("vae", "", 0, "noisy_dsprites", "", "failed")], **FEW)
    paths = found.write(tmp_path / "a")
    names = [path.name for path in paths]
    assert names[:2] == ["analysis.md", "runs.csv"] and {path.name for path in (tmp_path / "a").iterdir()} == set(names)
    for name in ("agreement", "methods", "strengths", "variance", "selection"):
        assert (tmp_path / "a" / f"{name}.png").stat().st_size > 2000
        svg = (tmp_path / "a" / f"{name}.svg").read_text()
        assert "BetaVAE" in svg and f"]({name}.svg)" in (tmp_path / "a/analysis.md").read_text()
    again = analyze([tmp_path / "a/runs.csv"], **FEW)
    drawn = save({name: each for name, each in again.figures().items() if name in ("methods", "variance")}, tmp_path / "b")
    for path in [*drawn, *again.write(tmp_path / "b", figures=False)]:
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes(), path.name
    with (tmp_path / "a/agreement.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 1 and lines[0]["data"] == "noisy_dsprites" and -1 < float(lines[0]["low"]) < float(lines[0]["high"])
    assert not [path for path in Analysis(rows[:1], **FEW).write(tmp_path / "c", figures=False) if path.suffix == ".png"]


def test_the_command(cli, tmp_path, folders):
    rows = study(lambda _, i, s, seed: {name: noise(i, s, seed, name) for name in (*SCORES[2:], "elbo")})
    path = write_csv(rows, tmp_path / "study.csv")
    status, out, err = cli(
        "compare", path, "--analysis", "--out", "found", "--filter", "model!=beta_vae", "--metrics", "mig,sap"
    )
    assert status == 0, err
    assert "== Agreement of scores, noisy_dsprites" in out and out.splitlines()[-1].startswith("files: found/analysis.md")
    assert (tmp_path / "found/runs.csv").read_text().count("\n") == 31
    status, out, err = cli("compare", folders, "--analysis", "--evaluate")
    assert status == 0 and "dip_vae II" in out, err
    for option in (
        ("--sort", "mig"),
        ("--by", "model.beta"),
        ("--fail-if", "mig > 1"),
        ("--strict",),
        ("--baseline", "vae"),
    ):
        status, _, err = cli("compare", folders, "--analysis", *option)
        assert status == 2 and f"{option[0]} is of a comparison" in err, err
    status, _, err = cli("compare", path)
    assert status == 2 and "no run there" in err
