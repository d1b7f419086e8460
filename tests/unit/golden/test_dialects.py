"""Both dialects are the same model."""

from pathlib import Path

import numpy as np
import pytest

from engines.build import build
from tests.unit.golden.rows import Rows
from tests.unit.golden.test_golden import CASES, GOLDEN


@pytest.mark.parametrize("name", CASES)
def test_equal_logits_at_any_mix_of_rows(name: str, tmp_path: Path):
    build(GOLDEN / name, tmp_path / "engine", dialects=("fused", "standard"))
    rng = np.random.default_rng(1)
    steps = [[1, 9, 3], [6, 1, 1], [1, 1, 1], [4, 2, 5]]
    engines = [Rows(tmp_path / "engine", dialect, 3, 64) for dialect in ("fused", "standard")]
    for counts in steps:
        tokens = [rng.integers(2, 256, count).tolist() for count in counts]
        fused, standard = (engine.step(tokens) for engine in engines)
        for one, other in zip(fused, standard, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
