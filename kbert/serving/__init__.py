"""The client of a served model, and a local server that speaks TF Serving's protocol."""
