"""What a meter shows against what is true: procedure, figures, profile, and a source corrected by it."""
