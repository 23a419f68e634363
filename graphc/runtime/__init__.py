"""Floor 7: devices, memory, native calls, the thread pool, the object cache, sessions."""
