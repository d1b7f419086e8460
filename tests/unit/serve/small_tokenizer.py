"""A tokenizer of at most 256 ids, for the golden checkpoints: ASCII, a few pairs, GLM's specials."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIALS = ["<pad>", "<|endoftext|>", "<|user|>", "<|observation|>", "<|assistant|>"]
MERGES = [
    '{ "',
    '" :',
    '" ,',
    'Ġ "',
    '", Ġ"',
    '" }',
    "u s",
    "e r",
    "us er",
    "i d",
    "a m",
    "o u",
    "n t",
    "l o",
    "lo w",
]


def small_tokenizer():
    """tokenizer.json as text."""
    vocabulary = {token: index for index, token in enumerate(SPECIALS)}
    letters = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    for token in letters + [merge.replace(" ", "") for merge in MERGES]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer.to_str()
