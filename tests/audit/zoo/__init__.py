"""Small vulnerable applications, one fault each; without the fault each is sound."""
