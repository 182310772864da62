"""What `faceaudit demo` shows: the main job on inputs that come with the package."""
