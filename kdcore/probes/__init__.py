"""What is measured of trained models; each file one probe of public functions, none knows the store."""
