"""Whole applications that use Strongroom. Start with `examples.bank`."""
