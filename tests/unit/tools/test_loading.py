import pytest

from daemon.tools.errors import ToolDeclarationError, ToolModuleError
from daemon.tools.loading import load_tools

TOOL = """
from dataclasses import dataclass
from openautoglm import register_tool

@dataclass
class Place:
    city: str

@register_tool(description="Tell the weather.")
def NAME(place: Place) -> str:
    return place.city
"""


def test_files_declare_tools(tmp_path):
    for name in ("weather", "climate"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tools.py").write_text(TOOL.replace("NAME", name))
    registry = load_tools(str(path) for path in sorted(tmp_path.glob("*/tools.py")))
    assert [tool.name for tool in registry] == ["climate", "weather"]
    assert len(load_tools([str(tmp_path / "weather" / "tools.py")])) == 1


def test_a_name_declared_in_two_files_is_refused(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(TOOL.replace("NAME", "weather"))
    with pytest.raises(ToolDeclarationError, match=r"a\.py:.*b\.py:"):
        load_tools([str(tmp_path / "a.py"), str(tmp_path / "b.py")])


@pytest.mark.parametrize("text", ["def", "1 / 0", "import no_such_module", "raise SystemExit(1)"])
def test_a_broken_file_is_named_with_the_reason(tmp_path, text):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(ToolModuleError, match=r"broken\.py cannot be loaded: \w+"):
        load_tools([str(path)])


@pytest.mark.parametrize("hint", ["set[str]", "Path", "bytes"])
def test_a_tool_that_no_model_could_call_is_named_with_the_remedy(tmp_path, hint):
    path = tmp_path / "odd.py"
    path.write_text(
        "from pathlib import Path\n" + TOOL.replace("NAME", "weather").replace("Place)", f"{hint})")
    )
    with pytest.raises(
        ToolDeclarationError, match=r"'weather' \(.*odd\.py:.*arguments: .*; use simpler types"
    ):
        load_tools([str(path)])


@pytest.mark.parametrize("source", ["no_such_package.tools", "/no/such/file.py"])
def test_a_missing_module_is_named(source):
    with pytest.raises(ToolModuleError, match=source):
        load_tools([source])
