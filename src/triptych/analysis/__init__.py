"""From records to statistics: fairness, intervals, tests, comparison, curves, advice; no torch."""
