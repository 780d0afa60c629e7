"""Press a model: a method applied to every site of every block."""
