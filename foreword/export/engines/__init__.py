"""What runs beside another engine; each file is copied into an export and needs nothing of this package."""
