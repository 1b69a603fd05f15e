"""What users watch or use themselves: add_reader(), the sock_ methods, and readiness for them."""
