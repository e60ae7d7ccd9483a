"""The catalogue's mistakes planted into attnlib itself, each with the test that kills it.

``python -m tests.planted`` runs attnlib's own tests against each, and stores in ``killers.json`` which die where.
"""
