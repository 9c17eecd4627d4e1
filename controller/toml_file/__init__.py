"""Files that people write, as TOML: strict, and all that is wrong is told at once, by line."""
