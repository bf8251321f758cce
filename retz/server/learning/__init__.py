"""What the queue learns from the jobs that ended: the book of past runs, and the sizes that follow from it."""
