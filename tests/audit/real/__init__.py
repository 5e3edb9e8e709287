"""The audit against real applications that nobody here wrote: `make audit-real`."""
