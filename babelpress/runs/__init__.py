"""A recipe done in a folder: what it says, what it will take, and the run itself."""
