"""Training the networks on images: data, recipes and the loop."""
