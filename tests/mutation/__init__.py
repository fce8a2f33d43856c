"""Mutation testing of the modules that decide: do the fast tests notice when one operator is wrong?"""
