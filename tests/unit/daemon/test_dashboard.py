"""systemd/grafana-dashboard.json asks for what the daemon exports, and its panels fit beside one another."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from daemon.ops.metrics import Metrics
from engines.serve.engine import Engine
from schemas.reply import Reply, Timings, ToolReport, Usage
from tests.unit.serve.fake_runtime import FakeRuntime

DASHBOARD = json.loads((Path(__file__).parents[3] / "systemd" / "grafana-dashboard.json").read_text("utf-8"))
PANELS = DASHBOARD["panels"]
BY_PROMETHEUS = {"instance", "le"}


@pytest.fixture(scope="module")
def exported():
    """Names of samples → names of their labels, once everything has happened."""
    metrics = Metrics("host/1")
    report = ToolReport(name="t", arguments={}, result={}, duration_ms=1.0, outcome="ok")
    timings = Timings(total_ms=20.0, first_token_ms=5.0)
    metrics.count(Reply(id="r", status="ok", tools=[report], usage=Usage(), timings=timings, model="main"))
    metrics.count_memory_failure("read")
    metrics.observe([("main", "serving", Engine(FakeRuntime()).stats())], 0)
    return {
        sample.name: set(sample.labels) for family in metrics.registry.collect() for sample in family.samples
    }


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_asks_for_what_there_is(panel, exported):
    for target in panel["targets"]:
        expression = target["expr"]
        selectors = re.findall(r"(autoglm_\w+)\{([^}]*)\}", expression)
        assert selectors
        grouped = {
            name.strip() for found in re.findall(r"by \(([^)]*)\)", expression) for name in found.split(",")
        }
        for name, matchers in selectors:
            labels = exported[name] | BY_PROMETHEUS
            assert set(re.findall(r"(\w+)[!=]", matchers)) <= labels
            assert grouped <= labels
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped


def test_variables_ask_for_what_there_is(exported):
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
            assert label in exported[metric] | BY_PROMETHEUS


def test_panels_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = any(
            first[at] + first[size] <= second[at]
            for at, size in (("x", "w"), ("y", "h"))
            for first, second in ((one, other), (other, one))
        )
        assert apart
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
