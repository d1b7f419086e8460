"""Text that a checkpoint is calibrated and measured with."""

import json
import shutil

import pytest

from engines.build.checkpoint import Checkpoint
from engines.build.windows import windows
from engines.demo.phrasing import FOLDER

TEXT = "Where is order A1001, and where is B2002? " * 5


@pytest.mark.parametrize(
    "left",
    [
        {"truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}},
        {
            "padding": {
                "strategy": {"Fixed": 2_000},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "x",
            }
        },
    ],
)
def test_passages_are_whole_however_training_left_the_tokenizer(tmp_path, left):
    whole = windows(Checkpoint(FOLDER / "model"), [TEXT], 10_000)
    shutil.copytree(FOLDER / "model", tmp_path / "model")
    path = tmp_path / "model" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | left), "utf-8")
    found = windows(Checkpoint(tmp_path / "model"), [TEXT], 10_000)
    assert [list(window.ids) for window in found] == [list(window.ids) for window in whole]
