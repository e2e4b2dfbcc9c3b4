"""Simple cycles of two to six wallets by networkx."""
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
    found = list(networkx.simple_cycles(graph, length_bound=6))
    milliseconds.append((time.perf_counter() - start) * 1000)
json.dump({"version": networkx.__version__, "milliseconds": milliseconds, "answer": found}, sys.stdout)
