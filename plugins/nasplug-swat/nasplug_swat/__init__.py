"""Search in the latent space of a network autoencoder."""
