"""A ClickHouse executable function for risk scores.

It maps Array(Nullable(Float64)) to Nullable(Decimal(4, 1)), in RowBinary with chunk headers. The
tables of the scorecard are prepared once, and the results of a chunk are written at once.
"""
import json
import struct
import sys
from bisect import bisect_left

UNKNOWN = 500
FEATURE = struct.Struct("<d").unpack_from
ANSWER = struct.Struct("<Bi").pack


def tenths(points):
    return round(points * 10)


class Scorecard:
    def __init__(self, document, columns):
        column = {name: number for number, name in enumerate(columns)}
        self.base = tenths(document["base"])
        self.singles, self.pairs = [], []
        for factor in document["factors"]:
            undefined = tenths(factor["undefined"])
            at = [column[name] for name in factor["features"]]
            if len(at) == 1:
                points = [tenths(value) for value in factor["points"]]
                self.singles.append((at[0], factor["cuts"][0], points, undefined))
            else:
                points = [[tenths(value) for value in row] for row in factor["points"]]
                self.pairs.append((at[0], factor["cuts"][0], at[1], factor["cuts"][1], points, undefined))

    def score(self, row):
        total = self.base
        for at, cuts, points, undefined in self.singles:
            value = row[at]
            total += undefined if value is None else points[bisect_left(cuts, value)]
        for first, first_cuts, second, second_cuts, points, undefined in self.pairs:
            one, other = row[first], row[second]
            if one is None or other is None:
                total += undefined
            else:
                total += points[bisect_left(first_cuts, one)][bisect_left(second_cuts, other)]
        return min(max(total, 0), 1000)


class Rows:
    """Rows of a stream, which is read in large pieces."""

    def __init__(self, stream):
        self.read, self.buffer, self.at = stream.read1, b"", 0

    def more(self):
        piece = self.read(1 << 20)
        if not piece:
            raise EOFError("the input ends in the middle of a chunk")
        self.buffer, self.at = self.buffer[self.at :] + piece, 0

    def line(self):
        while (end := self.buffer.find(b"\n", self.at)) < 0:
            if self.at == len(self.buffer) and not (piece := self.read(1 << 20)):
                return None
            elif self.at == len(self.buffer):
                self.buffer, self.at = piece, 0
            else:
                self.more()
        line = self.buffer[self.at : end]
        self.at = end + 1
        return line

    def row(self):
        while True:
            try:
                return self.parse()
            except (IndexError, struct.error):
                self.more()

    def parse(self):
        buffer, at = self.buffer, self.at
        count = shift = 0
        while True:
            byte = buffer[at]
            at += 1
            count |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        row = []
        append = row.append
        for _ in range(count):
            if buffer[at]:
                append(None)
                at += 1
            else:
                append(FEATURE(buffer, at + 1)[0])
                at += 9
        self.at = at
        return row


def main(path, columns):
    with open(path) as file:
        scorecard = Scorecard(json.load(file), columns)
    rows, out = Rows(sys.stdin.buffer), sys.stdout.buffer
    while (header := rows.line()) is not None:
        answers = []
        for _ in range(int(header)):
            row = rows.row()
            answers.append(ANSWER(0, scorecard.score(row) if row else UNKNOWN))
        out.write(b"".join(answers))
        out.flush()


main(sys.argv[1], sys.argv[2].split(","))
