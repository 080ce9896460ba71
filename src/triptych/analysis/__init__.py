"""Records to statistics: loading, fairness, intervals and tests, the comparison, curves and advice. No torch.

loading     a results folder as plain objects, or one clear error
fairness    what must be equal is equal; what a reader must know is said
statistics  bootstrap over seeds and documents, sign-flip tests, Holm
comparison  results to `records.Comparison`
curves      validation loss against what was spent
advice      the best row within a budget
"""
