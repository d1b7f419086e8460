"""Values for the slots: ids of any shape, amounts, phrases; a share of them is drawn at random.

A model that only ever sees likely values learns to guess them. Random words and letters in a quarter of
the slots leave copying from the request as the only way to lower the loss.
"""

import re
import string
from collections.abc import Sequence
from random import Random

RANDOM_SHARE = 0.25
_ID_PREFIXES = {
    "user_id": ("U", "u", "u-", "U-", "vip_", "user", "usr_", "C", "cust-", "K", "", "", ""),
    "order_id": ("A", "B", "ORD-", "ord", "O-", "PO", "#", "SO-", "X", "", "", ""),
    "ticket_id": ("T", "T-", "TCK-", "t", "tk", "TKT_", "INC", "#", "", ""),
    "refund_id": ("R", "RF-", "REF", "r", ""),
}
_DETERMINERS = ("a", "a", "the", "the", "my", "our", "his", "her", "their", "an", "some")
DETERMINED = re.compile(rf"\b(?:{'|'.join(_DETERMINERS)}|your|this|that|any) $", re.IGNORECASE)
_ALPHABETS = (string.digits, string.ascii_uppercase + string.digits, string.ascii_lowercase + string.digits)


class Values:
    """Draws slot values; `words` is the lexicon for random phrases, a pair of (spaced, unspaced) words."""

    def __init__(
        self,
        rng: Random,
        words: tuple[Sequence[str], Sequence[str]],
        spaced_language: bool = True,
        random_share: float = RANDOM_SHARE,
    ):
        self.rng, self.spaced, self.unspaced = rng, words[0], words[1]
        self.spaced_language, self.random_share = spaced_language, random_share

    def identifier(self, slot: str) -> str:
        """An id of 2 to 12 letters, digits, `-` and `_`: a usual prefix and a number, or anything."""
        rng = self.rng
        if rng.random() < self.random_share:
            return self._scrambled_id()
        prefix = rng.choice(_ID_PREFIXES[slot]).lstrip("#")
        digits = "".join(rng.choices(string.digits, k=rng.randint(1 if prefix else 3, 6 if prefix else 8)))
        return prefix + digits

    def _scrambled_id(self) -> str:
        rng = self.rng
        if rng.random() < 0.3:
            word = rng.choice(self.spaced)[:8]
            return word + rng.choice(("", "_", "-")) + str(rng.randint(0, 9999))
        alphabet = rng.choice(_ALPHABETS)
        text = "".join(rng.choices(alphabet, k=rng.randint(2, 10)))
        if len(text) > 4 and rng.random() < 0.4:
            cut = rng.randint(1, len(text) - 1)
            text = text[:cut] + rng.choice("-_") + text[cut:]
        return text if any(c.isdigit() for c in text) else text + rng.choice(string.digits)

    def amount(self) -> tuple[str, str]:
        """(as written by the user, as written in JSON): the same digits but for thousands commas."""
        rng = self.rng
        whole = str(
            rng.choice(
                (rng.randint(1, 9), rng.randint(10, 99), rng.randint(100, 999), rng.randint(1000, 99999))
            )
        )
        if rng.random() < 0.2:
            whole = str(rng.randint(1, 20) * rng.choice((5, 10, 50, 100)))
        fraction = ""
        if rng.random() < 0.45:
            fraction = "." + rng.choice(
                (f"{rng.randint(0, 99):02d}", f"{rng.randint(0, 9)}", "99", "50", "5")
            )
        written = whole
        if len(whole) > 3 and rng.random() < 0.35:
            written = f"{int(whole):,}"
        return written + fraction, whole + fraction

    def phrase(self, likely: Sequence[str], longest: int = 6, determined: bool = False) -> str:
        """One of the `likely` phrases, of which there are two or more; or pieces of two of them; or words at
        random.

        An article or possessive before a phrase belongs to it: users rarely leave it out. `determined`: what
        it will stand in has one already.
        """
        phrase = self._phrase(likely, longest)
        bare = determined or not self.spaced_language or longest <= 2 or not phrase.isascii()
        if not bare and self.rng.random() < 0.25:
            return f"{self.rng.choice(_DETERMINERS)} {phrase}"
        return phrase

    def _phrase(self, likely: Sequence[str], longest: int) -> str:
        rng = self.rng
        chance = rng.random()
        if chance < self.random_share:
            return self.random_words(rng.randint(1, longest))
        if chance < self.random_share + 0.15:
            return self._spliced(*rng.sample(likely, 2))
        return rng.choice(likely)

    def word(self, like: str) -> str:
        """A word at random, of the kind of this one: Latin letters or an ideograph."""
        return self.rng.choice(self.spaced if like.isascii() else self.unspaced)

    def random_words(self, count: int) -> str:
        """`count` words (or about twice as many ideographs) from the whole vocabulary."""
        rng = self.rng
        spaced = rng.random() < (0.85 if self.spaced_language else 0.25)
        if not spaced:
            return "".join(rng.choice(self.unspaced) for _ in range(count * 2))
        words = [rng.choice(self.spaced) for _ in range(count)]
        if rng.random() < 0.15:
            words[rng.randrange(count)] = str(rng.randint(0, 9999))
        return " ".join(words)

    def _spliced(self, left: str, right: str) -> str:
        if " " in left and " " in right:
            first, second = left.split(), right.split()
            return " ".join(first[: (len(first) + 1) // 2] + second[len(second) // 2 :])
        return left[: (len(left) + 1) // 2] + right[len(right) // 2 :]
