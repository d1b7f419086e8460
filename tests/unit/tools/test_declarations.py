from pathlib import Path

import pytest

from daemon.tools.declarations import files, parse, sources
from daemon.tools.errors import ToolDeclarationError
from daemon.tools.kinds.credentials import Credentials

FILE = Path("/etc/open-autoglm/tools.d/shop.toml")
GOOD = {"kind": "sql", "description": "d", "database": "sqlite:////x.db", "statement": "SELECT 1"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"statment": "SELECT 1"}, "`tools.t.statment`: unknown key; did you mean `statement`?"),
        ({"kind": "sqll"}, "`tools.t.kind`: no kind 'sqll'; did you mean `sql`?"),
        ({"kind": None}, "`tools.t.kind`: missing; use one of: sql, http, command, mcp."),
        ({"description": None}, "`tools.t.description`: missing; add it."),
        ({"max_rows": 0}, "`tools.t.max_rows`: input should be greater than or equal to 1."),
        ({"arguments": {"a": {"typ": "string"}}},
         "`tools.t.arguments.a.typ`: unknown key; did you mean `type`?"),
        ({"arguments": {"a": {"items": {"typ": "string"}}}},
         "`tools.t.arguments.a.items.typ`: unknown key; did you mean `type`?"),
        ({"arguments": {"a b": {}}}, "'a b' is no name for an argument"),
        ({"arguments": {"a": {"pattern": "("}}}, "arguments.a`: no JSON Schema: '(' is not a 'regex'."),
        ({"arguments": {"a": {"type": "integer", "default": "x"}}}, "the default does not fit"),
        ({"pick": "a["}, "`tools.t.pick`: no JMESPath expression"),
        ({"timeout_seconds": -1}, "`tools.t.timeout_seconds`: input should be greater than 0."),
    ],
)  # fmt: skip
def test_errors_name_file_key_and_remedy(change, complaint):
    table = {key: value for key, value in (GOOD | change).items() if value is not None}
    with pytest.raises(ToolDeclarationError) as raised:
        parse(FILE, "t", table)
    assert str(raised.value).startswith(f"{FILE}: ") and complaint in str(raised.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("[tools.x", "cannot be read"), ("[tool.x]", "did you mean `tools`?"), ("tools = 1", "no table")],
)
def test_a_file_that_cannot_be_read(tmp_path, text, complaint):
    (file := tmp_path / "a.toml").write_text(text)
    with pytest.raises(ToolDeclarationError) as raised:
        list(sources(file, Credentials()))
    assert str(raised.value).startswith(f"{file}: ") and complaint in str(raised.value)
    with pytest.raises(ToolDeclarationError, match="no such file"):
        list(sources(tmp_path / "none.toml", Credentials()))


def test_keywords_are_declared_and_not_shown_to_the_model():
    opened = parse(FILE, "t", GOOD | {"keywords": ["退款", "money back"]}).open("t", "here", Credentials())
    (tool,) = opened.tools
    assert tool.keywords == ("退款", "money back") and "退款" not in str(tool.schema)


def test_folders_are_read_in_order(tmp_path):
    for name in ("b.toml", "a.toml", "c.txt"):
        (tmp_path / name).write_text("")
    assert files(tmp_path) == [tmp_path / "a.toml", tmp_path / "b.toml"]
    assert files(tmp_path / "none") == [] and files(Path("/x.toml")) == [Path("/x.toml")]
