"""Models of transformers: open and save them, walk their blocks, find and change their linears."""
