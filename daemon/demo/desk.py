"""A customer-service desk as tools: what the bundled model was trained to use.

As a tool module (`tools.modules = ["daemon.demo.desk"]`) it keeps its database in the state directory.

The results' keys and their order are part of that training. Failures are short English sentences.
"""

import re
import sqlite3
from collections.abc import Callable
from typing import Any, Literal

from daemon.demo.database import Database
from daemon.settings import state_folder
from daemon.tools.context import ToolContext
from daemon.tools.errors import ToolError
from daemon.tools.registry import register_tool

Result = dict[str, Any]
_WORD = re.compile(r"[a-z0-9-]{3,}|[一-鿿]")


# The descriptions, which the model was trained on, are English and short.
KEYWORDS = {
    "query_user_data": (
        "who is the customer, profile, account, membership tier, email address, contacts, U1024, usr_8",
        "客户 用户 账户 账号 会员 资料 档案 信息 等级 邮箱 联系方式",
    ),
    "order_status": (
        "where is my order, parcel, package, shipment, delivery, tracking, carrier, arrive, A1001, ORD-7",
        "订单 包裹 快递 物流 发货 送货 到货 配送 运输 状态 进度 到哪了",
    ),
    "refund_order": (
        "money back, return, reimburse, repay, give back the amount paid for an order, A1001, ORD-7",
        "退款 退钱 退货 退回 返还 金额 赔付",
    ),
    "create_ticket": (
        "report a problem, complaint, issue, broken, file, raise, escalate, high or low priority, U1024",
        "工单 开工单 新建 提交 创建 登记 报修 投诉 问题 故障 优先级 紧急",
    ),
    "cancel_ticket": (
        "withdraw, revoke, drop or close a ticket, T501, TCK-12",
        "工单 取消 撤销 撤回 关闭 作废",
    ),
    "search_knowledge": (
        "how do I, how to, instructions, guide, FAQ, policy, documentation, manual, find out",
        "怎么 如何 怎样 教程 帮助 文档 文章 说明 规则 政策 流程 知识库 搜索 查找",
    ),
    "assess_risk": (
        "fraud, suspicious, safe, risky transaction, check a charge, U1024",
        "风险 评估 风控 欺诈 可疑 安全 付款 支付 交易",
    ),
    "service_status": (
        "outage, down, online, offline, running, available, incident, health of a system",
        "服务 系统 正常 运行 可用 宕机 挂了 故障 中断 状态 在线",
    ),
}


def declare(desk: "Desk") -> None:
    """Registers the eight tools."""

    def look(name: str, description: str, function: Callable[..., Result]) -> None:
        declared(function, name=name, description=description, read_only=True, retries=1)

    def act(name: str, description: str, function: Callable[..., Result], **more: Any) -> None:
        # Each of them recognizes a repeated call, see the methods.
        declared(function, name=name, description=description, idempotent=True, **more)

    def declared(function: Callable[..., Result], *, name: str, **more: Any) -> None:
        register_tool(function, name=name, timeout=5.0, keywords=KEYWORDS[name], **more)

    look("query_user_data", "Look up a customer by user id.", desk.query_user_data)
    look("order_status", "Tell the status of an order.", desk.order_status)
    act("refund_order", "Refund an amount of an order.", desk.refund_order)
    act(
        "create_ticket",
        "Open a support ticket for a customer.",
        desk.create_ticket,
        compensate=lambda arguments, result: desk.cancel_ticket(result["ticket_id"]),
    )
    act("cancel_ticket", "Cancel a support ticket.", desk.cancel_ticket)
    look("search_knowledge", "Search the help articles.", desk.search_knowledge)
    look("assess_risk", "Assess the risk of a payment of a customer.", desk.assess_risk)
    look("service_status", "Tell whether a service is up.", desk.service_status)


class Desk:
    """The tools' functions. All raise ToolError with the sentence for the model."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def query_user_data(self, user_id: str) -> Result:
        with self._database.transaction() as db:
            user = _one(
                db, "SELECT * FROM users WHERE user_id = ?", user_id, missing=f"user {user_id} not found"
            )
            orders = db.execute(
                "SELECT order_id FROM orders WHERE user_id = ? ORDER BY eta", (user["user_id"],)
            )
            return {
                "user_id": user["user_id"],
                "name": user["name"],
                "tier": user["tier"],
                "email": user["email"],
                "orders": [order["order_id"] for order in orders],
            }

    def order_status(self, order_id: str) -> Result:
        with self._database.transaction() as db:
            order = _order(db, order_id)
            return {key: order[key] for key in ("order_id", "status", "carrier", "eta")}

    def refund_order(self, order_id: str, amount: float, context: ToolContext) -> Result:
        """A call with an idempotency key that was seen before gives the refund of that time."""
        with self._database.transaction(write=True) as db:
            order = _order(db, order_id)
            refund = _seen(db, "refunds", context)
            if refund is None:
                earlier = db.execute(
                    "SELECT coalesce(sum(amount), 0) FROM refunds WHERE order_id = ?", (order["order_id"],)
                ).fetchone()[0]
                left = round(order["paid"] - earlier, 2)
                if amount <= 0:
                    raise ToolError("the amount must be more than 0")
                if order["status"] == "cancelled":
                    raise ToolError(f"order {order_id} was cancelled and not charged")
                if round(amount, 2) > left:
                    raise ToolError(f"order {order_id} has only {left:g} left to refund")
                refund = {"refund_id": _next_id(db, "refunds", "refund_id", "R", 5001), "amount": amount}
                db.execute(
                    "INSERT INTO refunds VALUES (?, ?, ?, ?)",
                    (refund["refund_id"], order["order_id"], amount, context.idempotency_key or None),
                )
                if round(amount, 2) == left:
                    db.execute(
                        "UPDATE orders SET status = 'refunded' WHERE order_id = ?", (order["order_id"],)
                    )
            return {
                "order_id": order["order_id"],
                "refund_id": refund["refund_id"],
                "amount": _plain(refund["amount"]),
                "status": "refunded",
            }

    def create_ticket(
        self,
        user_id: str,
        subject: str,
        context: ToolContext,
        priority: Literal["low", "normal", "high"] = "normal",
    ) -> Result:
        """A call with an idempotency key that was seen before gives the ticket of that time."""
        with self._database.transaction(write=True) as db:
            user = _one(
                db, "SELECT * FROM users WHERE user_id = ?", user_id, missing=f"user {user_id} not found"
            )
            ticket = _seen(db, "tickets", context)
            if ticket is None:
                if not subject.strip():
                    raise ToolError("a ticket needs a subject")
                ticket = {
                    "ticket_id": _next_id(db, "tickets", "ticket_id", "T", 1001),
                    "priority": priority,
                    "status": "open",
                }
                db.execute(
                    "INSERT INTO tickets VALUES (?, ?, ?, ?, 'open', ?)",
                    (
                        ticket["ticket_id"],
                        user["user_id"],
                        subject,
                        priority,
                        context.idempotency_key or None,
                    ),
                )
            return {key: ticket[key] for key in ("ticket_id", "priority", "status")}

    def cancel_ticket(self, ticket_id: str) -> Result:
        """Cancelling what is cancelled already changes nothing and is no failure."""
        with self._database.transaction(write=True) as db:
            ticket = _one(
                db,
                "SELECT * FROM tickets WHERE ticket_id = ?",
                ticket_id,
                missing=f"ticket {ticket_id} not found",
            )
            if ticket["status"] == "closed":
                raise ToolError(f"ticket {ticket_id} is already closed")
            db.execute("UPDATE tickets SET status = 'cancelled' WHERE ticket_id = ?", (ticket["ticket_id"],))
            return {"ticket_id": ticket["ticket_id"], "status": "cancelled"}

    def search_knowledge(self, query: str) -> Result:
        """The article that shares the most words (English) or characters (Chinese) with the query."""
        wanted = set(_WORD.findall(query.lower()))
        with self._database.transaction() as db:
            articles = db.execute("SELECT title, text, keywords FROM articles ORDER BY rowid").fetchall()
        best, score = None, 0
        for article in articles:
            known = set(_WORD.findall(f"{article['title']} {article['keywords']}".lower()))
            if (shared := len(wanted & known)) > score:
                best, score = article, shared
        if best is None:
            raise ToolError(f"no article about {query}")
        return {"title": best["title"], "text": best["text"]}

    def assess_risk(self, user_id: str, amount: float) -> Result:
        """More for young accounts, chargebacks and amounts far above what the customer has paid before."""
        with self._database.transaction() as db:
            user = _one(
                db, "SELECT * FROM users WHERE user_id = ?", user_id, missing=f"user {user_id} not found"
            )
            usual = db.execute(
                "SELECT coalesce(avg(paid), 50) FROM orders WHERE user_id = ?", (user["user_id"],)
            ).fetchone()[0]
        if amount <= 0:
            raise ToolError("the amount must be more than 0")
        tier = {"gold": 0.0, "silver": 0.05, "standard": 0.15}[user["tier"]]
        unusual = 0.5 * amount / (amount + 4 * usual)
        score = round(min(1.0, tier + 0.25 * user["chargebacks"] + unusual), 2)
        risk = "low" if score < 0.3 else "medium" if score < 0.6 else "high"
        return {"user_id": user["user_id"], "amount": _plain(amount), "risk": risk, "score": score}

    def service_status(self, service: str) -> Result:
        with self._database.transaction() as db:
            row = _one(
                db,
                "SELECT * FROM services WHERE service = ?",
                service,
                missing=f"service {service} not found",
            )
            return {key: row[key] for key in ("service", "status", "since")}


def _one(db: sqlite3.Connection, query: str, value: str, *, missing: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(query, (value,)).fetchone()
    if row is None:
        raise ToolError(missing)
    return row


def _order(db: sqlite3.Connection, order_id: str) -> sqlite3.Row:
    return _one(
        db, "SELECT * FROM orders WHERE order_id = ?", order_id, missing=f"order {order_id} not found"
    )


def _seen(db: sqlite3.Connection, table: Literal["refunds", "tickets"], context: ToolContext) -> Any:
    if not context.idempotency_key:
        return None
    query = f"SELECT * FROM {table} WHERE idempotency_key = ?"
    return db.execute(query, (context.idempotency_key,)).fetchone()


def _next_id(
    db: sqlite3.Connection, table: Literal["refunds", "tickets"], column: str, prefix: str, first: int
) -> str:
    numbers = [
        int(number)
        for (name,) in db.execute(f"SELECT {column} FROM {table}")
        if (number := name.removeprefix(prefix)).isdecimal()
    ]
    return f"{prefix}{max([first - 1, *numbers]) + 1}"


def _plain(amount: float) -> float | int:
    """5.0 is written 5, as the customer wrote it."""
    return int(amount) if amount == int(amount) else amount


declare(Desk(Database(state_folder() / "desk.sqlite3")))
