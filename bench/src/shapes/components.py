"""Weakly connected components by networkx: first wallet and size of those with two wallets or more."""
import json
import sys
import time

import networkx

edges, runs = sys.argv[1], int(sys.argv[2])
graph = networkx.DiGraph()
with open(edges, encoding="utf-8") as lines:
    graph.add_edges_from(line.rstrip("\n").split("\t") for line in lines)
milliseconds, found = [], []
for _ in range(runs):
    start = time.perf_counter()
    found = list(networkx.weakly_connected_components(graph))
    milliseconds.append((time.perf_counter() - start) * 1000)
answer = [[min(wallets), len(wallets)] for wallets in found if len(wallets) >= 2]
json.dump({"version": networkx.__version__, "milliseconds": milliseconds, "answer": answer}, sys.stdout)
