"""farsighted-jax: latent-action vision-language-action models in JAX."""

__version__ = "0.1.0"
