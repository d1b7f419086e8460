from hypothesis import given
from hypothesis import strategies as st


@given(data=st.data())
def test_any_split_gives_the_text_of_all_tokens(glm4, data):
    ids = data.draw(st.lists(st.integers(0, glm4.vocab_size - 1), max_size=30))
    stream, text, rest = glm4.stream(), "", list(ids)
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        text += stream.push(rest[:count])
        rest = rest[count:]
    assert text + stream.finish() == glm4.decode(ids)


@given(text=st.text(max_size=30))
def test_characters_come_out_whole(glm4, text):
    stream = glm4.stream()
    pieces = [stream.push([index]) for index in glm4.encode(text)]
    assert "".join(pieces) == text
    assert all("�" not in piece for piece in pieces if "�" not in text)
    assert stream.finish() == ""


def test_a_character_cut_off_at_the_end_shows_as_broken(glm4):
    ids = glm4.encode("你")
    assert len(ids) > 1
    stream = glm4.stream()
    assert stream.push(ids[:-1]) == ""
    assert stream.finish() == "�"
