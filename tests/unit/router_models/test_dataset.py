import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router_models.training.dataset import read_prompts, read_routing_data
from router_models.types import DataError


def test_rows_become_matrices_with_nan_for_what_was_not_measured(rows, write):
    data = read_routing_data(write(rows[:-1]))
    assert data.models == ("coder", "lawyer")
    assert data.scores.shape == (40, 2)
    assert np.isnan(data.scores).sum() == 1
    assert np.isnan(data.scores[-1, 1])
    assert data.scores[0].tolist() == [rows[0]["score"], rows[1]["score"]]
    assert data.losses is None
    assert data.completion_tokens[0].tolist() == [40, 200]


def test_the_order_of_rows_does_not_pair_a_score_with_another_model(rows, write):
    first = {(r["prompt_id"], r["model"]): r["score"] for r in rows}
    data = read_routing_data(write(rows[::-1]))
    for prompt_id, scores in zip(data.prompt_ids, data.scores, strict=True):
        assert scores.tolist() == [first[prompt_id, model] for model in data.models]


def test_splits_are_told_apart(rows, write):
    data = read_routing_data(write(rows))
    assert set(data.training().splits) == {"train"}
    assert set(data.evaluation().splits) == {"val"}
    assert not set(data.training().prompt_ids) & set(data.evaluation().prompt_ids)
    assert data.evaluation("train").prompt_ids == data.training().prompt_ids


def test_an_unknown_split_is_named_with_those_there_are(rows, write):
    with pytest.raises(DataError, match=r"no row is 'test'; the file has 'train', 'val'"):
        read_routing_data(write(rows)).evaluation("test")


def test_without_training_rows_there_is_nothing_to_train_on(rows, write):
    data = read_routing_data(write([r | {"split": "val"} for r in rows]))
    with pytest.raises(DataError, match="'split': no row is 'train'"):
        data.training()


def test_without_other_rows_there_is_nothing_to_evaluate_on(rows, write):
    data = read_routing_data(write([r | {"split": "train"} for r in rows]))
    with pytest.raises(DataError, match="every row is 'train'"):
        data.evaluation()


def test_chat_messages_are_read_as_the_human_ask(rows, write):
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]
    for row in rows[:2]:
        row["prompt"] = json.dumps(chat)
    assert read_routing_data(write(rows)).prompts[0] == "why?"


@pytest.mark.parametrize(
    "column",
    [
        "prompt_id",
        "source",
        "task",
        "prompt",
        "model",
        "score",
        "prompt_tokens",
        "completion_tokens",
        "split",
    ],
)
def test_a_missing_column_is_named(rows, write, column):
    for row in rows:
        del row[column]
    with pytest.raises(DataError, match=f"column '{column}' is missing"):
        read_routing_data(write(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 1.5}, r"row 6: column 'score' must lie in \[0, 1\]"),
        ({"score": -0.1}, "row 6: column 'score'"),
        ({"score": float("nan")}, "row 6: column 'score'"),
        ({"score": None}, "row 6: column 'score'"),
        ({"model": None}, "row 6: column 'model' is empty"),
        ({"prompt": None}, "row 6: column 'prompt' is empty"),
        ({"prompt": "x" * 1_000_001}, "row 6: column 'prompt' is longer than 1 MB"),
        ({"prompt": "another"}, "row 7: prompt_id 'code-3' has another 'prompt' than in row 6"),
        ({"split": "test"}, "row 7: prompt_id 'code-3' has another 'split' than in row 6"),
        ({"model": "lawyer"}, "row 7: its prompt_id and model stand already in row 6"),
    ],
)
def test_a_wrong_row_is_named(rows, write, change, message):
    rows[6].update(change)
    with pytest.raises(DataError, match=message):
        read_routing_data(write(rows))


def test_one_model_is_not_enough(rows, write):
    with pytest.raises(DataError, match="holds only 'coder'"):
        read_routing_data(write([r for r in rows if r["model"] == "coder"]))


@pytest.mark.parametrize("loss", [-1.0, float("inf"), None])
def test_a_wrong_loss_is_named(rows, write, loss):
    rows = [r | {"loss": 1.0} for r in rows]
    rows[3]["loss"] = loss
    with pytest.raises(DataError, match="row 3: column 'loss'"):
        read_routing_data(write(rows))


def test_an_empty_loss_column_is_none(rows, write):
    assert read_routing_data(write([r | {"loss": None} for r in rows])).losses is None


def test_text_where_numbers_belong_is_refused(rows, write):
    with pytest.raises(DataError, match="column 'score' must hold numbers"):
        read_routing_data(write([r | {"score": "good"} for r in rows]))


def test_numbers_where_text_belongs_in_a_list_are_refused(rows, write):
    with pytest.raises(DataError, match="column 'prompt' must hold text"):
        read_routing_data(write([r | {"prompt": [1, 2]} for r in rows]))


def test_an_empty_file_and_no_file_are_refused(rows, tmp_path):
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.Table.from_pylist(rows).slice(0, 0), path)
    with pytest.raises(DataError, match="there are no rows"):
        read_routing_data(path)
    with pytest.raises(DataError, match=r"nowhere.parquet: there is no such file"):
        read_routing_data(tmp_path / "nowhere.parquet")
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read_routing_data(path)


def test_a_prompt_may_be_listed_under_two_tasks(rows, write):
    again = [r | {"task": "other", "score": 0.5} for r in rows[:2]]
    data = read_routing_data(write(rows + again))
    assert data.prompt_ids.count("code-0") == 2
    assert data.scores[-1].tolist() == [0.5, 0.5]


def test_a_prompt_that_another_task_evaluates_on_is_withheld_from_training(rows, write):
    leak = [r | {"task": "other", "split": "test"} for r in rows if r["prompt_id"] == "code-1"]
    data = read_routing_data(write(rows + leak))
    assert data.withheld == 1
    assert "code-1" not in data.training().prompt_ids
    assert "code-1" in data.evaluation().prompt_ids


def test_prompts_alone_are_enough_to_predict(rows, write):
    bare = [{"prompt_id": r["prompt_id"], "prompt": r["prompt"]} for r in rows]
    table = read_prompts(write(bare))
    assert len(table.prompt_ids) == 40
    with pytest.raises(DataError, match="column 'prompt' is missing"):
        read_prompts(write([{"prompt_id": "a"}]))
