"""Payloads: what the model reads of them, and what is refused."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ("xml", "<a>\n  x\n\n  y\n</a>", "<a>\n  x\n\n  y\n</a>"),
        ("xml", "<a>\n<![CDATA[ <b>\n\n  ]> ]]>\n</a>", "<a>\n<![CDATA[ <b>\n\n  ]> ]]>\n</a>"),
        (
            "xml",
            "<a b='x>\n  y'>\n\t<!-- <\n  > -->\r\n <c/>\n</a>",
            "<a b='x>\n  y'>\n<!-- <\n  > -->\n<c/>\n</a>",
        ),
        ("csv", 'a,b\r\n1,"x, ""y"""\r\n\r\n2,', 'a: 1, b: x, "y"\na: 2, b: '),
        ("csv", 'a,"b\nc"\n"1\r\n\n 2",3', "a: 1 2, b c: 3"),
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


@pytest.mark.parametrize(
    ("type_", "data"),
    [("text", "x"), ("json", '{"a": 1}'), ("xml", "<?xml version='1.0'?>\n<a/>"), ("csv", '"a, b",c\n1,2')],
)
def test_the_mark_at_the_beginning_of_a_file_is_no_part_of_its_text(type_, data):
    assert read(type_, "\ufeff" + data) == read(type_, data)


WORDS = st.text(st.sampled_from(" \n\t\xa0\u2028\x85<>&'\"=/-]!?x"), max_size=8)
ELEMENTS = st.recursive(
    st.builds(lambda text: ("leaf", {}, text, [], ""), WORDS),
    lambda inner: st.tuples(
        st.sampled_from("ab"),
        st.dictionaries(st.sampled_from("kl"), WORDS, max_size=2),
        WORDS,
        st.lists(inner, max_size=3),
        WORDS,
    ),
)


def element(tree):
    name, attributes, text, inner, tail = tree
    made = ElementTree.Element(name, attributes)
    made.text, made.tail = text, tail
    made.extend(map(element, inner))
    return made


def texts(root):
    """Every text and attribute in order; white space between elements as one line end where it has any."""
    for one in root.iter():
        yield one.attrib
        for text in (one.text or "", one.tail or ""):
            blank = "\n" in text and not text.strip(" \t\r\n")
            yield "\n" if blank else text


@given(ELEMENTS)
def test_nothing_of_an_xml_document_is_lost(tree):
    root = ElementTree.Element("root")
    root.append(element(tree))
    read_ = ElementTree.fromstring(read("xml", ElementTree.tostring(root, encoding="unicode")))
    assert list(texts(read_)) == list(texts(root))


def test_a_registered_kind_is_read():
    class Lines:
        name = "test_lines"

        def text(self, data):
            return " | ".join(data)

    register_payload(Lines())
    assert read("test_lines", ["a", "b"]) == "a | b"
