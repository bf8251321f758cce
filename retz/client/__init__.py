"""Clients of the native API."""
