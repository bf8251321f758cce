"""From the queue's records to the estimator's history: what each run of a pipeline reserved, and what it used."""
