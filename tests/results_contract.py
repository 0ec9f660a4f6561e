"""The keys that every results.json has."""

RESULT_KEYS = {
    "dataset",
    "n",
    "accuracy",
    "gap_mean",
    "radius_mean",
    "certified",
    "attacks",
    "checkpoint",
    "hard",
    "config",
    "versions",
    "seconds",
}
