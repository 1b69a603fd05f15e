"""The folder that `hoop run --children` puts into PYTHONPATH. Python imports sitecustomize.py from it."""
