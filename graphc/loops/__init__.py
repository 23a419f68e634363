"""Floor 4: the loop language: how one kernel walks memory."""
