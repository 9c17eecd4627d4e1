"""The controller's database in memory: what tests and simulations use in SQLite's place."""

from simulations.memory_store.store import MemoryStore

__all__ = ["MemoryStore"]
