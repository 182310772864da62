"""From a recipe and folders of prepared crops to a bundle."""
