"""Assets (real data and real weights), corpora and tokenizers."""
