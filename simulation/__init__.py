"""Simulated populations: how often honest people are bothered, and how soon thieves are noticed.

    make simulate            a month of 200 honest people, and every kind of thief, at the defaults
    make simulate ARGS="--people 50 --days 7 --json"

Everybody goes through the real flows, on a memory store and a clock that the simulation moves. What
it says is about these people, not about yours: they are made up, and docs/simulation.md says how.
"""
