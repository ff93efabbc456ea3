"""What may be wrong with a dataset: each check is a function from a `survey.Survey` to findings."""
