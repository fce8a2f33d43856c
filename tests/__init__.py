"""Marked as a package, because gmqtt installs one of the same name that would hide a namespace package."""
