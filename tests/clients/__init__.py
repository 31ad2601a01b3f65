"""Real clients, each in an environment of its own, that send what the tests read."""
