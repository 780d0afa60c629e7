"""What the layers of a model saw, language by language: gathered, kept, blended."""
