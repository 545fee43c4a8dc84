"""Pictures: pure functions from DataFrames and arrays to plotly figures. Nothing here knows of the browser."""
