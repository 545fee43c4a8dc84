"""KDBoard's engine: methods, trainer, probes, store and figures for comparing BERT distillation methods.

Importing this package is fast: torch and transformers are imported by the modules that use them.
"""

__version__ = "0.1.0"
