"""What the meters on a cable share."""
