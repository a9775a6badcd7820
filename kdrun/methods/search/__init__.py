"""Architectures searched for within one run: candidates, supernets, growth and cuts."""
