"""The benchmark of models as one: it runs, and the page has what it measured."""

import argparse
import csv

from conftest import REPOSITORY

from benchmarks.stacked import CASES, COLUMNS, bare, digits, table, trained

RESULTS = REPOSITORY / "results" / "speed" / "stacked.csv"


def test_it_measures_both_ways():
    args = argparse.Namespace(members=2, steps=1, rounds=1, batches=2, device="cpu")
    small = {"network": "mlp", "hidden": 8, "latent_dim": 2}
    assert all(speed > 0 for speed in (*bare(digits, small, args), *trained(digits, small, args)))


def test_the_page_has_the_table():
    assert table(RESULTS) in (REPOSITORY / "docs" / "many_seeds.md").read_text()
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    networks = [options["network"] + (f" {options['hidden']}" if "hidden" in options else "") for _, _, options in CASES]
    assert [(row["data"], row["network"]) for row in rows] == list(zip((case[0] for case in CASES), networks, strict=True))
