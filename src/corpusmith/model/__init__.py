"""The Transformer on packed tokens: config, layers, heads, conversion to and from the Hugging Face format."""
