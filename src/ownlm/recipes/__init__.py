"""Recipes that come with ownlm: YAML files to run, copy and edit."""
