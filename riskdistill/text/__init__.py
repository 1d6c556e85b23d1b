"""The text teacher: transactions in words, read by a fine-tuned language model."""
