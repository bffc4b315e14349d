"""Tryage's experiment on five models whose sizes are made up here."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from router_models.evaluation.compare import losses_of
from router_models.evaluation.report import BEST_SINGLE, PROMPT_ORACLE, ROUTER
from router_models.experts import experiment as tryage
from router_models.experts.chooser import describe, question
from router_models.experts.figure import draw_figure, write_table
from router_models.experts.members import Library, Member, read_members, write_members
from router_models.training.dataset import read_routing_data
from router_models.types import DataError


@pytest.fixture(scope="module")
def held_out(expert_library):
    return read_routing_data(expert_library).evaluation()


@pytest.fixture(scope="module")
def library(held_out):
    members = [
        Member(model, tuple(model.split("-")[2:]), 30, 8, 100, 50.0 + 10 * i)
        for i, model in enumerate(held_out.models)
    ]
    everywhere = dict.fromkeys(held_out.prompt_ids, held_out.models[0])
    return Library(tuple(members), (), dict.fromkeys(held_out.prompt_ids, 3.0), everywhere)


@pytest.fixture(scope="module")
def members(library, tmp_path_factory):
    path = tmp_path_factory.mktemp("tryage") / "members.json"
    write_members(path, library)
    return path


@pytest.fixture(scope="module")
def result(expert_library, members):
    return tryage.run_experiment(expert_library, members)


def row(result, policy):
    return next(r for r in result.rows if r.policy == policy)


def test_members_read_back(library, members):
    assert read_members(members) == library


def test_the_router_lies_between_the_best_single_model_and_the_oracle(result):
    best, oracle = row(result, BEST_SINGLE), row(result, PROMPT_ORACLE)
    assert oracle.optimal.value == 1
    assert oracle.gap_closed.value == 1
    router = row(result, ROUTER)
    assert oracle.mean_loss.value <= router.mean_loss.value < best.mean_loss.value
    assert router.optimal.value > row(result, "random").optimal.value
    assert row(result, "random").optimal.value == pytest.approx(1 / 5)


def test_what_was_recorded_is_what_the_rows_say(result, held_out):
    losses = losses_of(held_out)
    assert row(result, tryage.CHOOSER).mean_loss.value == pytest.approx(losses[:, 0].mean())
    assert row(result, tryage.CHOOSER).mean_size_mb == pytest.approx(50.0)
    average = row(result, tryage.AVERAGE)
    assert average.mean_loss.value == pytest.approx(3.0)
    assert np.isnan(average.optimal.value)
    assert average.gap_closed.value < 0


def test_size_falls_and_loss_rises_as_size_gains_weight(result):
    for curve in (result.router_curve, result.oracle_curve):
        sizes = [point.size_mb for point in curve]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[-1] == 50.0
    oracle = [point.loss for point in result.oracle_curve]
    assert oracle == sorted(oracle)
    assert result.router_curve[0].loss == pytest.approx(row(result, ROUTER).mean_loss.value)


def test_table_and_figure_hold_every_row_and_member(result):
    table = write_table(result)
    assert table.count("\n") == len(result.rows) + 2
    assert all(f"| {r.policy} |" in table for r in result.rows)
    figure = ET.fromstring(draw_figure(result))  # noqa: S314 - drawn above
    texts = [element.text for element in figure.iter() if element.tag.endswith("text")]
    assert {"base", "code", "math", "clinical", "patents", "oracle"} <= set(texts)
    circles = [e for e in figure.iter() if e.tag.endswith("circle")]
    assert len(circles) == len(result.members)


def test_the_question_names_every_member_and_is_bounded(library):
    asked = question(library.members, "x" * 10_000)
    assert "A: a general model, 30 layers, 50 MB" in asked
    assert "E: an expert for patents, 30 layers, 90 MB" in asked
    assert len(asked) < 1500
    both = Member("m", ("code", "math"), 18, 4, 30, 70.0)
    assert describe(both) == "an expert for code and math, 18 layers, 70 MB"


def test_files_that_do_not_fit_together_are_refused(expert_library, members, tmp_path):
    document = json.loads(members.read_text())
    for spoil, says in (
        (lambda d: d["members"].pop(), "in one of the two files alone"),
        (lambda d: d["chosen"].popitem(), "has no 'chosen'"),
        (lambda d: d["average_losses"].popitem(), "has no 'average'"),
        (lambda d: d.pop("averaged"), "is no library"),
    ):
        spoilt = json.loads(json.dumps(document))
        spoil(spoilt)
        path = tmp_path / "m.json"
        path.write_text(json.dumps(spoilt))
        with pytest.raises(DataError, match=says):
            tryage.run_experiment(expert_library, path)
