"""Pages of HTML: one file each, which asks for nothing from anywhere."""
