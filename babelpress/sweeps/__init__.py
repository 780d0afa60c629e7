"""Many recipes: which jobs they take, where those run, and what came of them."""
