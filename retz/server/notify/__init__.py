"""News of jobs for the world outside: users' webhooks (``--on-end``) and the operator's command."""
