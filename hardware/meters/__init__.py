"""Base classes, links and clocks of the meters on a cable or over Bluetooth."""
