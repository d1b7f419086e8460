import jsonschema
import pytest

from schemas import export


def test_checked_in_files_are_current():
    assert export.stale() == [], "run: python -m schemas.export"


@pytest.mark.parametrize("name", export.RECORDS)
def test_every_schema_is_valid_2020_12(name):
    jsonschema.Draft202012Validator.check_schema(export.documents()[f"{name}.schema.json"])


def test_schema_and_model_agree_on_a_request():
    schema = export.documents()["request.schema.json"]
    accepted = {"query": "hello", "user_id": "u1"}
    jsonschema.validate(accepted, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**accepted, "querry": "typo"}, schema)


def test_the_schema_accepts_content_in_parts():
    schema = export.documents()["request.schema.json"]
    part = {"type": "text", "text": "hello"}
    jsonschema.validate({"messages": [{"role": "user", "content": [part]}]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            {"messages": [{"role": "user", "content": [part | {"type": "image_url"}]}]}, schema
        )


def test_every_reference_of_the_asyncapi_document_resolves():
    document = export.asyncapi()

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)

    found = list(references(document))
    assert found
    for reference in found:
        if reference.startswith("#/"):
            node = document
            for part in reference[2:].split("/"):
                node = node[part]
        else:
            assert reference.removeprefix("./") in export.documents()
