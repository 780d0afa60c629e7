"""The machine under us: files and who holds them, memory, threads, what work costs."""
