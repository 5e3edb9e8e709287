"""Sinks for events: where what happened is written down."""
