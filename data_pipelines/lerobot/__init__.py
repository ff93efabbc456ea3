"""LeRobot datasets, v2 (one file an episode) and v3 (many episodes a file), as splits of episodes."""
