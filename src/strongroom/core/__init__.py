"""The pure heart of Strongroom: no IO, no clock, no environment, no logging, no waiting.

Everything here is a function of its arguments. Entropy, time, encryption and the value codec are
handed in by `strongroom.manager`, so a test can hold each of them still. Read `lifecycle.py` first.
"""
