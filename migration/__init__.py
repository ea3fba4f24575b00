"""Bounded, restartable copy of Rocket.Chat history from MongoDB into PostgreSQL, and the checks around it.

A source document that cannot be written is kept as a reject with code, reason and raw bytes, never dropped.
"""
