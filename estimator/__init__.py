"""Resource estimator: skylines of past runs into the needs of the next. Stands alone; it never imports retz."""

__version__ = "0.1.0"
