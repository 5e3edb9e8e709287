"""The attacker's desk: classic attacks, played against the running bank with real requests.

Nothing here is acted. Mallory sends requests through the whole application, as a browser would, and
what the page tells is what came back, what the event sinks heard and how often the store was asked.
An attack that ends otherwise than it should is told as such, in red; tests/examples/test_desk.py
plays them all.

`wire.py` sends, `watching.py` listens, `scene.py` writes down, `stage.py` sets up, `plays.py` and
`database.py` are the attacks. It is there with the development policy only.
"""
