"""What the desk tools answer, made up: JSON objects with the keys of each tool, or an error."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from engines.demo.phrasing import FOLDER, read_lines
from engines.demo.values import Values

# The final sentence repeats these values of a result as they stand.
KEY_VALUES = {
    "query_user_data": ("name", "tier"),
    "order_status": ("order_id", "status", "eta"),
    "refund_order": ("amount", "refund_id"),
    "create_ticket": ("ticket_id",),
    "cancel_ticket": ("ticket_id",),
    "search_knowledge": ("text",),
    "assess_risk": ("risk", "score"),
    "service_status": ("service", "status", "since"),
}
_NAMES = read_lines(FOLDER / "names.txt")
_OBJECTS = {
    "query_user_data": "user",
    "order_status": "order",
    "refund_order": "order",
    "create_ticket": "user",
    "cancel_ticket": "ticket",
    "search_knowledge": "article",
    "assess_risk": "user",
    "service_status": "service",
}
_FAMILY_ZH, _GIVEN_ZH = (
    "王李张刘陈杨黄赵周吴徐孙马朱胡",
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华文玲",
)
_ERRORS = (
    "{what} {id} not found",
    "{what} {id} not found",
    "{what} {id} does not exist",
    "no {what} with id {id}",
    "{what} {id} is already closed",
    "{what} {id} was cancelled and not charged",
    "order {id} has only {number} left to refund",
    "no article about {phrase}",
    "no article about {phrase}",
    "the amount must be more than {number}",
    "{tool} did not answer within {number} s",
    "{tool} was cancelled",
    "OperationalError: database is locked",
    "ValueError: {phrase}",
    "permission denied",
    "{phrase}",
)


class Results:
    """Draws tool results; `sentence` draws the text of a help article."""

    def __init__(self, rng: Random, values: Values, sentence: Callable[[], str]):
        self.rng, self.values, self.sentence = rng, values, sentence

    def draw(self, tool: str, arguments: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """(JSON line as the tool writes it, the same as a dict) for a call that succeeded."""
        result = getattr(self, "_" + tool)(arguments)
        return json.dumps(result, ensure_ascii=False), result

    def error(self, tool: str, arguments: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """The same for a call that failed: `{"error": one sentence}`."""
        phrase = arguments.get("query") or self.values.random_words(self.rng.randint(2, 6))
        sentence = self.rng.choice(_ERRORS).format(
            what=_OBJECTS[tool],
            tool=tool,
            id=next(iter(arguments.values())),
            phrase=phrase,
            number=self.rng.randint(1, 900),
        )
        result = {"error": sentence}
        return json.dumps(result, ensure_ascii=False), result

    def _word(self, *likely: str) -> str:
        """One of the likely words, or, a quarter of the time, any word."""
        if self.rng.random() < self.values.random_share:
            return self.rng.choice(self.values.spaced)
        return self.rng.choice(likely)

    def _number(self, written: str) -> float:
        """The amount as a tool repeats it: typed functions make it a float, others leave an integer."""
        number = float(written)
        return int(number) if number.is_integer() and self.rng.random() < 0.5 else number

    def _date(self) -> str:
        return f"20{self.rng.randint(24, 31)}-{self.rng.randint(1, 12):02d}-{self.rng.randint(1, 28):02d}"

    def _name(self) -> str:
        rng = self.rng
        chance = rng.random()
        if chance < 0.25:
            return " ".join(rng.choice(self.values.spaced).capitalize() for _ in range(2))
        if chance < 0.5:
            return rng.choice(_FAMILY_ZH) + "".join(rng.choices(_GIVEN_ZH, k=rng.randint(1, 2)))
        if chance < 0.6:
            return "".join(rng.choice(self.values.unspaced) for _ in range(rng.randint(2, 4)))
        return f"{rng.choice(_NAMES)} {rng.choice(_NAMES)}"

    def _query_user_data(self, arguments: dict[str, str]) -> dict[str, Any]:
        name = self._name()
        mail = name.lower().replace(" ", ".") if name.isascii() else self.rng.choice(self.values.spaced)
        orders = [self.values.identifier("order_id") for _ in range(self.rng.randint(0, 3))]
        tier = self._word("standard", "silver", "gold")
        return {**arguments, "name": name, "tier": tier, "email": f"{mail}@example.com", "orders": orders}

    def _order_status(self, arguments: dict[str, str]) -> dict[str, Any]:
        status = self._word("processing", "shipped", "delivered", "cancelled", "refunded")
        carrier = self._word("DHL", "UPS", "FedEx", "SF Express", "Hermes", "DPD", "EMS", "ZTO")
        return {**arguments, "status": status, "carrier": carrier, "eta": self._date()}

    def _refund_order(self, arguments: dict[str, str]) -> dict[str, Any]:
        refund = self.values.identifier("refund_id")
        amount = self._number(arguments["amount"])
        return {
            "order_id": arguments["order_id"],
            "refund_id": refund,
            "amount": amount,
            "status": "refunded",
        }

    def _create_ticket(self, arguments: dict[str, str]) -> dict[str, Any]:
        ticket = self.values.identifier("ticket_id")
        return {"ticket_id": ticket, "priority": arguments["priority"], "status": "open"}

    def _cancel_ticket(self, arguments: dict[str, str]) -> dict[str, Any]:
        return {**arguments, "status": "cancelled"}

    def _search_knowledge(self, arguments: dict[str, str]) -> dict[str, Any]:
        rng = self.rng
        title = rng.choice((arguments["query"], self.values.random_words(rng.randint(1, 4))))
        text = self.sentence()
        if rng.random() < 0.25:
            text = self.values.random_words(rng.randint(4, 10)) + rng.choice((".", "。", ""))
        return {"title": title, "text": text}

    def _assess_risk(self, arguments: dict[str, str]) -> dict[str, Any]:
        amount, score = self._number(arguments["amount"]), self.rng.randint(0, 100) / 100
        risk = self._word("low", "medium", "high")
        return {"user_id": arguments["user_id"], "amount": amount, "risk": risk, "score": score}

    def _service_status(self, arguments: dict[str, str]) -> dict[str, Any]:
        since = f"{self.rng.randint(0, 23):02d}:{self.rng.randint(0, 59):02d}"
        return {**arguments, "status": self._word("up", "degraded", "down"), "since": since}
