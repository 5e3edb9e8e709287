"""Where sessions are kept. `base.py` is the contract; `open_store` finds a store by its URL."""
