"""Makes up a shop: customers.csv, and orders.csv with the orders of each customer.

    python docs/examples/shop/shop.py shop 5000

Customers have a segment that decides on region, age, income, and how much of what they order.
"""

from __future__ import annotations

import csv
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

SEGMENTS = ("budget", "family", "student", "premium")
REGIONS = ("north", "east", "south", "west", "abroad")
KINDS = ("food", "toys", "books", "tech", "garden", "fashion")
CHANNELS = ("app", "web", "shop")
KIND_OF = ((50, 10, 10, 10, 10, 10), (30, 40, 5, 5, 10, 10), (20, 5, 40, 25, 0, 10), (5, 5, 10, 40, 20, 20))
PRICE_OF, RETURNED_OF = (20, 25, 15, 120, 40, 60), (0.01, 0.1, 0.02, 0.12, 0.05, 0.35)
MOST = 8


def make(count: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the rows of both tables."""
    rng = np.random.default_rng(seed)
    customers, orders = [], []
    for number in range(count):
        segment = rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))
        member = bool(rng.random() < (0.2, 0.5, 0.3, 0.8)[segment])
        age = int(np.clip(rng.normal((45, 40, 23, 58)[segment], 8), 18, 90))
        income = round(float(np.clip(rng.lognormal(np.log((25, 45, 12, 90)[segment]), 0.3), 0, 200)), 2)
        customers.append(
            {
                "customer_id": f"C{number:06d}",
                "segment": SEGMENTS[segment],
                "region": REGIONS[(segment + rng.choice(5, p=(0.55, 0.2, 0.1, 0.1, 0.05))) % 5],
                "age": age,
                "income": income,
                "member": str(member).lower(),
            }
        )
        for _ in range(min(rng.poisson((1.5, 3, 1, 5)[segment] + member), MOST)):
            kind = rng.choice(6, p=np.array(KIND_OF[segment]) / 100)
            amount = rng.lognormal(np.log(PRICE_OF[kind] * (0.4 + income / 50)), 0.4)
            by_app = rng.random() < np.clip((65 - age) / 45, 0.05, 0.95)
            orders.append(
                {
                    "customer_id": f"C{number:06d}",
                    "day": date(2025, 1, 1) + timedelta(int(rng.integers(365))),
                    "kind": KINDS[kind],
                    "amount": round(float(min(amount, 500.0)), 2),
                    "channel": CHANNELS[0 if by_app else 1 + int(rng.random() < 0.4)],
                    "returned": str(rng.random() < RETURNED_OF[kind]).lower(),
                }
            )
    return customers, orders


def write(folder: Path, count: int, seed: int = 0) -> None:
    """Writes both tables as CSV; the orders are in no order."""
    folder.mkdir(parents=True, exist_ok=True)
    customers, orders = make(count, seed)
    np.random.default_rng(seed).shuffle(orders)
    for name, rows in (("customers", customers), ("orders", orders)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
