"""none yet"""
BY_NAME = {}
