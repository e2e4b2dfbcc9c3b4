#!/usr/bin/env python3
"""Cuts the sample of real Ethereum transactions that ARX ships. The output is the same, byte for byte, every time.

Usage: make_sample.py DATA_DIR [OUT_DIR]

DATA_DIR holds eth_tx_graph/{transactions_slim.csv.gz,nodes.csv.gz,labels_train.csv} and
labels/address_labels.csv.gz. samples/ethereum/README.md names their sources and how the wallets are
chosen. Needs only Python 3.9.
"""

import collections
import csv
import gzip
import io
import pathlib
import sys

TARGET_ROWS = 20_000
# Illicit wallets of this size have a history worth reading, and it is not an export that the
# explorer cut off.
CORE_ROWS = range(20, 801)
CORE_BUDGET = 15_500
# Counterparties of the illicit wallets, mostly victims: few wallets with few transactions each.
COUNTERPARTY_ROWS = range(5, 301)
ZERO_ADDRESS = "0x" + "0" * 40
TRANSACTION_COLUMNS = [
    "hash", "block_number", "from_address", "to_address", "value", "gas_price", "block_timestamp",
    "receipt_gas_used", "receipt_status",
]
LABEL_COLUMNS = ["network", "address", "category", "abuse", "label", "source"]
NO_RECIPIENT = -1


def read_csv(path):
    """Yields the rows of a CSV file, plain or gzip, as dictionaries."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def read_edges(path):
    """Yields (sender, recipient) of every transaction in file order; NO_RECIPIENT for contract creations."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        next(file)
        for line in file:
            fields = line.split(",", 5)
            yield int(fields[3]), int(fields[4]) if fields[4] else NO_RECIPIENT


def write_csv_gz(path, columns, rows):
    """Writes rows as gzip without time and name in its header, so that equal rows give equal bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=9, mtime=0) as file:
        file.write(text.getvalue().encode("utf-8"))


def abuse_of(row):
    """Returns the abuse a label states; the explorer's "Fake_Phishing123" tags state it only in their name."""
    if not row["category"] and not row["abuse"] and row["label"].startswith("Fake_Phishing"):
        return "phishing"
    return row["abuse"]


def components(wallets, neighbours):
    """Yields connected components, each sorted, in the order of their smallest members."""
    seen = set()
    for start in sorted(wallets):
        if start in seen:
            continue
        seen.add(start)
        component, stack = [], [start]
        while stack:
            wallet = stack.pop()
            component.append(wallet)
            for other in neighbours[wallet]:
                if other in wallets and other not in seen:
                    seen.add(other)
                    stack.append(other)
        yield sorted(component)


class Graph:
    """Counts from one pass over the transactions."""

    def __init__(self, edges, illicit, exchanges):
        self.rows = collections.Counter()
        self.cash_outs = collections.Counter()
        self.neighbours = collections.defaultdict(set)
        self.dealt_with_illicit = collections.defaultdict(set)
        for sender, recipient in edges:
            self.rows[sender] += 1
            if recipient in (sender, NO_RECIPIENT):
                continue
            self.rows[recipient] += 1
            if recipient in exchanges:
                self.cash_outs[sender] += 1
            if sender in illicit and recipient in illicit:
                self.neighbours[sender].add(recipient)
                self.neighbours[recipient].add(sender)
            elif sender in illicit:
                self.dealt_with_illicit[recipient].add(sender)
            elif recipient in illicit:
                self.dealt_with_illicit[sender].add(recipient)


def choose_wallets(graph, illicit, exchanges):
    """Returns the wallets whose whole history goes into the sample."""
    core_candidates = {wallet for wallet in illicit if graph.rows[wallet] in CORE_ROWS}
    gangs = [
        (sum(graph.cash_outs[w] for w in gang), sum(graph.rows[w] for w in gang), gang)
        for gang in components(core_candidates, graph.neighbours)
    ]
    # Gangs that cashed out most come first; among those that never did, the largest.
    gangs.sort(key=lambda gang: (-gang[0], -len(gang[2]), gang[2]))
    chosen, budget = set(), CORE_BUDGET
    for _, size, gang in gangs:
        if size <= budget:
            chosen.update(gang)
            budget -= size
    counterparties = [
        wallet for wallet, others in graph.dealt_with_illicit.items()
        if others & chosen and wallet not in exchanges and graph.rows[wallet] in COUNTERPARTY_ROWS
    ]
    counterparties.sort(key=lambda w: (-len(graph.dealt_with_illicit[w] & chosen), -graph.cash_outs[w], w))
    budget += TARGET_ROWS - CORE_BUDGET
    for wallet in counterparties:
        # Rows shared with a chosen wallet are included already, so the sample stays just below its
        # target.
        if graph.rows[wallet] <= budget:
            chosen.add(wallet)
            budget -= graph.rows[wallet]
    return chosen


def main(data, out):
    """Reads DATA_DIR and writes the two files."""
    names = [row["address"] for row in read_csv(data / "eth_tx_graph/nodes.csv.gz")]
    ids = {name: number for number, name in enumerate(names)}
    illicit = {
        ids[row["address"]] for row in read_csv(data / "eth_tx_graph/labels_train.csv")
        if row["is_illicit"] == "1" and row["address"] in ids
    }
    tags = collections.defaultdict(set)
    for row in read_csv(data / "labels/address_labels.csv.gz"):
        number = ids.get(row["address"].lower())
        if row["network"] == "ETH" and number is not None:
            tags[number].add((row["category"], abuse_of(row), row["label"], row["source"]))
    exchanges = {number for number, labels in tags.items() if any("exchange" in label[0].split("|") for label in labels)}

    edges = list(read_edges(data / "eth_tx_graph/transactions_slim.csv.gz"))
    graph = Graph(edges, illicit, exchanges)
    chosen = choose_wallets(graph, illicit, exchanges)

    rows, present = [], set()
    for row in read_csv(data / "eth_tx_graph/transactions_slim.csv.gz"):
        sender, recipient = int(row["from_id"]), int(row["to_id"]) if row["to_id"] else NO_RECIPIENT
        if sender not in chosen and recipient not in chosen:
            continue
        present.update((sender, recipient))
        rows.append((
            "tx:" + row["tx_id"], row["block_number"],
            ZERO_ADDRESS if names[sender] == "genesis" else names[sender],
            "" if recipient == NO_RECIPIENT else names[recipient],
            row["value_wei"], row["gas_price"], row["block_timestamp"], row["gas_used"],
            "0" if row["is_error"] == "1" else "1",
        ))
    present.discard(NO_RECIPIENT)

    labels = []
    for number in sorted(present, key=lambda n: names[n]):
        for category, abuse, label, source in sorted(tags[number]):
            labels.append(("ETH", names[number], category, abuse, label, source))
        if number in illicit and not any(abuse for _, abuse, _, _ in tags[number]):
            labels.append(("ETH", names[number], "", "illicit", "phish/hack", "eltontay/Ethereum-Fraud-Detection"))

    write_csv_gz(out / "transactions.csv.gz", TRANSACTION_COLUMNS, rows)
    write_csv_gz(out / "labels.csv.gz", LABEL_COLUMNS, labels)
    print(
        f"{len(rows)} transactions of {len(present)} wallets, {len(chosen)} with their whole history"
        f" ({len(chosen & illicit)} illicit), {len(present & illicit)} illicit and {len(present & exchanges)} exchange"
        f" wallets in all, {len(labels)} labels"
    )


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else pathlib.Path(__file__).parent / "ethereum"))
