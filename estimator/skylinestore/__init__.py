"""Where history and predictions are kept."""
