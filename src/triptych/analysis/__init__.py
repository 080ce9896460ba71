"""Records to statistics: loading, fairness, intervals and tests, the comparison, curves and advice. No torch.

loading     a results folder as plain objects, or one clear error
fairness    what must be equal is equal; what a reader must know is said
inference   means with two sources of chance, documents and seeds: intervals, p-values
correction  p-values corrected for testing several pairs
power       which difference a design finds, and how often
pairs       scores of rows to paired tests and decisions, wherever the scores come from
verdict     what the tests conclude, in words
comparison  results to `records.Comparison`
curves      validation loss against what was spent
advice      the best row within a budget
"""
