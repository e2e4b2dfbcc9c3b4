"""Gradient boosting with the samples of the scorecard: the same features and folds."""
import csv
import json
import sys

import numpy
import sklearn
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

# The only source of randomness. The order of rows has no effect on either model.
SEED = 0

# scikit-learn's default parameters, and the best ones of a search over rate, depth and number of
# trees.
MODELS = {
    "GradientBoostingClassifier()": lambda: GradientBoostingClassifier(random_state=SEED),
    "GradientBoostingClassifier(n_estimators=300, max_depth=4, subsample=0.7)": lambda: GradientBoostingClassifier(
        n_estimators=300, max_depth=4, subsample=0.7, random_state=SEED
    ),
    "HistGradientBoostingClassifier()": lambda: HistGradientBoostingClassifier(random_state=SEED),
    "HistGradientBoostingClassifier(max_iter=300, learning_rate=0.06)": lambda: HistGradientBoostingClassifier(
        max_iter=300, learning_rate=0.06, random_state=SEED
    ),
}


def read(path):
    with open(path, newline="") as file:
        rows = csv.reader(file)
        next(rows)
        table = [[float(value) if value else numpy.nan for value in row[1:]] for row in rows]
    table = numpy.array(table)
    return table[:, 0].astype(int), table[:, 1] == 1, table[:, 2].astype(int), table[:, 3:]


def main(folder, folds):
    samples = [read(f"{folder}/fold{fold}.csv") for fold in range(folds)]
    illicit, stratum, of_fold, _ = samples[0]
    answer = []
    for name, make in MODELS.items():
        predicted = numpy.zeros(len(illicit))
        for fold, (_, _, _, values) in enumerate(samples):
            if name.startswith("Gradient"):
                # It supports no undefined values. The features are never negative.
                values = numpy.nan_to_num(values, nan=-1.0)
            held_out = of_fold == fold
            model = make().fit(values[~held_out], illicit[~held_out])
            predicted[held_out] = model.predict_proba(values[held_out])[:, 1]
        answer.append(
            {
                "model": name,
                "auc": roc_auc_score(illicit, predicted),
                "stratum_average_precision": average_precision_score(illicit[stratum], predicted[stratum]),
            }
        )
    print(json.dumps({"version": sklearn.__version__, "milliseconds": [], "answer": answer}))


main(sys.argv[1], int(sys.argv[2]))
