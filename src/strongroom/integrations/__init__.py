"""Frameworks: facts in, edits out, nothing else. What is decided is decided in the core."""
