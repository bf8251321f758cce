"""Logs into skylines: line parsers for formats, and the reader that feeds them."""
