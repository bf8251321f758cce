"""Resource estimator: past runs into the needs of the next. Comes with a later release; it never imports retz."""
