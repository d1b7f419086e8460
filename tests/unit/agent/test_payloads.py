"""Payloads: what the model reads of them, and what is refused."""

import pytest

from daemon.agent.payloads import register_payload, text_of
from daemon.errors import InvalidRequest
from schemas.payload import Payload


def read(type_, data):
    return text_of(Payload(type=type_, data=data))


@pytest.mark.parametrize(
    ("type_", "data", "text"),
    [
        ("text", "as it is\n ", "as it is\n "),
        ("json", {"a": [1, "二"]}, '{"a": [1, "二"]}'),
        ("json", ' {"a":[1,\n2]} ', '{"a": [1, 2]}'),
        ("json", None, "null"),
        ("xml", "<a>\n  <b c='1'>二</b>\n\n</a>\n", "<a>\n<b c='1'>二</b>\n</a>"),
        ("csv", 'a,b\r\n1,"x, ""y"""\r\n\r\n2,', 'a: 1, b: x, "y"\na: 2, b: '),
        ("csv", "a,b\n", ""),
    ],
)
def test_payloads_become_text(type_, data, text):
    assert read(type_, data) == text


@pytest.mark.parametrize(
    ("type_", "data", "why"),
    [
        ("text", 5, "must be a string"),
        ("json", '{"a": ', "json"),
        ("xml", "<a><b></a>", "mismatched tag"),
        ("xml", '<!DOCTYPE a [<!ENTITY e "eeee">]><a>&e;</a>', "document type"),
        ("csv", "a,b\n1", "record 1 has 1 fields, the header 2"),
        ("csv", 'a,b\n"1,2', "csv"),
        ("csv", "", "no header"),
        ("yaml", "", "use one of: text, json, xml, csv"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(type_, data, why):
    with pytest.raises(InvalidRequest, match=why):
        read(type_, data)


@pytest.mark.parametrize(
    "encoding", ["GBK", "gb18030", "UTF-16", "ISO-8859-1", "windows-1252", "no-such-one"]
)
def test_xml_is_read_as_the_text_it_is_whatever_encoding_its_file_had(encoding):
    document = f'<?xml version="1.0" encoding="{encoding}"?><订单 城市="北京">é</订单>'
    assert read("xml", document) == document


def test_a_registered_kind_is_read():
    class Lines:
        name = "test_lines"

        def text(self, data):
            return " | ".join(data)

    register_payload(Lines())
    assert read("test_lines", ["a", "b"]) == "a | b"
