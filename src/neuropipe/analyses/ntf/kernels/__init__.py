"""Pure functions on arrays behind the NTF connectomes."""
